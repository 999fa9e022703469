"""What admins and accountants are told, field by field: keys, usage, what runs."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from structlog.testing import CapturingLogger

from service.telemetry import logs
from tests.conftest import Start
from tests.contract.test_native_routes import SAY, SLOW, told
from tests.support.identity import bearer, id_in, make_key

ADMIN = ("chat", "admin")


async def test_of_a_key_admins_see_all_but_its_secret(start: Start) -> None:
    async with start(auth="keys") as served:
        admin = bearer(await make_key(served, scopes=ADMIN, owner="root"))
        own = {
            "limit_sends": "7/minute",
            "limit_reads": None,
            "budget_tokens_per_minute": 5,
            "budget_tokens_per_day": 0,
            "budget_tokens_per_month": None,
            "budget_money_per_day": "0.000000001",
            "budget_money_per_month": "12.5",
            "max_running_turns": 2,
        }
        wish = {"name": "web", "scopes": ["chat", "admin"], "expires_seconds": 31_622_400 * 10, **own}
        made = await served.client.post("/v1/keys", headers=admin, json=wish)
        assert made.status_code == 201, made.text
        found = made.json()
        key, key_id = bearer(found.pop("key")), found["id"]
        now = time.time()
        assert found.pop("created") == pytest.approx(now, abs=30)
        assert found.pop("expires") == pytest.approx(now + 31_622_400 * 10, abs=30)
        plain = {
            "id": key_id,
            "name": "web",
            "owner": None,
            "principal": f"key.{key_id}",
            "scopes": ["chat", "admin"],
            "webhook_url": None,
        }
        unused = {"state": "active", "revoked": None, "rotated": None, "last_used": None}
        assert found == {**plain, **unused, **own}
        await served.client.get("/v1/sessions", headers=key)
        again = await served.client.post(f"/v1/keys/{key_id}/rotate", headers=admin)
        assert sorted(again.json()) == ["id", "key"]
        await served.client.delete(f"/v1/keys/{key_id}", headers=admin)
        listed = (await told(served, "/v1/keys", headers=admin))["data"]
        [found] = [one for one in listed if one["id"] == key_id]
        assert found["state"] == "revoked"
        for name in ("last_used", "rotated", "revoked"):
            assert found[name] == pytest.approx(now, abs=30), name
        late = await served.client.patch("/v1/keys/none", headers=admin, json={"max_running_turns": 1})
        assert (late.status_code, late.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "wish",
    [
        {"expires_seconds": 0},
        {"expires_seconds": 31_622_400 * 10 + 1},
        {"budget_tokens_per_minute": -1},
        {"max_running_turns": -1},
        {"limit_reads": "7/fortnight"},
        {"budget_money_per_day": "0.0000000001"},
        {"budget_money_per_day": "-1"},
        {"budget_money_per_day": "1e3"},
        {"scopes": ["chat", "chat", "admin"]},
    ],
    ids=str,
)
async def test_a_key_with_a_bound_that_is_none_is_not_made(start: Start, wish: dict[str, Any]) -> None:
    async with start(auth="keys") as served:
        admin = bearer(await make_key(served, scopes=ADMIN))
        answer = await served.client.post("/v1/keys", headers=admin, json={"name": "x", **wish})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert len((await told(served, "/v1/keys", headers=admin))["data"]) == 1


async def test_a_replaced_secret_works_for_its_grace_of_thirty_days_at_most(start: Start) -> None:
    async with start(auth="keys") as served:
        admin = bearer(await make_key(served, scopes=ADMIN))
        old = await make_key(served)
        path = f"/v1/keys/{id_in(old)}/rotate"
        for wrong in (-1, 30 * 86_400 + 1):
            answer = await served.client.post(path, headers=admin, json={"grace_seconds": wrong})
            assert answer.status_code == 400
        new = await served.client.post(path, headers=admin, json={"grace_seconds": 30 * 86_400})
        for key in (old, new.json()["key"]):
            assert (await served.client.get("/v1/sessions", headers=bearer(key))).status_code == 200


async def test_a_change_of_a_key_changes_what_it_names_and_is_an_audit_line(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = CapturingLogger()
    monkeypatch.setattr("service.api.routes.keys.audit", lines)
    async with start(auth="keys", webhook_allow_private=True) as served:
        key = await make_key(served, scopes=ADMIN, owner="root")
        web = id_in(await make_key(served, limit_sends="7/minute", max_running_turns=2))

        async def change(**body: Any) -> dict[str, Any]:
            answer = await served.client.patch(f"/v1/keys/{web}", headers=bearer(key), json=body)
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        found = await change(limit_reads="9/minute", max_running_turns=None)
        assert [
            found[name] for name in ("limit_sends", "limit_reads", "max_running_turns", "webhook_secret")
        ] == [
            "7/minute",
            "9/minute",
            None,
            None,
        ]
        hooked = await change(webhook_url="http://127.0.0.1:9/hook")
        assert (hooked["webhook_url"], len(hooked["webhook_secret"]) > 20) == (
            "http://127.0.0.1:9/hook",
            True,
        )
        store = served.app.state.edge.credentials
        assert (await store.get(web)).webhook_secret == hooked["webhook_secret"]
        assert (await change(webhook_url=None))["webhook_url"] is None
        assert (await store.get(web)).webhook_secret is None
    by = {"key": web, "by": "owner.root", "by_key": id_in(key)}
    assert [(line.args, line.kwargs) for line in lines.calls] == [
        (("audit.key_changed",), {**by, "changed": changed})
        for changed in (
            ["limit_reads", "max_running_turns"],
            ["webhook_secret", "webhook_url"],
            ["webhook_secret", "webhook_url"],
        )
    ]


# -- usage


async def test_usage_tells_bounds_and_what_is_used_of_them(start: Start) -> None:
    bounds = {
        "budget_tokens_per_minute": 0,
        "budget_tokens_per_day": 100_000,
        "budget_money_per_month": "5",
        "max_sessions_per_principal": 0,
        "max_stored_bytes_per_principal": 1_000_000,
    }
    async with start(**bounds) as served:
        await served.client.post("/v1/sessions/s/turns", json={"content": SAY})
        found = await told(served, "/v1/usage")
    [day] = found.pop("data")
    assert (day["turns"], day["completion_tokens"]) == (1, 3)
    assert day["total_tokens"] == day["prompt_tokens"] + 3
    assert (found["object"], found["principal"]) == ("list", "none.anonymous")
    assert list(found["budgets"]) == ["minute", "day", "month"]
    used = {"used": day["total_tokens"], "reserved": 0}
    limits = {"month": None, "day": 100_000, "minute": None}
    for period, limit in limits.items():
        assert found["budgets"][period] == {
            "limit": limit,
            **used,
            "resets_at": found["budgets"][period]["resets_at"],
        }
    money = found["money"]
    assert list(money) == ["currency", "day", "month"]
    assert (money["month"]["limit"], money["day"]["limit"]) == ("5", None)
    assert money["day"]["used"] == money["month"]["used"] == next(iter(day["cost"].values()))
    assert money["day"]["used"] != "0"
    assert found["storage"]["sessions"] == {"limit": None, "used": 1}
    assert found["storage"]["bytes"]["limit"] == 1_000_000
    assert found["storage"]["bytes"]["used"] > 0


async def test_what_is_reserved_for_a_turn_that_runs_is_told(start: Start) -> None:
    async with start(budget_tokens_per_day=100_000, budget_money_per_day="5") as served:
        turn = await served.client.post(
            "/v1/sessions/s/turns", json={"content": SLOW}, headers={"Prefer": "respond-async"}
        )
        found = await told(served, "/v1/usage")
        assert found["budgets"]["day"]["reserved"] == found["budgets"]["month"]["reserved"] > 0
        assert float(found["money"]["day"]["reserved"]) > 0
        await served.client.post(f"{turn.headers['location']}/stop")


# -- what runs, for admins


async def test_of_what_runs_admins_see_who_what_and_where(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = CapturingLogger()
    monkeypatch.setattr("service.api.routes.live_turns.audit", lines)
    async with start(auth="keys") as served:
        key = await make_key(served, scopes=ADMIN, owner="root")
        admin, ann = bearer(key), bearer(await make_key(served, owner="ann"))
        begun = []
        for session in ("a", "b", "a"):
            sent = await served.client.post(
                f"/v1/sessions/{session}/turns",
                json={"content": SLOW, "on_busy": "queue"},
                headers={**ann, "Prefer": "respond-async"},
            )
            begun.append(sent.json()["id"])
        found = await told(served, "/v1/turns", headers=admin, params={"limit": 2})
        assert (found["object"], found["total"], [one["id"] for one in found["data"]]) == (
            "list",
            3,
            begun[:2],
        )
        queued = (await told(served, "/v1/turns", headers=admin))["data"][2]
        assert (queued["state"], queued["tokens"]) == ("queued", 0)
        first = found["data"][0]
        assert (first["principal"], first["session_id"], first["state"]) == ("owner.ann", "a", "running")
        assert first["worker"] == logs.worker_name()
        assert 0 <= first["age_seconds"] < 30
        of_root = await told(served, "/v1/turns", headers=admin, params={"principal": "owner.root"})
        assert (of_root["data"], of_root["total"]) == ([], 0)
        for path, body in (("/v1/turns", None), ("/v1/turns/stop", {"principal": "owner.ann"})):
            answer = await served.client.request("POST" if body else "GET", path, headers=ann, json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

        async def stop(**body: Any) -> httpx.Response:
            return await served.client.post("/v1/turns/stop", headers=admin, json=body)

        one = await stop(principal="owner.ann", turn_id=begun[1])
        assert one.json() == {"object": "list", "stopped": [begun[1]]}
        again = await stop(principal="owner.ann", turn_id=begun[1])
        assert (again.status_code, again.json()["code"]) == (404, "turn_not_found")
        rest = await stop(principal="owner.ann")
        assert sorted(rest.json()["stopped"]) == sorted([begun[0], begun[2]])
        by = {"subject": "owner.ann", "by": "owner.root", "by_key": id_in(key)}
        assert [{**line.kwargs, "turns": sorted(line.kwargs["turns"])} for line in lines.calls] == [
            {**by, "turns": [begun[1]], "count": 1},
            {**by, "turns": sorted([begun[0], begun[2]]), "count": 2},
        ]
