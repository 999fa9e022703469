"""How turns end whatever happens: attempts that are counted, timers, deaths, drains, lost logs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from service.config.settings import Settings
from service.engine.engine import Engine
from service.engine.live import Live
from service.errors import StoreUnavailable
from service.store.ledger import Bounds
from service.store.store import Store
from service.store.turn_records import Turn
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.redis import RedisServer
from tests.support.service import Served
from tests.support.turns import PRINCIPAL, Hands, ref
from tests.support.waiting import eventually_async

MODEL = "openai/gpt-oss-20b"


@pytest.fixture
async def hands(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Hands]:
    """A worker that has died: what it did is in the store, and nothing follows."""
    opened = Store(Settings(_env_file=None, redis_url=redis_server.url), "dead:1")
    yield Hands(opened, "dead:1")
    await opened.close()


def engine_of(served: Served) -> Engine:
    found: Engine = served.app.state.edge.engine
    return found


async def left_behind(hands: Hands, store: redis.Redis, **fields: Any) -> None:
    """A turn whose owner has died, due now."""
    await hands.begin("t1", fields={"model": MODEL, "params": b"{}", **fields})
    store.hset(f"chat:{{{PRINCIPAL}/s}}:turn:t1", "lease", 1)
    await hands.store.leases.schedule([ref("t1")], -1)


async def ended(hands: Hands) -> Turn:
    async def sealed() -> Turn | None:
        turn = await hands.get("t1")
        return turn if turn.sealed else None

    return await eventually_async(sealed, within=20)


# -- leases


async def test_a_turn_that_is_renewed_while_it_is_sealed_is_not_looked_for_afterwards(
    start: Start, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(lease_seconds=1) as served:
        engine = engine_of(served)
        finish, renew = engine.store.turn_ends.finish, engine.store.leases.renew
        renewed = asyncio.Event()

        async def renewing(*words: Any) -> Any:
            renewed.set()
            return await renew(*words)

        async def finishing(*words: Any) -> Any:
            sealed = await finish(*words)
            for _ in range(2):  # the second begins when all of the first has been sent
                renewed.clear()
                await asyncio.wait_for(renewed.wait(), 10)
            return sealed

        monkeypatch.setattr(engine.store.leases, "renew", renewing)
        monkeypatch.setattr(engine.store.turn_ends, "finish", finishing)
        answer = await served.client.post("/chat", json={"user_query": "[[tokens=3]]"})
        assert answer.text == expected_text(3, 0)
        assert store.zcard("chat:turns:deadlines") == 0


# -- attempts


@pytest.mark.parametrize("most", [1, 2, 4])
async def test_as_many_attempts_are_made_as_allowed_and_no_more(
    start: Start, double: Double, most: int
) -> None:
    async with start(max_attempts=most, retry_budget_seconds=50) as served:
        answer = await served.client.post("/chat", json={"user_query": "[[tokens=3 fault=500 times=9]]"})
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_unavailable")
    assert len(double.calls.find()) == most


async def test_an_attempt_that_would_come_too_late_is_not_waited_for(start: Start, double: Double) -> None:
    body = {"user_query": "[[tokens=3 fault=500 retry_after=600 times=1]]"}
    async with start(retry_budget_seconds=5) as served, asyncio.timeout(15):
        answer = await served.client.post("/chat", json=body)
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_unavailable")
    assert len(double.calls.find()) == 1


async def test_nothing_is_asked_again_once_something_is_shown(served: Served, double: Double) -> None:
    body = {"content": "[[tokens=20 fault=cut after=5]]"}
    answer = await served.client.post("/v1/sessions/s/turns", json=body)
    assert "event: turn.failed" in answer.text
    assert len(double.calls.find()) == 1


async def test_a_turn_that_its_workers_die_of_is_not_tried_for_ever(
    start: Start, hands: Hands, store: redis.Redis, double: Double
) -> None:
    await left_behind(hands, store, attempt=2)
    async with start(max_attempts=2):
        turn = await ended(hands)
    assert (turn.state, turn.attempt) == ("failed", 2)
    assert double.calls.find() == []


async def test_whoever_takes_a_turn_over_has_the_attempts_that_are_left(
    start: Start, hands: Hands, store: redis.Redis, double: Double
) -> None:
    await left_behind(hands, store, attempt=1)
    store.hset(
        f"chat:{{{PRINCIPAL}/s}}:messages",
        "m_t1",
        json.dumps({"id": "m_t1", "role": "user", "content": "[[tokens=3 fault=500 times=9]]"}),
    )
    async with start(max_attempts=3, retry_budget_seconds=50):
        assert (await ended(hands)).state == "failed"
    assert len(double.calls.find()) == 2


async def test_a_wish_to_stop_outlives_the_worker_that_heard_it(
    start: Start, hands: Hands, store: redis.Redis, double: Double
) -> None:
    await left_behind(hands, store, stop="1")
    async with start():
        assert (await ended(hands)).state == "stopped"
    assert double.calls.find() == []


# -- timers


@pytest.mark.parametrize(
    ("words", "shown"), [("[[tokens=100000 rate=50]]", True), ("[[fault=silence times=9]]", False)]
)
async def test_an_answer_without_an_end_is_ended_and_called_what_it_is(
    start: Start, double: Double, words: str, shown: bool
) -> None:
    """CHAT_TURN_TIMEOUT_SECONDS: neither tokens that go on arriving nor time to wait for one is a reason to
    go on, and it is the turn that took too long, not a model that fell silent."""
    bounds = {"idle_timeout_seconds": 600, "first_token_timeout_seconds": 600}
    async with start(turn_timeout_seconds=2, **bounds) as served:
        begin = time.monotonic()
        async with asyncio.timeout(20):
            answer = await served.client.post("/v1/sessions/s/turns", json={"content": words})
        assert time.monotonic() - begin >= 2
    assert ("event: delta" in answer.text) is shown
    last = answer.text.strip().rpartition("event: turn.failed\ndata: ")[2].partition("\n")[0]
    told = json.loads(last)
    assert (told["code"], told["message"]) == ("upstream_timeout", "The answer took too long.")
    assert (answer.text.count("event: attempt.started"), len(double.calls.find())) == (1, 1)


# -- drains and lost logs


async def live_turn(hands: Hands, served: Served) -> Live:
    """A turn of the service that has text which is in no log yet."""
    hands.worker = engine_of(served).store.worker
    turn = await hands.begin("t1", fields={"model": MODEL})
    live = Live(turn, hands.store.log.names(turn.ref), None)
    live.add_text("not yet ")
    live.add_text("written")
    return live


async def test_a_turn_that_is_released_has_all_its_text_in_the_log_and_is_due(
    served: Served, hands: Hands
) -> None:
    engine = engine_of(served)
    engine.drain()  # it shall not take it over itself
    await engine.sealer.release(await live_turn(hands, served))
    assert await hands.texts("t1") == [(1, (await hands.get("t1")).started), (2, b"dnot yet written")]
    assert await hands.store.leases.due() == [ref("t1")]
    assert (await hands.store.turns.claim(ref("t1"), "host:2")).outcome == "CLAIMED"


async def test_a_release_writes_what_came_behind_an_append_that_was_not_answered(
    served: Served, hands: Hands
) -> None:
    engine = engine_of(served)
    engine.drain()
    live = await live_turn(hands, served)
    live.take()  # an append of it failed, and waits to be repeated
    live.add_text(", and more")
    await engine.sealer.release(live)
    texts = [payload for _, payload in await hands.texts("t1")]
    assert texts[1:] == [b"dnot yet written", b"d, and more"]


async def test_a_turn_is_not_released_when_the_store_does_not_take_its_last_words(
    served: Served, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by seed 1779: a store that stood still took the release and not the append before it."""
    engine = engine_of(served)
    engine.drain()
    live = await live_turn(hands, served)

    async def unanswered(_: object) -> list[StoreUnavailable]:
        return [StoreUnavailable()]

    monkeypatch.setattr(engine.store.log, "append", unanswered)
    await engine.sealer.release(live)
    assert (await hands.store.turns.claim(ref("t1"), "host:2")).outcome == "LEASED"


async def test_a_turn_whose_log_is_gone_fails_and_ends(
    served: Served, hands: Hands, store: redis.Redis
) -> None:
    live = await live_turn(hands, served)
    store.delete(hands.store.log.name(ref("t1")))
    await engine_of(served).sealer.complete(live, "stop")
    turn = await hands.get("t1")
    assert (turn.state, (turn.error or {}).get("code")) == ("failed", "store_unavailable")


async def test_what_is_written_twice_is_read_once(served: Served) -> None:
    body = {"content": "[[tokens=200 rate=1000]]"}
    answer = await served.client.post("/v1/sessions/s/turns", json=body)
    ids = [int(line[4:]) for line in answer.text.splitlines() if line.startswith("id: ")]
    assert ids == list(range(1, len(ids) + 1))
    texts = [
        json.loads(line[6:])["text"] for line in answer.text.splitlines() if line.startswith('data: {"text":')
    ]
    assert "".join(texts) == expected_text(200, 0)


# -- bills and places


async def test_a_turn_gives_its_place_back_and_is_booked(start: Start, store: redis.Redis) -> None:
    async with start(max_running_turns_per_principal=3) as served:
        answer = await served.client.post("/chat", json={"user_query": "[[tokens=7]]"})
        assert answer.status_code == 200
        reserved = "chat:{none.anonymous}:reserved"
        await eventually_async(lambda: store.hlen(reserved) == 0)
        assert store.zcard("chat:{none.anonymous}:running") == 0
        usage = (await served.client.get("/v1/usage")).json()
    assert [day["completion_tokens"] for day in usage["data"]] == [7]


async def test_what_a_dead_worker_has_sealed_and_not_booked_is_booked(start: Start, hands: Hands) -> None:
    ledger = hands.store.ledger
    await ledger.reserve(ref("t1"), 5, 5, Bounds(running=9))
    await hands.complete(await hands.begin("t1", fields={"model": MODEL}), 2)
    await hands.store.leases.schedule([ref("t1")], -1)
    async with start():
        await eventually_async(lambda: ledger.usage(PRINCIPAL, 1), within=20)
    (booked,) = await ledger.usage(PRINCIPAL, 1)
    assert (booked.model, booked.turns, booked.prompt_tokens, booked.completion_tokens) == (MODEL, 1, 3, 4)
    assert await ledger.unsettled(PRINCIPAL) == set()


async def test_what_a_dead_worker_reserved_and_never_began_is_given_back(
    start: Start, hands: Hands, store: redis.Redis
) -> None:
    await hands.store.ledger.reserve(ref("t1"), 5, 5, Bounds(running=1))
    await hands.store.leases.schedule([ref("t1")], -1)
    async with start():
        await eventually_async(lambda: store.hlen(f"chat:{{{PRINCIPAL}}}:reserved") == 0, within=20)
    assert (await hands.store.ledger.reserve(ref("t2"), 5, 5, Bounds(running=1))).by == ""


async def test_a_long_answer_keeps_its_place(start: Start, store: redis.Redis) -> None:
    running = "chat:{none.anonymous}:running"
    async with (
        start(max_running_turns_per_principal=1, lease_seconds=1) as served,
        served.client.stream("POST", "/chat", json={"user_query": "[[tokens=9999 rate=20]]"}) as answer,
    ):
        turn_id = answer.headers["x-turn-id"]
        store.zadd(running, {turn_id: 1})  # as if the lease before had just lapsed
        await eventually_async(lambda: float(str(store.zscore(running, turn_id) or 0)) > 1, within=20)
        session = answer.headers["x-session-id"]
        await served.client.post(f"/v1/sessions/{session}/turns/{turn_id}/stop")
