"""What runs, of everybody: listed for admins without a word of what was said, and stopped by them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.telemetry import logs
from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.service import Served
from tests.support.waiting import eventually_async

SLOW = "[[tokens=500 rate=20]] secret words"
Headers = dict[str, str]


async def begin(served: Served, headers: Headers, session: str, **body: Any) -> str:
    """Returns the turn's id."""
    answer = await served.client.post(
        f"/v1/sessions/{session}/turns",
        json={"content": SLOW, **body},
        headers={**headers, "Prefer": "respond-async"},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def people(served: Served) -> tuple[Headers, Headers, Headers]:
    admin = await make_key(served, owner="root", scopes=("chat", "admin"))
    ann = await make_key(served, owner="ann")
    bob = await make_key(served, owner="bob")
    return bearer(admin), bearer(ann), bearer(bob)


async def listed(served: Served, admin: Headers, **query: Any) -> dict[str, Any]:
    answer = await served.client.get("/v1/turns", headers=admin, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def stop(served: Served, admin: Headers, **body: Any) -> Any:
    return await served.client.post("/v1/turns/stop", headers=admin, json=body)


async def test_what_runs_at_any_replica_is_listed_the_oldest_first(start: Start) -> None:
    async with start(auth="keys") as first, start(auth="keys") as second:
        admin, ann, bob = await people(first)
        turns = [await begin(first, ann, "a"), await begin(second, bob, "b")]
        turns.append(await begin(first, ann, "a", on_busy="queue"))

        async def told() -> bool:
            found = (await listed(second, admin))["data"]
            return [turn["tokens"] > 0 for turn in found] == [True, True, False]

        await eventually_async(told)
        found = await listed(second, admin)
        assert [turn["id"] for turn in found["data"]] == turns
        assert found["total"] == 3
        assert [turn["principal"] for turn in found["data"]] == ["owner.ann", "owner.bob", "owner.ann"]
        assert [turn["state"] for turn in found["data"]] == ["running", "running", "queued"]
        running = found["data"][0]
        assert (running["session_id"], running["attempt"]) == ("a", 1)
        assert running["model"] == "openai/gpt-oss-120b"
        assert 0 <= running["age_seconds"] < 60
        assert {turn["worker"] for turn in found["data"][:2]} == {logs.worker_name()}  # of both here
        assert "secret" not in str(found)
        assert [turn["id"] for turn in (await listed(first, admin, principal="owner.bob"))["data"]] == turns[
            1:2
        ]
        shorter = await listed(first, admin, limit=1)
        assert ([turn["id"] for turn in shorter["data"]], shorter["total"]) == (turns[:1], 3)


class Lines:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.told.append({"event": event, **fields})


async def test_one_turn_is_stopped_from_any_replica_and_noted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines()
    monkeypatch.setattr("service.api.routes.live_turns.audit", lines)
    async with start(auth="keys") as first, start(auth="keys") as second:
        admin, ann, bob = await people(first)
        turn, other = await begin(first, ann, "a"), await begin(first, bob, "b")
        answer = await stop(second, admin, principal="owner.ann", turn_id=turn)
        assert answer.json() == {"object": "list", "stopped": [turn]}
        state = (await first.client.get(f"/v1/sessions/a/turns/{turn}", headers=ann)).json()["state"]
        assert state == "stopped"
        assert [one["id"] for one in (await listed(first, admin))["data"]] == [other]
        [line] = lines.told
        assert (line["event"], line["subject"], line["turns"]) == ("audit.turns_stopped", "owner.ann", [turn])
        assert (line["count"], line["by"]) == (1, "owner.root")
        again = await stop(first, admin, principal="owner.ann", turn_id=turn)
        assert (again.status_code, again.json()["code"]) == (404, "turn_not_found")


async def test_all_of_a_principal_are_stopped_and_none_of_a_queue_begins(start: Start) -> None:
    async with start(auth="keys") as served:
        admin, ann, bob = await people(served)
        turns = [await begin(served, ann, f"s{number}") for number in range(3)]
        queued = [await begin(served, ann, "s0", on_busy="queue") for _ in range(2)]
        other = await begin(served, bob, "b")
        answer = await stop(served, admin, principal="owner.ann")
        assert sorted(answer.json()["stopped"]) == sorted([*turns, *queued])
        assert [one["id"] for one in (await listed(served, admin))["data"]] == [other]
        for turn in queued:
            found = (await served.client.get(f"/v1/sessions/s0/turns/{turn}", headers=ann)).json()
            assert (found["state"], found["attempt"]) == ("stopped", 0)
        assert (await stop(served, admin, principal="owner.ann")).json()["stopped"] == []


async def test_two_admins_at_once_stop_each_turn_once(start: Start) -> None:
    async with start(auth="keys") as served:
        admin, ann, _ = await people(served)
        await begin(served, ann, "s")
        answers = await asyncio.gather(*(stop(served, admin, principal="owner.ann") for _ in range(4)))
        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("principal", ["*", "owner.ann/s", "", "nobody", 3])
async def test_a_principal_that_none_can_be_is_refused(start: Start, principal: Any) -> None:
    async with start(auth="keys") as served:
        admin, _, _ = await people(served)
        refused = await stop(served, admin, principal=principal)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
