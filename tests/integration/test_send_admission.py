"""A send's way in: one round trip where nothing refuses, and nothing left behind of what was refused."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
import redis
from prometheus_client import REGISTRY

from service.store.connection.typed_scripts import Call
from tests.conftest import Start
from tests.double import expected_text
from tests.support.redis import RedisServer
from tests.support.service import Served
from tests.support.waiting import eventually_async

WINDOWS = pytest.mark.parametrize("window", ["fixed", "moving"])
PARTS = ("look", "enter", "limit_fixed", "limit_moving", "own", "reserve", "begin", "get_session", "window")


async def ask(served: Served, wish: str = "[[tokens=2]]", **body: Any) -> httpx.Response:
    return await served.client.post("/chat", json={"user_query": wish, **body})


def calls() -> dict[str, float]:
    return {
        part: REGISTRY.get_sample_value("chat_redis_operations_total", {"operation": part}) or 0
        for part in PARTS
    }


async def called(of: Any) -> dict[str, int]:
    """Which parts of a way in were called while `of` was awaited."""
    before = calls()
    await of
    return {part: int(count - before[part]) for part, count in calls().items() if count > before[part]}


@WINDOWS
async def test_a_send_enters_in_one_call(start: Start, window: str) -> None:
    async with start(limit_sends="9/minute", limit_window=window, budget_tokens_per_day=100_000) as served:
        await ask(served)
        assert await called(ask(served)) == {"enter": 1}


@WINDOWS
async def test_a_send_to_a_session_looks_at_it_once_and_enters(start: Start, window: str) -> None:
    async with start(limit_sends="9/minute", limit_window=window, budget_tokens_per_day=100_000) as served:
        for left in ("8", "7", "6"):
            asking = asyncio.create_task(ask(served, session_id="s"))
            assert await called(asking) == {"look": 1, "enter": 1}
            assert (await asking).headers["ratelimit-remaining"] == left


async def test_who_is_over_the_limit_is_not_told_of_a_session(start: Start) -> None:
    async with start(limit_sends="1/minute") as served:
        await ask(served, session_id="s")
        asking = asyncio.create_task(ask(served, session_id="s", model="no/such-model"))
        assert await called(asking) == {"look": 1}
        assert (await asking).json()["code"] == "rate_limited"


async def test_without_any_bound_a_send_begins_all_the_same(start: Start) -> None:
    async with start(limit_sends="", max_running_turns_per_principal=0) as served:
        answer = await ask(served)
        assert answer.text == expected_text(2, 0)
        assert "ratelimit-limit" not in answer.headers


async def test_what_a_budget_has_no_room_for_is_begun_with_less(start: Start) -> None:
    async with start(budget_tokens_per_day=600) as served:
        sending = ask(served, "[[tokens=3]]", max_completion_tokens=5_000)
        assert await called(sending) == {"enter": 1, "begin": 1}


@WINDOWS
async def test_who_is_over_the_limit_reserves_and_announces_nothing(
    start: Start, store: redis.Redis, window: str
) -> None:
    async with start(limit_sends="1/minute", limit_window=window, budget_tokens_per_day=100_000) as served:
        assert (await ask(served)).status_code == 200
        await served.app.state.edge.engine.idle()
        before = {key: store.type(key) for key in store.scan_iter("*")}
        refused = await ask(served)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert {key: store.type(key) for key in store.scan_iter("*")} == before
        assert store.zcard("chat:turns:deadlines") == 0


@WINDOWS
async def test_of_many_sends_at_once_as_many_enter_as_the_limit_has_and_each_of_them_has_its_place(
    start: Start, window: str
) -> None:
    bounds = {"limit_sends": "6/minute", "limit_window": window, "max_running_turns_per_principal": 6}
    async with start(**bounds) as served:
        answers = await asyncio.gather(*(ask(served, "[[tokens=5 rate=100]]") for _ in range(30)))
        codes = [(one.status_code, one.status_code == 200 or one.json()["code"]) for one in answers]
        assert codes.count((200, True)) == 6
        assert codes.count((429, "rate_limited")) == 24


@pytest.mark.parametrize("body", [{"model": "no/such-model"}, {"user_query": "word " * 200_000}])
async def test_a_send_that_is_refused_for_another_reason_is_charged_as_one_where_reads_have_no_limit(
    start: Start, body: dict[str, Any]
) -> None:
    async with start(limit_sends="2/minute", max_body_bytes=4_000_000) as served:
        refused = await ask(served, **body)
        assert 400 <= refused.status_code < 500
        assert refused.json()["code"] != "rate_limited"
        assert (await ask(served)).headers["ratelimit-remaining"] == "0"
        assert (await ask(served, **body)).json()["code"] == "rate_limited"


async def test_a_repeat_at_the_same_moment_is_one_send(start: Start) -> None:
    async with start(limit_sends="1/minute", max_running_turns_per_principal=1) as served:
        sends = [
            served.client.post("/chat", json={"user_query": "[[tokens=4]]"}, headers={"idempotency-key": "k"})
            for _ in range(8)
        ]
        answers = await asyncio.gather(*sends)
        assert [answer.text for answer in answers] == [expected_text(4, 0)] * 8
        assert len({answer.headers["x-turn-id"] for answer in answers}) == 1


@WINDOWS
@pytest.mark.parametrize("session", [None, "s"])
async def test_a_call_that_is_repeated_because_its_answer_was_lost_finds_its_turn_and_is_charged_once(
    start: Start, monkeypatch: pytest.MonkeyPatch, window: str, session: str | None
) -> None:
    async with start(limit_sends="2/minute", limit_window=window, budget_tokens_per_day=100_000) as served:
        scripts = served.app.state.edge.engine.store.scripts
        call = scripts.call

        async def repeated(asked: Call) -> Any:
            if asked.script in ("enter", "look"):
                await call(asked)
            return await call(asked)

        monkeypatch.setattr(scripts, "call", repeated)
        for left in ("1", "0"):
            answer = await ask(served, session_id=session)
            assert (answer.status_code, answer.text) == (200, expected_text(2, 0))
            assert answer.headers["ratelimit-remaining"] == left
        assert (await ask(served, session_id=session)).json()["code"] == "rate_limited"


async def test_what_a_redis_that_stood_still_was_asked_for_is_not_begun_afterwards(
    start: Start, store: redis.Redis, redis_server: RedisServer
) -> None:
    async with start(budget_tokens_per_day=100_000) as served:
        await eventually_async(lambda: served.app.state.edge.engine.store.clock.after(0) > 0)
        redis_server.stall()
        try:
            answers = await asyncio.gather(*(ask(served, "[[tokens=500 rate=100]]") for _ in range(3)))
        finally:
            redis_server.go_on()
        assert [(one.status_code, one.json()["code"]) for one in answers] == [(503, "store_unavailable")] * 3
        fresh = await ask(served)  # is carried out after all that was asked before
        assert fresh.text == expected_text(2, 0)
        turns = list(store.scan_iter("*:turn:*"))
        assert [key.rpartition(":")[2] for key in turns] == [fresh.headers["x-turn-id"]]


async def test_who_is_over_the_limit_does_not_stand_in_line_for_a_place(start: Start) -> None:
    async with start(limit_sends="1/minute", max_running_turns=1) as served:
        waits = REGISTRY.get_sample_value("chat_admission_waits_total")
        async with served.client.stream(
            "POST", "/chat", json={"user_query": "[[tokens=900 rate=100]]"}
        ) as first:
            assert first.status_code == 200
            refused = await asyncio.gather(*(ask(served) for _ in range(5)))
        assert [one.json()["code"] for one in refused] == ["rate_limited"] * 5
        assert REGISTRY.get_sample_value("chat_admission_waits_total") == waits


async def test_a_redis_that_is_silent_while_a_send_enters_lets_it_in_when_it_answers(
    start: Start, redis_server: RedisServer
) -> None:
    """The limit is decided by the worker alone; what is reserved and begun waits."""
    async with start(limit_sends="9/minute") as served:
        await ask(served)
        before = REGISTRY.get_sample_value("chat_control_bypassed_total", {"control": "limits"}) or 0

        def alone() -> bool:
            now = REGISTRY.get_sample_value("chat_control_bypassed_total", {"control": "limits"}) or 0
            return now == before + 1

        redis_server.stall()
        try:
            asking = asyncio.create_task(ask(served, "[[tokens=3]]"))
            await eventually_async(alone)
        finally:
            redis_server.go_on()
        answer = await asking
        assert (answer.status_code, answer.text) == (200, expected_text(3, 0))
        assert answer.headers["ratelimit-remaining"] == "8"  # of those that this worker alone has counted


SLOW = {"content": "[[tokens=2000 rate=50]]"}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "busy": ("s", {"content": "x"}, "turn_in_progress"),
    "no such session": ("none", {"regenerate": True}, "session_not_found"),
    "no such message": ("s", {"edit": {"message_id": "none", "content": "x"}}, "message_not_found"),
}


@pytest.mark.parametrize("refused", REFUSED)
async def test_what_a_refused_send_has_reserved_is_given_back(
    start: Start, store: redis.Redis, refused: str
) -> None:
    session, body, code = REFUSED[refused]
    async with start(budget_tokens_per_day=1_000_000, max_running_turns_per_principal=9) as served:
        soon = {"Prefer": "respond-async"}
        running = (await served.client.post("/v1/sessions/s/turns", json=SLOW, headers=soon)).json()["id"]
        answer = await served.client.post(f"/v1/sessions/{session}/turns", json=body, headers=soon)
        assert answer.json()["code"] == code
        assert store.hkeys("chat:{none.anonymous}:reserved") == [running]
        assert store.zrange("chat:{none.anonymous}:running", 0, -1) == [running]
        assert store.zrange("chat:turns:deadlines", 0, -1) == [f"none.anonymous/s/{running}"]


async def test_a_turn_in_a_queue_keeps_its_place_until_it_is_looked_at_again(
    start: Start, store: redis.Redis
) -> None:
    async with start(max_running_turns_per_principal=9, lease_seconds=20) as served:
        soon = {"Prefer": "respond-async", "X-On-Busy": "queue"}
        for body in (SLOW, {"content": "x"}):
            turn = (await served.client.post("/v1/sessions/s/turns", json=body, headers=soon)).json()["id"]
        until = float(str(store.zscore("chat:{none.anonymous}:running", turn)))
        assert 21 < until / 1000 - time.time() < 42  # two leases and a second, and not one


async def test_a_send_that_does_not_interrupt_stops_no_answer_for_its_place(
    start: Start,
) -> None:
    async with start(max_running_turns_per_principal=1) as served:
        soon = {"Prefer": "respond-async"}
        running = await served.client.post("/v1/sessions/s/turns", json=SLOW, headers=soon)
        answer = await served.client.post("/v1/sessions/s/turns", json={"content": "x"}, headers=soon)
        assert answer.json()["code"] == "concurrency_limited"
        turn = (await served.client.get(running.headers["location"])).json()
        assert turn["state"] == "running"


async def test_a_large_message_is_sent_to_redis_once_all_else_has_let_it_in(start: Start) -> None:
    large = "[[tokens=1]] " + "word " * 5_000
    async with start(limit_sends="1/minute") as served:
        steps = {"limit_moving": 1, "own": 1, "reserve": 1, "begin": 1}
        assert await called(ask(served, large)) == steps
        assert "begin" not in await called(ask(served, large))


async def test_while_replicas_stay_away_a_send_reads_before_it_writes(served: Served) -> None:
    client = served.app.state.edge.engine.store.client
    assert "get_session" not in await called(ask(served))
    client._doubted_until = float("inf")
    assert "get_session" in await called(ask(served))
