"""Token budgets and usage: reserved at begin, settled once at every ending, told by GET /v1/usage."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
import redis

from service.errors import StoreUnavailable
from service.store.ledger import Bounds
from service.store.turn_ends import TurnEnds
from service.store.turn_records import TurnRef
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.identity import bearer, id_in, make_key
from tests.support.service import Served
from tests.support.waiting import eventually_async

MODEL = "openai/gpt-oss-120b"
RESERVED = "chat:{none.anonymous}:reserved"


async def ask(
    served: Served, text: str, headers: dict[str, str] | None = None, **body: Any
) -> httpx.Response:
    return await served.client.post("/chat", json={"user_query": text, **body}, headers=headers or {})


async def usage(served: Served, headers: dict[str, str] | None = None, query: str = "") -> dict[str, Any]:
    answer = await served.client.get(f"/v1/usage{query}", headers=headers or {})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def settled(served: Served, turns: int, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The usage once so many turns are booked."""

    async def booked() -> dict[str, Any] | None:
        found = await usage(served, headers)
        return found if sum(row["turns"] for row in found["data"]) >= turns else None

    return await eventually_async(booked, within=10)


async def test_of_several_budgets_that_refuse_the_longest_is_told(served: Served) -> None:
    """A month that running answers hold comes back with them, the day that is used up does not."""
    ledger = served.app.state.edge.engine.store.ledger
    refs = [TurnRef("none.anonymous", "s", f"t_{n}") for n in range(3)]
    bounds = Bounds(month=4_000, day=2_000)
    assert (await ledger.reserve(refs[0], 1_000, 500, bounds)).by == ""
    assert await ledger.settle(
        refs[0], MODEL, {"prompt_tokens": 1_000, "completion_tokens": 500, "total_tokens": 1_500}
    )
    assert (await ledger.reserve(refs[1], 0, 1_500, Bounds(month=4_000))).by == ""
    refused = await ledger.reserve(refs[2], 1_500, 500, bounds)
    assert refused.by == "day"
    assert refused.wait > 0


async def test_usage_is_the_sum_of_what_the_turns_said(served: Served) -> None:
    told, cost = [], Decimal(0)
    for tokens in (5, 20, 33):
        answer = await served.client.post(
            "/v1/sessions/s/turns",
            json={"content": f"[[tokens={tokens}]]"},
            headers={"Prefer": "respond-async"},
        )
        path = answer.headers["location"]
        async with served.client.stream("GET", f"{path}/events") as events:
            await events.aread()
        turn = (await served.client.get(path)).json()
        told.append(turn["usage"])
        cost += Decimal(turn["cost"]["USD"])
    found = await settled(served, 3)
    assert found["object"] == "list"
    assert found["data"] == [
        {
            "date": datetime.now(UTC).date().isoformat(),
            "model": MODEL,
            "prompt_tokens": sum(item["prompt_tokens"] for item in told),
            "completion_tokens": 58,
            "total_tokens": sum(item["total_tokens"] for item in told),
            "turns": 3,
            "cost": {"USD": str(cost)},
        }
    ]
    assert found["budgets"]["day"]["limit"] is None


async def test_what_begins_after_a_slow_interrupt_is_reserved_and_booked(
    start: Start, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop takes longer than the lease of what was reserved for the turn that waits for it."""
    async with start(lease_seconds=0.5, budget_tokens_per_day=100_000) as served:
        stops = served.app.state.edge.engine.beginning._stops
        stop = stops.carry_out

        async def slowly(ref: TurnRef) -> bool:
            stopped: bool = await stop(ref)
            await eventually_async(lambda: not store.hlen(RESERVED), within=10)  # the sweep gave all back
            return stopped

        monkeypatch.setattr(stops, "carry_out", slowly)
        first = await served.client.post(
            "/v1/sessions/s/turns",
            json={"content": "[[tokens=900 rate=20]]"},
            headers={"Prefer": "respond-async"},
        )
        assert first.status_code == 202

        async def speaks() -> str:
            return str((await served.client.get(first.headers["location"])).json()["text"])

        await eventually_async(speaks)
        answer = await ask(served, "[[tokens=30]]", session_id="s", on_busy="interrupt")
        assert answer.text == expected_text(30, 0)
        rows = (await settled(served, 2))["data"]
        told = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
        assert [message["state"] for message in told[1::2]] == ["stopped", "completed"]
        assert sum(row["turns"] for row in rows) == 2


async def test_every_ending_is_booked_once(served: Served, store: redis.Redis) -> None:
    """Completed, stopped, failed with and without text."""
    assert (await ask(served, "[[tokens=7]]")).status_code == 200
    assert (await ask(served, "[[tokens=9 fault=401]]")).status_code == 502
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(served, "[[tokens=50 fault=cut after=11]]")
    async with served.client.stream("POST", "/chat", json={"user_query": "[[tokens=500 rate=50]]"}) as answer:
        chunks = answer.aiter_raw()  # kept: dropping it closes the stream
        await anext(chunks)
        path = f"/v1/sessions/{answer.headers['x-session-id']}/turns/{answer.headers['x-turn-id']}"
        stopped = (await served.client.post(f"{path}/stop")).json()
    (row,) = (await settled(served, 4))["data"]
    assert row["turns"] == 4
    assert row["completion_tokens"] == 7 + 0 + 11 + stopped["usage"]["completion_tokens"]
    assert store.hgetall(RESERVED) == {}
    # A sweep that comes late settles again what is settled: nothing changes.
    engine = served.app.state.edge.engine
    ref = TurnRef("none.anonymous", answer.headers["x-session-id"], answer.headers["x-turn-id"])
    await engine.running.claim_due(ref)
    assert (await usage(served))["data"] == [row]


async def test_a_day_that_is_used_up_refuses_with_its_name_and_its_end(start: Start) -> None:
    async with start(budget_tokens_per_day=1000, budget_tokens_per_minute=100_000) as served:
        assert (await ask(served, "[[tokens=900]]")).status_code == 200
        used = (await settled(served, 1))["budgets"]["day"]["used"]
        answer = await ask(served, "[[tokens=900]]")
        assert answer.status_code == 429
        body = answer.json()
        assert body["code"] == "budget_exhausted"
        assert body["detail"].startswith(
            "The budget of 1000 tokens a day is used up; there is room again in "
        )
        assert answer.headers["x-should-retry"] == "false"
        left = (await usage(served))["budgets"]["day"]["resets_at"] - datetime.now(UTC).timestamp()
        assert abs(int(answer.headers["retry-after"]) - left) <= 2
        after = await usage(served)
        assert after["budgets"]["day"] == {
            "limit": 1000,
            "used": used,
            "reserved": 0,
            "resets_at": after["budgets"]["day"]["resets_at"],
        }
        assert after["budgets"]["minute"]["limit"] == 100_000
        assert after["budgets"]["month"]["limit"] is None
        assert [row["turns"] for row in after["data"]] == [1]


async def test_a_used_up_minute_may_be_tried_again(start: Start) -> None:
    async with start(budget_tokens_per_minute=1000) as served:
        assert (await ask(served, "[[tokens=900]]")).status_code == 200
        await settled(served, 1)
        answer = await ask(served, "again")
        if answer.status_code == 200:
            return  # the minute has just ended
        assert (answer.status_code, answer.json()["code"]) == (429, "budget_exhausted")
        assert "x-should-retry" not in answer.headers
        assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_the_counters_end_with_their_periods(start: Start, store: redis.Redis) -> None:
    async with start(budget_tokens_per_month=100_000) as served:
        await ask(served, "[[tokens=3]]")
        resets = (await settled(served, 1))["budgets"]
    for period in ("minute", "day", "month"):
        ends = store.pexpiretime(f"chat:{{none.anonymous}}:budget:{period}")
        assert ends in (resets[period]["resets_at"] * 1000, -2), period


async def test_an_answer_is_cut_to_what_the_budget_has_left(start: Start, double: Double) -> None:
    async with start(budget_tokens_per_day=1000) as served:
        first = await ask(served, "[[tokens=600]]")
        assert first.text == expected_text(600, 0)
        used = (await settled(served, 1))["budgets"]["day"]["used"]
        second = await ask(served, "[[tokens=600 seed=1]]")
        assert second.status_code == 200
        asked = [call.describe()["params"]["max_completion_tokens"] for call in double.calls]
        assert asked[1] < 1000 - used
        assert second.text == expected_text(asked[1], 1)
        assert (await settled(served, 2))["budgets"]["day"]["used"] <= 1000


async def test_at_once_no_more_is_promised_than_there_is(start: Start, double: Double) -> None:
    async with start(budget_tokens_per_day=20_000) as served:
        answers = await asyncio.gather(*(ask(served, f"[[tokens=30 rate=15]] {n}") for n in range(20)))
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200] * 3 + [429] * 17  # 2 x 8192 and the rest of the budget
        details = {answer.json()["detail"] for answer in answers if answer.status_code == 429}
        assert details == {
            "The budget of 20000 tokens a day is reserved by answers that are running; wait for one."
        }
        found = await settled(served, 3)
        assert found["budgets"]["day"]["reserved"] == 0
        assert found["budgets"]["day"]["used"] == found["data"][0]["total_tokens"]
        assert len(list(double.calls)) == 3


async def test_a_message_larger_than_the_whole_budget_is_told_so(start: Start) -> None:
    async with start(budget_tokens_per_day=100) as served:
        answer = await ask(served, "word " * 500)
        assert (answer.status_code, answer.json()["code"]) == (429, "budget_exhausted")
        assert answer.json()["detail"] == "The budget of 100 tokens a day is smaller than this message needs."
        assert answer.headers["x-should-retry"] == "false"


async def test_a_key_has_its_own_budget_in_place_of_the_settings(start: Start) -> None:
    async with start(auth="keys", budget_tokens_per_day=100_000) as served:
        small = bearer(await make_key(served, budget_tokens_per_day=500))
        free = bearer(await make_key(served, budget_tokens_per_day=0))
        await ask(served, "[[tokens=450]]", small)
        await settled(served, 1, small)
        assert (await ask(served, "[[tokens=450]]", small)).status_code == 429
        assert (await ask(served, "[[tokens=450]]", free)).status_code == 200
        assert (await usage(served, small))["budgets"]["day"]["limit"] == 500
        assert (await usage(served, free))["budgets"]["day"]["limit"] is None


async def test_usage_is_the_callers_own_and_an_admin_sees_everybodys(start: Start) -> None:
    async with start(auth="keys") as served:
        alice = bearer(await make_key(served, owner="alice"))
        admin = bearer(await make_key(served, owner="root", scopes=("chat", "admin")))
        await ask(served, "[[tokens=12]]", alice)
        mine = await settled(served, 1, alice)
        assert mine["principal"] == "owner.alice"
        assert (await usage(served, admin))["data"] == []
        assert (await usage(served, admin, "?principal=owner.alice"))["data"] == mine["data"]
        listed = await served.client.get("/v1/usage/principals", headers=admin)
        assert listed.json()["data"] == [
            {"principal": "owner.alice", "last_used": datetime.now(UTC).date().isoformat()}
        ]
        for path in ("/v1/usage?principal=owner.root", "/v1/usage/principals"):
            answer = await served.client.get(path, headers=alice)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_an_admin_sees_the_highest_limit_of_a_principals_active_keys(start: Start) -> None:
    async with start(auth="keys", budget_tokens_per_day=1000, budget_tokens_per_month=90_000) as served:
        admin = bearer(await make_key(served, owner="root", scopes=("chat", "admin")))

        async def limits(principal: str) -> list[int | None]:
            budgets = (await usage(served, admin, f"?principal={principal}"))["budgets"]
            return [budgets[period]["limit"] for period in ("minute", "day", "month")]

        alone = await make_key(served, budget_tokens_per_day=500, budget_tokens_per_minute=50)
        assert await limits(f"key.{id_in(alone)}") == [50, 500, 90_000]
        await make_key(served, owner="shop", budget_tokens_per_day=500)
        assert await limits("owner.shop") == [None, 500, 90_000]
        await make_key(served, owner="shop", budget_tokens_per_day=7000, budget_tokens_per_month=0)
        assert await limits("owner.shop") == [None, 7000, None]
        await make_key(served, owner="shop", budget_tokens_per_day=9000, expires=-1)
        assert await limits("owner.shop") == [None, 7000, None]
        assert await limits("jwt.somebody") == [None, 1000, 90_000]


@pytest.mark.parametrize("days", ["0", "401", "x", "-1", "1.5"])
async def test_days_that_are_none_are_refused(served: Served, days: str) -> None:
    answer = await served.client.get(f"/v1/usage?days={days}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_what_a_begin_that_came_to_nothing_reserved_comes_back(
    start: Start, store: redis.Redis
) -> None:
    """Its worker died between the reservation and the begin: the sweep gives it back."""
    async with start(lease_seconds=0.5) as served:
        engine = served.app.state.edge.engine
        ref = TurnRef("none.anonymous", "s", "t_never_begun")
        await engine.store.leases.own(ref)
        reserved = await engine.store.ledger.reserve(ref, 10, 90, Bounds(day=100))
        assert reserved.tokens == 100
        await eventually_async(lambda: store.hgetall(RESERVED) == {}, within=5)
        assert store.zcard("chat:{none.anonymous}:running") == 0
        assert (await usage(served))["data"] == []


async def test_what_its_worker_could_not_book_is_booked_before_the_session_is_deleted(
    start: Start, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker died between seal and settle, and the session is deleted before a sweep comes."""

    async def away(*_: object) -> bool:
        raise StoreUnavailable("settle")

    async with start(lease_seconds=60) as served:
        with monkeypatch.context() as dying:
            dying.setattr(TurnEnds, "together", False)  # as on a Cluster, or where a webhook is told of it
            dying.setattr(served.app.state.edge.engine.budgets, "settle", away)
            answer = await ask(served, "[[tokens=7]]", session_id="s")
        assert answer.status_code == 200
        turn = answer.headers["x-turn-id"]
        assert store.hkeys(RESERVED) == [turn]
        assert (await usage(served))["data"] == []
        assert (await served.client.delete("/v1/sessions/s")).status_code == 204
        (row,) = (await usage(served))["data"]
        assert (row["turns"], row["completion_tokens"]) == (1, 7)
        assert store.hgetall(RESERVED) == {}
        await served.app.state.edge.engine.running.claim_due(TurnRef("none.anonymous", "s", turn))
        assert (await usage(served))["data"] == [row]


async def test_a_refused_begin_gives_everything_back(start: Start, store: redis.Redis) -> None:
    async with start(budget_tokens_per_day=100_000, max_running_turns_per_principal=5) as served:
        path = "/v1/sessions/s/turns"
        running = await served.client.post(
            path, json={"content": "[[tokens=500 rate=50]]"}, headers={"Prefer": "respond-async"}
        )
        before = store.hgetall(RESERVED)
        busy = await served.client.post(path, json={"content": "too soon"})
        assert (busy.status_code, busy.json()["code"]) == (409, "turn_in_progress")
        assert store.hgetall(RESERVED) == before
        assert store.zrange("chat:{none.anonymous}:running", 0, -1) == list(before)
        await served.client.post(f"{running.headers['location']}/stop")


async def test_the_channel_of_a_turn_that_runs_here_is_neither_asked_for_nor_given_back(
    served: Served, store: redis.Redis
) -> None:
    store.config_resetstat()
    await ask(served, "[[tokens=1]]")
    await settled(served, 1)
    asked: Any = store.info("commandstats")
    assert not {"cmdstat_subscribe", "cmdstat_unsubscribe"} & asked.keys()
