"""A session whose turn was lost by the store heals: by the next send, stop, delete, sweep or reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import redis

from service import ids
from service.errors import StoreUnavailable
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.service import Served
from tests.support.sse import Parser, text_of
from tests.support.waiting import eventually_async

SESSION = "chat:{none.anonymous/s}"
ASYNC = {"Prefer": "respond-async"}


async def send(served: Served, content: str = "[[tokens=3]]", **more: Any) -> httpx.Response:
    headers = {**ASYNC, **more.pop("headers", {})}
    return await served.client.post(
        "/v1/sessions/s/turns", json={"content": content, **more}, headers=headers
    )


async def ended(served: Served, turn: str, state: str = "completed") -> None:
    async def seen() -> bool:
        found = await served.client.get(f"/v1/sessions/s/turns/{turn}")
        return found.status_code == 200 and bool(found.json()["state"] == state)

    await eventually_async(seen, within=20)


async def works(served: Served) -> None:
    """The session answers the next send, whoever has to end something first."""

    async def begun() -> str | None:
        answer = await send(served)
        assert answer.status_code in (202, 409), answer.text
        return str(answer.json()["id"]) if answer.status_code == 202 else None

    await ended(served, str(await eventually_async(begun, within=20)))
    session = (await served.client.get("/v1/sessions/s")).json()
    assert session["active_turn"] is None


@pytest.fixture
async def pointing(served: Served, store: redis.Redis) -> AsyncIterator[str]:
    """A session that says it is busy with a turn of which there is nothing."""
    turn = (await send(served)).json()["id"]
    await ended(served, turn)
    store.delete(f"{SESSION}:turn:{turn}", f"{SESSION}:log:{turn}")
    store.hset(f"{SESSION}:session", "active", turn)
    yield turn
    assert store.hget(f"{SESSION}:session", "active") is None


@pytest.mark.parametrize("on_busy", ["reject", "interrupt"])
@pytest.mark.parametrize("mode", [{}, {"regenerate": True}])
async def test_the_next_send_frees_a_session_from_a_turn_that_is_gone(
    served: Served, pointing: str, on_busy: str, mode: dict[str, Any]
) -> None:
    body = {"on_busy": on_busy, **(mode or {"content": "[[tokens=3]]"})}
    answer = await served.client.post("/v1/sessions/s/turns", json=body, headers=ASYNC)
    assert answer.status_code == 202, answer.text
    await ended(served, answer.json()["id"])


async def test_a_turn_that_is_queued_behind_nothing_is_run(start: Start, store: redis.Redis) -> None:
    async with start(lease_seconds=1) as served:
        first = (await send(served)).json()["id"]
        await ended(served, first)
        store.delete(f"{SESSION}:turn:{first}")
        store.hset(f"{SESSION}:session", "active", first)
        queued = [(await send(served, on_busy="queue")).json() for _ in range(2)]
        assert [turn["state"] for turn in queued] == ["queued", "queued"]
        store.delete(f"{SESSION}:turn:{queued[0]['id']}")  # and the next in the line is lost too
        await ended(served, queued[1]["id"])
        await works(served)


async def test_a_stop_of_a_turn_that_is_gone_says_so_and_frees_its_session(
    served: Served, pointing: str
) -> None:
    stop = await served.client.post(f"/v1/sessions/s/turns/{pointing}/stop")
    assert (stop.status_code, stop.json()["code"]) == (404, "turn_not_found")
    await works(served)


async def test_a_session_with_a_turn_that_is_gone_can_be_deleted(
    served: Served, store: redis.Redis, pointing: str
) -> None:
    assert (await served.client.delete("/v1/sessions/s")).status_code == 204
    assert (await served.client.get("/v1/sessions/s")).status_code == 404
    assert [key for key in store.scan_iter(f"{SESSION}*") if ":idem:" not in key] == []


async def test_a_turn_that_has_ended_does_not_hold_its_session(served: Served, store: redis.Redis) -> None:
    turn = (await send(served)).json()["id"]
    await ended(served, turn)
    for heal in ("send", "stop", "delete"):
        store.hset(f"{SESSION}:session", "active", turn)
        if heal == "send":
            assert (await send(served)).status_code == 202
        elif heal == "stop":
            assert (await served.client.post(f"/v1/sessions/s/turns/{turn}/stop")).status_code == 200
        else:
            assert (await served.client.delete("/v1/sessions/s")).status_code == 204
            return
        await works(served)


async def test_a_sweep_frees_the_session_of_a_turn_that_is_gone(
    served: Served, store: redis.Redis, pointing: str
) -> None:
    store.zadd("chat:turns:deadlines", {f"none.anonymous/s/{pointing}": 0})
    await eventually_async(lambda: store.hget(f"{SESSION}:session", "active") is None)


async def test_a_running_turn_whose_hash_vanishes_ends_for_its_readers_and_frees_its_session(
    start: Start, store: redis.Redis, double: Double
) -> None:
    async with start(budget_tokens_per_day=1_000_000) as served:
        turn = (await send(served, "[[tokens=3000 rate=100]]")).json()["id"]
        await eventually_async(lambda: store.xlen(f"{SESSION}:log:{turn}") > 4)
        waiting = (await send(served, "[[tokens=2]]", on_busy="queue")).json()["id"]
        reading = asyncio.create_task(
            served.client.post("/v1/sessions/s/turns", json={"content": "x", "on_busy": "queue"})
        )
        store.delete(f"{SESSION}:turn:{turn}")
        await ended(served, waiting)
        assert (await reading).status_code == 200
        gone = await served.client.get(f"/v1/sessions/s/turns/{turn}/events")
        assert (gone.status_code, gone.json()["code"]) == (404, "turn_not_found")
        await works(served)
        await eventually_async(lambda: store.hlen("chat:{none.anonymous}:reserved") == 0)
        used = (await served.client.get("/v1/usage")).json()
        assert used["data"][0]["completion_tokens"] >= 4


@pytest.mark.parametrize("answered", [False, True])
async def test_a_repeat_under_the_key_of_a_lost_turn_is_sent_anew_unless_it_was_answered(
    served: Served, store: redis.Redis, double: Double, answered: bool
) -> None:
    key: dict[str, Any] = {"headers": {"Idempotency-Key": "k"}}
    first = (await send(served, **key)).json()["id"]
    await ended(served, first)
    store.delete(f"{SESSION}:turn:{first}")
    if not answered:
        store.hdel(f"{SESSION}:messages", ids.answer_id(first))
    again = await send(served, **key)
    if answered:
        assert (again.status_code, again.json()["code"]) == (404, "turn_not_found")
        assert len(list(double.calls)) == 1
    else:
        assert again.status_code == 202
        assert again.json()["id"] != first
        await ended(served, again.json()["id"])


class Shard:
    """What a shard held at a moment, to which it goes back."""

    def __init__(self, store: redis.Redis) -> None:
        self._store = redis.Redis(
            port=store.connection_pool.connection_kwargs["port"]
        )  # raw: dumps are bytes
        self._held = {key: self._store.dump(key) for key in self._store.scan_iter(f"{SESSION}*")}

    def go_back(self) -> None:
        for key in self._store.scan_iter(f"{SESSION}*"):
            self._store.delete(key)
        for key, held in self._held.items():
            assert held is not None
            self._store.restore(key, 3_600_000, held)
        self._store.close()


@pytest.mark.parametrize("heal", ["send", "interrupt", "queue", "stop", "delete", "reader"])
async def test_a_turn_whose_seal_was_lost_does_not_run_for_ever(
    start: Start, store: redis.Redis, double: Double, heal: str
) -> None:
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(start(lease_seconds=1))
        turn = (await send(served, "[[tokens=40 rate=100]]")).json()["id"]
        await eventually_async(lambda: store.xlen(f"{SESSION}:log:{turn}") > 4)
        shard = Shard(store)
        await ended(served, turn)
        await eventually_async(
            lambda: store.zcard("chat:turns:deadlines") == 0
        )  # settled: nobody looks at it
        shard.go_back()
        path = f"/v1/sessions/s/turns/{turn}"
        assert (await served.client.get(path)).json()["state"] == "running"
        if heal == "send":
            await works(served)
        elif heal in ("interrupt", "queue"):
            following = (await send(served, on_busy=heal)).json()["id"]
            await ended(served, following)
        elif heal == "stop":
            assert (await served.client.post(f"{path}/stop")).json()["state"] == "stopped"
        elif heal == "delete":
            assert (await served.client.delete("/v1/sessions/s")).status_code == 204
            return
        else:
            answer = await asyncio.wait_for(served.client.get(f"{path}/events"), 20)
            events = list(Parser().feed(answer.content))
            assert events[-1].event == "turn.completed"
            assert text_of(events) == expected_text(40, 0)
        await works(served)
        assert (await served.client.get(path)).json()["state"] in ("completed", "stopped")


async def test_a_session_whose_hash_was_lost_goes_on_behind_what_it_has_said(
    served: Served, store: redis.Redis
) -> None:
    for wish in ("[[say=one]]", "[[say=two]]"):
        await ended(served, (await send(served, wish)).json()["id"])
    store.delete(f"{SESSION}:session")
    assert (await served.client.get("/v1/sessions/s")).status_code == 404
    await ended(served, (await send(served, "[[say=three]]")).json()["id"])
    said = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert [message["content"] for message in said[1::2]] == ["one", "two", "three"]
    assert [message["role"] for message in said] == ["user", "assistant"] * 3
    assert (await served.client.get("/v1/sessions/s")).json()["turns"] == 3


async def test_a_send_whose_session_cannot_be_listed_is_not_told_that_it_failed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = served.app.state.edge.engine.store.sessions
    listing, tries = sessions.list_it, 0

    async def fails_at_first(principal: str, session_id: str) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreUnavailable
        await listing(principal, session_id)

    monkeypatch.setattr(sessions, "list_it", fails_at_first)
    answer = await served.client.post("/chat", json={"user_query": "[[tokens=3]]", "session_id": "s"})
    assert (answer.status_code, answer.text) == (200, expected_text(3, 0))

    async def listed() -> bool:
        found = (await served.client.get("/v1/sessions")).json()["data"]
        return [session["id"] for session in found] == ["s"]

    await eventually_async(listed)
