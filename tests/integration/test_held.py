"""What a principal's running turns hold together: kept as a sum, and right whatever becomes of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from service.store.ledger import Bounds, Ledger
from service.store.turn_records import TurnRef
from tests.conftest import Start

PRINCIPAL = "none.anonymous"
RUNNING, RESERVED, HELD = (f"chat:{{{PRINCIPAL}}}:{name}" for name in ("running", "reserved", "held"))
BOUNDS = Bounds(day=10_000_000)


@pytest.fixture
async def ledger(start: Start) -> AsyncIterator[Ledger]:
    """Places lapse where a test says so, and not because it took longer than a lease."""
    async with start(lease_seconds=300) as served:
        found: Ledger = served.app.state.edge.engine.store.ledger
        yield found


def ref(number: int) -> TurnRef:
    return TurnRef(PRINCIPAL, "s", f"t_{number}")


def truth(store: redis.Redis) -> str:
    """The sum as whoever adds everything up would have it."""
    turns: Any = store.zrange(RUNNING, 0, -1)
    tokens: Any = store.hmget(RESERVED, turns) if turns else []
    return f"{len(turns)} {sum(map(int, tokens))}"


async def reserve(ledger: Ledger, number: int, tokens: int, bounds: Bounds = BOUNDS) -> int:
    reserved = await ledger.reserve(ref(number), tokens, 0, bounds)
    assert reserved.by == ""
    return reserved.tokens


async def test_it_is_right_however_places_come_go_lapse_and_come_back(
    ledger: Ledger, store: redis.Redis
) -> None:
    chance = random.Random(7)
    turns: list[int] = []
    for step in range(300):
        what = chance.choice(("reserve", "reserve", "settle", "lapse", "hold"))
        some = chance.sample(turns, min(len(turns), chance.randint(1, 4)))
        if what == "settle" and some:
            assert await ledger.settle(ref(some[0]), "m" if step % 2 else "", {"prompt_tokens": 1})
            turns.remove(some[0])
        elif what == "lapse" and some:
            store.zadd(RUNNING, {ref(turn).turn_id: 1 for turn in some}, xx=True)
        elif what == "hold" and some:
            await ledger.hold([ref(turn) for turn in some])
        else:
            await reserve(ledger, step, chance.randint(1, 9_000))
            turns.append(step)
            assert store.get(HELD) == truth(store), step
    for turn in turns:
        await ledger.settle(ref(turn), "", {})
    assert await ledger.reserve(ref(999), 5, 0, BOUNDS)
    assert store.get(HELD) == "1 5"
    assert 0 < store.ttl(HELD) <= store.ttl(RESERVED)


async def test_places_that_nobody_added_to_it_count(ledger: Ledger, store: redis.Redis) -> None:
    """A worker of an older version knows nothing of the sum."""
    await reserve(ledger, 1, 100)
    store.hset(RESERVED, "t_old", 400)
    store.zadd(RUNNING, {"t_old": 2**52})
    await reserve(ledger, 2, 10)
    assert store.get(HELD) == truth(store) == "3 510"


@pytest.mark.parametrize("lost", ["", "7 1", "-1 -5", "what"])
async def test_a_sum_that_is_lost_or_wrong_is_added_up_anew(
    ledger: Ledger, store: redis.Redis, lost: str
) -> None:
    await reserve(ledger, 1, 600)
    await reserve(ledger, 2, 300)
    store.set(HELD, lost, keepttl=True) if lost else store.delete(HELD)
    assert (await ledger.reserve(ref(3), 200, 0, Bounds(day=1_000))).by == "day"
    assert await reserve(ledger, 4, 100, Bounds(day=1_000)) == 100
    assert store.get(HELD) == "3 1000"


async def test_a_begin_asks_for_no_list_of_what_runs(ledger: Ledger, store: redis.Redis) -> None:
    for number in range(200):
        await reserve(ledger, number, 10)
    store.config_resetstat()
    await reserve(ledger, 200, 10)
    await ledger.settle(ref(0), "m", {"prompt_tokens": 1})
    asked: Any = store.info("commandstats")
    assert "cmdstat_zrange" not in asked
    assert "cmdstat_hmget" not in asked
    assert store.get(HELD) == "200 2000"
