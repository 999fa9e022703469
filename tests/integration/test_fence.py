"""The fence: only the last claim of a turn writes, also where a failover has lost a claim before it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from service import events
from service.config.settings import Settings
from service.store import log as codes
from service.store.expire_leases import expire_leases
from service.store.log import Append
from service.store.store import Store
from service.store.turn_records import LIFE, Begin, Claim, Seal, Turn, TurnRef
from tests.support.redis import RedisServer
from tests.support.rollback import Snapshot

REF = TurnRef("p", "s", "t_1")


@pytest.fixture
async def scripts(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Store]:
    """The store as a worker has it, without a worker."""
    opened = Store(Settings(_env_file=None, redis_url=redis_server.url), "host:1")
    yield opened
    await opened.close()


async def begin(scripts: Store) -> Turn:
    wanted = Begin(REF, "append", "m_1", b'{"role":"user"}', {}, events.structured(events.STARTED, {}), {})
    assert (await scripts.turns.begin(wanted, "host:1")).outcome == "BEGUN"
    turn = await scripts.turns.get(REF)
    assert turn is not None
    assert (turn.epoch, turn.claim, turn.last) == (1, wanted.claim, 1)
    return turn


async def claim(scripts: Store, worker: str) -> Turn:
    """As a sweep does when the lease has lapsed."""
    await scripts.turns.release(await current(scripts))
    found = await scripts.turns.claim(REF, worker)
    assert (found.outcome, found.turn is not None) == ("CLAIMED", True)
    assert found.turn is not None
    return found.turn


async def current(scripts: Store) -> Turn:
    turn = await scripts.turns.get(REF)
    assert turn is not None
    return turn


async def append(scripts: Store, turn: Turn, first: int, *texts: str) -> Any:
    payloads = [events.delta(text) for text in texts]
    wanted = Append(scripts.log.names(REF), turn.epoch, turn.claim, first, payloads)
    return (await scripts.log.append([wanted]))[0]


def ending(first: int, *texts: str) -> Seal:
    last = events.structured(events.COMPLETED, {"finish_reason": "stop"})
    return Seal("completed", first, [*map(events.delta, texts), last], {}, "m_a", b'{"role":"assistant"}')


async def logged(scripts: Store) -> list[tuple[int, bytes]]:
    return [(event.id, event.payload) for event in await scripts.log.read_all(REF)]


async def test_an_owner_before_the_last_claim_writes_nothing(scripts: Store) -> None:
    first = await begin(scripts)
    assert await append(scripts, first, 2, "one") == codes.OK
    second = await claim(scripts, "host:2")
    assert (second.epoch, second.last) == (2, 2)
    before = await logged(scripts)
    assert await append(scripts, first, 3, "two") == codes.FENCED
    assert (await scripts.turns.seal(first, ending(3))).outcome == "FENCED"
    assert await scripts.leases.renew([(first, True)]) == [codes.FENCED]
    assert not await scripts.turns.release(first)
    assert await logged(scripts) == before
    assert await append(scripts, second, 3, "three") == codes.OK


async def test_of_two_claims_with_one_epoch_only_the_last_writes(scripts: Store, store: redis.Redis) -> None:
    """The claim with epoch 2 is lost by a failover, and epoch 2 is claimed again by another worker."""
    await begin(scripts)
    past = Snapshot(store)
    lost = await claim(scripts, "host:2")
    assert await append(scripts, lost, 2, "lost") == codes.OK
    past.come_back()
    second = await claim(scripts, "host:3")
    assert (lost.epoch, second.epoch) == (2, 2)
    first = second.last + 1
    for attempt in (2, 3, first, first + 1):
        assert await append(scripts, lost, attempt, "old") == codes.FENCED
        assert (await scripts.turns.seal(lost, ending(attempt))).outcome == "FENCED"
    assert (await scripts.turns.seal(lost, ending(0))).outcome == "FENCED"
    assert await scripts.leases.renew([(lost, True)]) == [codes.FENCED]
    assert not await scripts.turns.release(lost)
    assert await append(scripts, second, first, "new") == codes.OK
    sealed = await scripts.turns.seal(second, ending(first + 1))
    assert (sealed.outcome, sealed.last) == ("SEALED", first + 1)
    assert [payload for _, payload in await logged(scripts)][1:] == [b"dnew", ending(0).payloads[-1]]
    assert (await scripts.turns.seal(lost, ending(first + 1))).outcome == "FENCED"


async def test_a_living_owner_is_not_taken_over(scripts: Store) -> None:
    turn = await begin(scripts)
    found: Claim = await scripts.turns.claim(REF, "host:2")
    assert found.outcome == "LEASED"
    assert 0 < found.milliseconds_left <= scripts.turns.lease_ms
    assert await append(scripts, turn, 2, "one") == codes.OK


async def test_a_gap_in_the_log_is_refused_by_append_and_by_seal(scripts: Store) -> None:
    turn = await begin(scripts)
    assert await append(scripts, turn, 3, "two") == codes.LOST
    assert (await scripts.turns.seal(turn, ending(3))).outcome == "LOST"
    assert await logged(scripts) == [(1, turn.started)]
    assert (await current(scripts)).state == "running"


async def test_a_log_that_is_gone_is_refused_by_append_and_by_seal(
    scripts: Store, store: redis.Redis
) -> None:
    turn = await begin(scripts)
    assert await append(scripts, turn, 2, "one") == codes.OK
    store.delete(scripts.log.name(REF))
    assert await append(scripts, turn, 3, "two") == codes.LOST
    assert (await scripts.turns.seal(turn, ending(3, "two"))).outcome == "LOST"


async def test_a_repeated_append_and_seal_write_once(scripts: Store) -> None:
    turn = await begin(scripts)
    for _ in range(2):
        assert await append(scripts, turn, 2, "one", "two") == codes.OK
    for _ in range(2):
        assert (await scripts.turns.seal(turn, ending(4))).last == 4
    assert [number for number, _ in await logged(scripts)] == [1, 2, 3, 4]


async def test_a_claim_after_a_loss_begins_a_new_life_beyond_all_cursors(
    scripts: Store, store: redis.Redis
) -> None:
    first = await begin(scripts)
    assert await append(scripts, first, 2, "one") == codes.OK
    begun = []
    for worker in ("host:2", "host:3"):  # the second loss takes the life that the first one began
        past = Snapshot(store)
        assert await append(scripts, first, 3, "lost", "lost too") == codes.OK
        past.come_back()
        past = Snapshot(store)
        turn = await claim(scripts, worker)
        assert (turn.kept, turn.opens_life) == (2, True)
        begun.append(turn.last + 1)
        assert begun[-1] % LIFE == 0
        assert await append(scripts, turn, turn.last + 1, "new", "life") == codes.OK
        assert [number for number, _ in await logged(scripts)] == [1, 2, begun[-1], begun[-1] + 1]
        past.come_back()
        created = int(str(store.hget(turn_key(scripts), "created")))
        store.hset(turn_key(scripts), "created", created - 1000)  # the next loss is a second later
    assert begun[0] < begun[1]


def turn_key(scripts: Store) -> str:
    return scripts.log.names(REF)[0]


async def test_a_claim_without_a_loss_goes_on_in_the_same_life(scripts: Store) -> None:
    await begin(scripts)
    turn = await claim(scripts, "host:2")
    assert (turn.last, turn.kept, turn.opens_life) == (1, None, False)


async def test_whose_log_lost_events_is_sealed_in_a_new_life_with_the_end_alone(
    scripts: Store, store: redis.Redis
) -> None:
    turn = await begin(scripts)
    assert await append(scripts, turn, 2, "one") == codes.OK
    past = Snapshot(store)
    assert await append(scripts, turn, 3, "two", "three") == codes.OK
    past.come_back()
    assert (await scripts.turns.seal(turn, ending(5, "four"))).outcome == "LOST"
    sealed = await scripts.turns.seal(turn, ending(0))
    assert (sealed.outcome, sealed.last % LIFE) == ("SEALED", 0)
    assert [number for number, _ in await logged(scripts)] == [1, 2, sealed.last]
    again = await scripts.turns.seal(turn, ending(0))
    assert (again.outcome, again.last) == ("SEALED", sealed.last)
    assert (await current(scripts)).kept == 2


async def test_what_is_left_of_a_log_is_remembered_until_a_new_life_has_an_event(
    scripts: Store, store: redis.Redis
) -> None:
    """Found by seed 3010: of a life without an event `kept` named the end, which no reader has reached."""
    turn = await begin(scripts)
    assert await append(scripts, turn, 2, "one", "two") == codes.OK
    for worker in ("host:2", "host:3"):
        Snapshot(store).come_back()
        turn = await claim(scripts, worker)
        assert (turn.kept, turn.opens_life) == (3, True)
    assert (await scripts.turns.seal(turn, ending(0))).outcome == "SEALED"
    assert (await current(scripts)).kept == 3


@pytest.mark.parametrize("seconds", [-5, 5, -3600, 3600])
async def test_another_clock_after_a_failover_takes_no_turn_from_its_owner_and_keeps_none_for_a_dead_one(
    scripts: Store, store: redis.Redis, seconds: int
) -> None:
    """A lease is a time by the clock that gave it: here one that went `seconds` differently."""
    turn = await begin(scripts)
    await scripts.leases.schedule([REF])
    Snapshot(store).come_back()
    name = scripts.keys.session("p", "s").turn("t_1")
    store.hincrby(name, "lease", 1000 * seconds)
    store.zincrby(scripts.keys.deadlines, 1000 * seconds, str(REF))
    if abs(seconds) > 5:
        assert await scripts.leases.due() == [REF]
    found = await scripts.turns.claim(REF, "host:2")
    assert (found.outcome, found.milliseconds_left) == ("LEASED", scripts.turns.lease_ms)
    again = await scripts.turns.claim(REF, "host:2")  # whatever the lease was by the other clock
    assert (again.outcome, 0 < again.milliseconds_left <= scripts.turns.lease_ms) == ("LEASED", True)
    assert await append(scripts, turn, 2, "one") == codes.OK
    assert (await scripts.turns.claim(REF, "host:2")).outcome == "LEASED"
    # The grace is given once: what is not renewed after it is taken up.
    store.hset(name, "lease", 1)
    assert (await scripts.turns.claim(REF, "host:2")).outcome == "CLAIMED"


async def test_a_worker_that_leaves_after_a_failover_is_not_waited_for(
    scripts: Store, store: redis.Redis
) -> None:
    turn = await begin(scripts)
    Snapshot(store).come_back()
    assert await scripts.turns.release(turn)
    assert (await scripts.turns.claim(REF, "host:2")).outcome == "CLAIMED"


async def test_a_worker_that_died_after_a_failover_is_not_waited_for(
    scripts: Store, store: redis.Redis, redis_server: RedisServer
) -> None:
    await begin(scripts)
    await scripts.leases.own(REF)
    Snapshot(store).come_back()
    assert expire_leases(Settings(_env_file=None, redis_url=redis_server.url), "host:1") == 1
    assert (await scripts.turns.claim(REF, "host:2")).outcome == "CLAIMED"


@pytest.mark.parametrize("ahead", [-3_600, 3_600])
async def test_a_new_life_lies_beyond_the_old_one_by_the_later_of_both_clocks(
    scripts: Store, store: redis.Redis, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """That of a promoted replica may be behind, and so may be a worker's."""
    await begin(scripts)
    begun = int(str(store.hget(turn_key(scripts), "created")))
    store.hset(turn_key(scripts), "created", begun - 1_000)
    Snapshot(store).come_back()
    monkeypatch.setattr("service.store.turns.now_ms", lambda: begun + 1_000 * ahead)
    turn = await claim(scripts, "host:2")
    assert turn.last + 1 >= (10 * LIFE if ahead < 0 else 10 * (ahead + 1) * LIFE)


async def test_what_has_ended_or_has_not_begun_to_run_has_no_lease_to_give_up(
    scripts: Store, store: redis.Redis, redis_server: RedisServer
) -> None:
    turn = await begin(scripts)
    await scripts.leases.own(REF)
    sealed = await scripts.turns.seal(turn, ending(2))
    assert sealed.outcome == "SEALED"
    assert not await scripts.turns.release(turn)
    expire_leases(Settings(_env_file=None, redis_url=redis_server.url), "host:1")
    assert store.hget(turn_key(scripts), "lease") == "0"


async def test_who_stops_a_turn_is_told_how_long_its_owner_has(scripts: Store, store: redis.Redis) -> None:
    await begin(scripts)
    noted = await scripts.turns.stop(REF)
    assert noted is not None
    state, owner, left = noted
    assert (state, owner, 0 < left <= scripts.turns.lease_ms) == ("running", "host:1", True)
    store.hincrby(turn_key(scripts), "lease", -scripts.turns.lease_ms - 60_000)
    noted = await scripts.turns.stop(REF)
    assert noted is not None
    assert noted[2] <= -60_000
