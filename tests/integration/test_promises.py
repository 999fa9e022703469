"""What each script of the store promises by itself: leases, seals, queues, places and bills."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from service import events
from service.config.settings import Settings
from service.store import log as codes
from service.store.expire_leases import expire_leases
from service.store.ledger import Bounds, Ledger
from service.store.log import PAGE
from service.store.store import Store
from service.store.turn_records import Seal
from tests.support.redis import RedisServer
from tests.support.turns import PRINCIPAL, SESSION, Hands, ref
from tests.support.waiting import eventually_async


@pytest.fixture
def settings(redis_server: RedisServer) -> Settings:
    return Settings(_env_file=None, redis_url=redis_server.url, max_queued_turns=2)


@pytest.fixture
async def hands(settings: Settings, store: redis.Redis) -> AsyncIterator[Hands]:
    opened = Store(settings, "host:1")
    yield Hands(opened)
    await opened.close()


@pytest.fixture
def ledger(hands: Hands) -> Ledger:
    return hands.store.ledger


def turn_key(turn_id: str) -> str:
    return f"chat:{{{PRINCIPAL}/{SESSION}}}:turn:{turn_id}"


def now(store: redis.Redis) -> int:
    seconds, micros = store.time()
    return int(seconds) * 1000 + int(micros) // 1000


def lease(store: redis.Redis, turn_id: str) -> int:
    return int(str(store.hget(turn_key(turn_id), "lease")))


# -- leases


async def test_an_append_and_a_renewal_move_the_lease_by_its_length(hands: Hands, store: redis.Redis) -> None:
    turn = await hands.begin("t1")
    length = hands.store.turns.lease_ms
    for move in (
        lambda: hands.append(turn, 2, "one"),
        lambda: hands.store.leases.renew([(turn, False)]),
    ):
        store.hset(turn_key("t1"), "lease", 1)
        before = now(store)
        await move()
        assert before + length <= lease(store, "t1") <= now(store) + length


async def test_a_claimed_turn_has_a_whole_lease(hands: Hands, store: redis.Redis) -> None:
    await hands.begin("t1")
    store.hset(turn_key("t1"), "lease", 1)
    before = now(store)
    claim = await hands.store.turns.claim(ref("t1"), "host:2")
    assert claim.turn is not None
    assert (claim.outcome, claim.turn.owner, claim.previous_owner) == ("CLAIMED", "host:2", "host:1")
    assert before + hands.store.turns.lease_ms <= lease(store, "t1")
    assert (await hands.store.turns.claim(ref("t1"), "host:3")).outcome == "LEASED"


async def test_a_released_turn_is_there_for_the_next_claim(hands: Hands) -> None:
    turn = await hands.begin("t1")
    assert (await hands.store.turns.claim(ref("t1"), "host:2")).outcome == "LEASED"
    assert await hands.store.turns.release(turn)
    assert (await hands.store.turns.claim(ref("t1"), "host:2")).outcome == "CLAIMED"


async def test_a_stop_by_force_does_not_wait_for_a_lease(hands: Hands) -> None:
    await hands.begin("t1")
    claim = await hands.store.turns.claim(ref("t1"), "host:2", force=True)
    assert (claim.outcome, claim.previous_owner) == ("CLAIMED", "host:1")


async def test_a_wish_to_stop_is_told_with_appends_and_renewals_and_to_the_next_owner(hands: Hands) -> None:
    turn = await hands.begin("t1")
    assert await hands.append(turn, 2, "one") == codes.OK
    assert await hands.store.leases.renew([(turn, True)]) == [codes.OK]
    noted = await hands.store.turns.stop(ref("t1"))
    assert noted is not None
    assert noted[:2] == ("running", "host:1")
    assert await hands.append(turn, 3, "two") == codes.STOP
    assert await hands.store.leases.renew([(turn, True)]) == [codes.STOP]
    claim = await hands.store.turns.claim(ref("t1"), "host:2", force=True)
    assert claim.turn is not None
    assert claim.turn.stop


@pytest.mark.parametrize(
    ("named", "has_reader", "told"),
    [(False, False, codes.ORPHAN), (False, True, codes.OK), (True, False, codes.OK)],
)
async def test_only_an_unnamed_session_without_a_reader_is_an_orphan(
    hands: Hands, store: redis.Redis, named: bool, has_reader: bool, told: int
) -> None:
    turn = await hands.begin("t1", named=named)
    store.hset(turn_key("t1"), "reader_at", 1)
    assert await hands.store.leases.renew([(turn, has_reader)]) == [told]
    assert (int(str(store.hget(turn_key("t1"), "reader_at"))) > 1) is has_reader


async def test_what_is_due_is_handed_out_once(hands: Hands) -> None:
    await hands.store.leases.schedule([ref("t1"), ref("t2")], -10)
    await hands.store.leases.schedule([ref("t3")], 60_000)
    assert sorted(map(str, await hands.store.leases.due())) == [str(ref("t1")), str(ref("t2"))]
    assert await hands.store.leases.due() == []


async def test_the_death_of_a_worker_lapses_its_own_turns_only(
    hands: Hands, settings: Settings, store: redis.Redis
) -> None:
    for turn_id in ("t1", "t2"):
        await hands.try_begin(turn_id, ref=ref(turn_id, turn_id))
        await hands.store.leases.own(ref(turn_id, turn_id))
    other = f"chat:{{{PRINCIPAL}/t2}}:turn:t2"
    store.hset(other, "owner", "host:2")  # taken over meanwhile
    kept = store.hget(other, "lease")
    assert expire_leases(settings, "host:1") == 2
    assert int(str(store.hget(f"chat:{{{PRINCIPAL}/t1}}:turn:t1", "lease"))) <= now(store)
    assert store.hget(other, "lease") == kept
    due = {str(one) for one in await hands.store.leases.due()}  # they are looked at now
    assert due == {str(ref("t1", "t1")), str(ref("t2", "t2"))}


# -- the log


async def test_nothing_is_written_behind_the_end(hands: Hands) -> None:
    turn = await hands.begin("t1")
    assert (await hands.complete(turn, 2)).outcome == "SEALED"
    assert await hands.append(turn, 3, "more") == codes.FENCED
    assert [number for number, _ in await hands.texts("t1")] == [1, 2]


async def test_an_append_and_a_seal_ring_with_the_newest_id(hands: Hands, store: redis.Redis) -> None:
    turn = await hands.begin("t1")
    bell: Any = store.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    bell.subscribe(hands.store.log.name(ref("t1")))

    async def rang() -> Any:
        heard = await eventually_async(lambda: bell.get_message(timeout=0.01))
        return heard["data"]

    bell.get_message(timeout=5)  # the subscription's own answer
    await hands.append(turn, 2, "one", "two")
    assert await rang() == "3"
    await hands.complete(turn, 4)
    assert await rang() == "4"
    bell.close()


async def test_a_log_of_several_pages_is_read_whole(hands: Hands) -> None:
    turn = await hands.begin("t1")
    count = 2 * PAGE + 3
    assert await hands.append(turn, 2, *(str(number) for number in range(count))) == codes.OK
    assert [payload for _, payload in (await hands.texts("t1"))[1:]] == [
        events.delta(str(number)) for number in range(count)
    ]


# -- seals and queues


async def test_an_answer_whose_question_is_gone_does_not_come_back(hands: Hands, store: redis.Redis) -> None:
    first = await hands.begin("t1")
    await hands.complete(first, 2)
    second = await hands.begin("t2")
    order = f"chat:{{{PRINCIPAL}/{SESSION}}}:order"
    store.zrem(order, second.user)  # an edit of an older question has dropped it
    assert (await hands.complete(second, 2)).outcome == "SEALED"
    assert store.zrange(order, 0, -1) == [first.user, "a_t1"]


async def test_an_edit_drops_what_followed_with_its_text(hands: Hands, store: redis.Redis) -> None:
    for turn_id in ("t1", "t2"):
        await hands.complete(await hands.begin(turn_id), 2)
    edited = await hands.begin("t3", mode="edit", message_id="m_t1")
    assert edited.user == "m_t1"
    base = f"chat:{{{PRINCIPAL}/{SESSION}}}"
    assert store.zrange(f"{base}:order", 0, -1) == ["m_t1"]
    assert store.hkeys(f"{base}:messages") == ["m_t1"]


async def test_a_session_is_free_after_its_answer(hands: Hands) -> None:
    turn = await hands.begin("t1")
    assert (await hands.try_begin("t2")).outcome == "BUSY"
    await hands.complete(turn, 2)
    assert (await hands.try_begin("t2")).outcome == "BEGUN"


async def test_a_queue_has_its_length_and_its_order(hands: Hands) -> None:
    turn = await hands.begin("t1")
    assert (await hands.begin("t2", on_busy="queue")).state == "queued"
    assert (await hands.begin("t3", on_busy="queue")).state == "queued"
    refused = await hands.try_begin("t4", on_busy="queue")
    assert (refused.outcome, refused.turn_id) == ("BUSY", "t1")
    assert (await hands.store.turns.claim(ref("t2"), "host:2")).outcome == "WAITING"
    assert (await hands.complete(turn, 2)).following == "t2"
    assert (await hands.try_begin("t5")).outcome == "BUSY"
    assert (await hands.store.turns.claim(ref("t3"), "host:2")).outcome == "WAITING"
    claim = await hands.store.turns.claim(ref("t2"), "host:2")
    assert (claim.outcome, claim.promoted) == ("CLAIMED", True)
    assert claim.turn is not None
    assert [number for number, _ in await hands.texts("t2")] == [1]
    assert (await hands.complete(claim.turn, 2)).following == "t3"


async def test_a_queued_turn_that_was_stopped_does_not_run(hands: Hands) -> None:
    turn = await hands.begin("t1")
    for turn_id in ("t2", "t3"):
        await hands.begin(turn_id, on_busy="queue")
    claim = await hands.store.turns.claim(ref("t2"), "host:2", force=True)
    assert claim.turn is not None
    assert (await hands.complete(claim.turn, 1, state="stopped")).outcome == "SEALED"
    assert (await hands.complete(turn, 2)).following == "t3"


async def test_a_key_is_one_turn_and_one_request_until_it_fails(hands: Hands) -> None:
    key = {"key": "k", "fingerprint": "f1"}
    turn = await hands.begin("t1", **key)
    again = await hands.try_begin("t2", **key)
    assert (again.outcome, again.turn_id) == ("KNOWN", "t1")
    other = await hands.try_begin("t2", key="k", fingerprint="f2")
    assert (other.outcome, other.turn_id) == ("MISMATCH", "t1")
    await hands.complete(turn, 2, state="failed", frees_key=True)
    assert (await hands.try_begin("t2", message_id="m_t1", **key)).outcome in ("BEGUN", "MESSAGE_EXISTS")
    assert await hands.store.turns.known(PRINCIPAL, SESSION, "k") != ("t1", "f1")


async def test_a_send_that_failed_is_repeated_in_its_place_and_one_that_was_answered_is_not(
    hands: Hands, store: redis.Redis
) -> None:
    keyed: dict[str, Any] = {"key": "k", "fingerprint": "f", "named": True}
    first = await hands.begin("t1", **keyed)
    failed = events.structured(events.FAILED, {"code": "internal"})
    seal = Seal("failed", 2, [failed], {}, "a_t1", b"", frees_key=True)
    assert (await hands.store.turns.seal(first, seal)).outcome == "SEALED"
    again = await hands.try_begin("t2", **keyed)
    assert (again.message_id, again.pos) == ("m_t1", first.pos)
    await hands.complete(await hands.get("t2"), 2)
    for name in store.scan_iter("*:idem:*"):  # a day later
        store.delete(name)
    later = await hands.try_begin("t3", **keyed)
    assert (later.message_id, later.pos) == ("m_t3", first.pos + 2)


async def test_a_session_is_deleted_as_it_is_known_and_not_below_an_answer(hands: Hands) -> None:
    turn = await hands.begin("t1")
    sessions = hands.store.sessions
    assert not await sessions.delete(PRINCIPAL, SESSION, ["t1"])
    await hands.complete(turn, 2)
    assert not await sessions.delete(PRINCIPAL, SESSION, [])
    assert await sessions.delete(PRINCIPAL, SESSION, ["t1"])
    assert await sessions.get(PRINCIPAL, SESSION) is None


# -- places and bills

PLACES = f"chat:{{{PRINCIPAL}}}:running"


async def test_exactly_as_many_turns_as_allowed_have_places(ledger: Ledger, store: redis.Redis) -> None:
    bounds = Bounds(running=2)
    assert [(await ledger.reserve(ref(f"t{n}"), 1, 1, bounds)).by for n in range(3)] == ["", "", "turns"]
    await ledger.settle(ref("t0"), "", {})
    assert (await ledger.reserve(ref("t3"), 1, 1, bounds)).by == ""
    store.zadd(PLACES, {"t1": 1})  # its worker died a while ago
    assert (await ledger.reserve(ref("t4"), 1, 1, bounds)).by == ""
    assert set(map(str, store.zrange(PLACES, 0, -1))) == {"t3", "t4"}


async def test_what_runs_counts_against_a_budget_before_it_is_used(ledger: Ledger) -> None:
    bounds = Bounds(day=1_000)
    assert (await ledger.reserve(ref("t1"), 100, 700, bounds)).tokens == 800
    assert (await ledger.reserve(ref("t2"), 100, 700, bounds)).by == "day"
    await ledger.settle(ref("t1"), "m", {"prompt_tokens": 100, "completion_tokens": 20})
    assert (await ledger.standing(PRINCIPAL)).used == {"month": 120, "day": 120, "minute": 120}
    assert (await ledger.reserve(ref("t2"), 100, 700, bounds)).tokens == 800


async def test_a_turn_is_billed_once_and_one_that_never_began_not_at_all(ledger: Ledger) -> None:
    for turn_id in ("t1", "t2"):
        await ledger.reserve(ref(turn_id), 10, 10, Bounds(running=5))
    used = {"prompt_tokens": 3, "completion_tokens": 7}
    assert [await ledger.settle(ref("t1"), "m", used) for _ in range(2)] == [True, False]
    assert await ledger.settle(ref("t2"), "", used)
    (booked,) = await ledger.usage(PRINCIPAL, 1)
    assert (booked.turns, booked.prompt_tokens, booked.completion_tokens) == (1, 3, 7)


async def test_a_place_is_held_for_turns_that_have_one(ledger: Ledger, store: redis.Redis) -> None:
    await ledger.reserve(ref("t1"), 1, 1, Bounds(running=5))
    await ledger.reserve(ref("t2"), 1, 1, Bounds())  # nothing bounds it
    store.zadd(PLACES, {"t1": 1})
    await ledger.hold([ref("t1"), ref("t2"), ref("t3")])
    assert store.zrange(PLACES, 0, -1) == ["t1"]
    assert float(str(store.zscore(PLACES, "t1"))) > now(store)


async def test_a_hundred_reservations_at_once_are_no_more_than_one_by_one(ledger: Ledger) -> None:
    asked = [ledger.reserve(ref(f"t{n}"), 1, 1, Bounds(running=7)) for n in range(100)]
    assert [found.by for found in await asyncio.gather(*asked)].count("") == 7
