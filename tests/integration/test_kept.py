"""What each script of the store keeps and for how long, what it gives back, and when it hands out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
import redis

from service import events
from service.config.settings import Settings
from service.errors import StoreUnavailable
from service.store.credentials import Credentials, new_key
from service.store.ledger import Bounds, Ledger
from service.store.store import Store
from service.store.windows import Charge, Window
from tests.support.redis import RedisServer
from tests.support.turns import PRINCIPAL, SESSION, Hands, ref

LOG, SESSION_TTL, EPHEMERAL, KEY_TTL = 5_000, 90_000, 900, 4_000


@pytest.fixture
async def hands(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Hands]:
    settings = Settings(
        _env_file=None,
        redis_url=redis_server.url,
        log_ttl_seconds=LOG,
        session_ttl_seconds=SESSION_TTL,
        ephemeral_ttl_seconds=EPHEMERAL,
        idempotency_ttl_seconds=KEY_TTL,
        max_queued_turns=3,
    )
    opened = Store(settings, "host:1")
    yield Hands(opened)
    await opened.close()


@pytest.fixture
def ledger(hands: Hands) -> Ledger:
    return hands.store.ledger


def lives(store: redis.Redis) -> dict[str, int]:
    """How long what a session has is kept, in s, by the end of its name; a few seconds are none."""
    names = [str(name) for name in store.scan_iter(f"chat:{{{PRINCIPAL}/{SESSION}}}:*")]
    return {
        name.partition("}:")[2].partition(":")[0]: round(int(str(store.ttl(name))) / 50) * 50
        for name in names
    }


def field(store: redis.Redis, turn_id: str, name: str) -> str | None:
    value = store.hget(f"chat:{{{PRINCIPAL}/{SESSION}}}:turn:{turn_id}", name)
    return None if value is None else str(value)


@pytest.mark.parametrize(("named", "ttl"), [(True, SESSION_TTL), (False, EPHEMERAL)])
async def test_a_session_lives_as_long_as_it_has_a_name_and_its_parts_with_it(
    hands: Hands, store: redis.Redis, named: bool, ttl: int
) -> None:
    turn = await hands.begin("t1", named=named, key="k", fingerprint="f")
    session = {"session": ttl, "order": ttl, "messages": ttl, "turns": ttl}
    begun = {**session, "turn": max(ttl, LOG), "log": LOG, "idem": KEY_TTL}
    assert lives(store) == begun
    for name in store.scan_iter(f"chat:{{{PRINCIPAL}/{SESSION}}}:*"):
        store.expire(name, 40)  # a long answer
    await hands.complete(turn, 2)
    ended = lives(store)
    assert {name: ended[name] for name in ("session", "order", "messages", "turn", "log")} == {
        name: begun[name] for name in ("session", "order", "messages", "turn", "log")
    }
    assert field(store, "t1", "params") is field(store, "t1", "started") is None
    assert field(store, "t1", "lease") == "0"


async def test_a_session_that_is_continued_by_its_name_has_one_from_then_on(
    hands: Hands, store: redis.Redis
) -> None:
    await hands.complete(await hands.begin("t1"), 2)
    assert lives(store)["session"] == EPHEMERAL
    await hands.complete(await hands.begin("t2", named=True), 2)
    assert lives(store)["session"] == SESSION_TTL
    await hands.begin("t3")
    assert lives(store)["session"] == SESSION_TTL


async def test_a_queued_turn_s_log_begins_when_its_time_has_come(hands: Hands, store: redis.Redis) -> None:
    first = await hands.begin("t1")
    await hands.begin("t2", on_busy="queue")
    store.hset(f"chat:{{{PRINCIPAL}/{SESSION}}}:turn:t2", "reader_at", 1)
    bell: Any = store.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    bell.subscribe(hands.store.log.name(ref("t2")))
    bell.get_message(timeout=5)
    await hands.complete(first, 2)
    claim = await hands.store.turns.claim(ref("t2"), "host:2")
    assert (claim.outcome, claim.promoted, claim.previous_owner) == ("CLAIMED", True, "host:1")
    assert claim.turn is not None
    assert [number for number, _ in await hands.texts("t2")] == [1]
    assert bell.get_message(timeout=5)["data"] == "1"
    assert int(str(field(store, "t2", "reader_at"))) > 1  # it is not abandoned since it was sent
    assert int(str(store.ttl(hands.store.log.name(ref("t2"))))) > LOG - 50
    bell.close()


async def test_a_turn_that_is_taken_over_keeps_its_log(hands: Hands, store: redis.Redis) -> None:
    turn = await hands.begin("t1")
    await hands.store.turns.release(turn)
    store.expire(hands.store.log.name(ref("t1")), 40)
    await hands.store.turns.claim(ref("t1"), "host:2")
    assert int(str(store.ttl(hands.store.log.name(ref("t1"))))) > LOG - 50


async def test_who_comes_to_a_running_turn_is_noted(hands: Hands, store: redis.Redis) -> None:
    await hands.begin("t1")
    await hands.begin("t2", on_busy="queue")
    store.hset(f"chat:{{{PRINCIPAL}/{SESSION}}}:turn:t1", "reader_at", 1)
    assert not await hands.store.leases.attended(ref("t1"))
    assert await hands.store.leases.attend([ref("t1"), ref("t2")]) == []
    assert await hands.store.leases.attended(ref("t1"))
    assert not await hands.store.leases.attended(ref("t2"))
    assert int(str(field(store, "t1", "reader_at"))) > 1
    store.hset(f"chat:{{{PRINCIPAL}/{SESSION}}}:turn:t1", "lease", 1)
    assert await hands.store.leases.attend([ref("t1")]) == [ref("t1")]


async def test_an_append_carries_what_the_turn_has_used(hands: Hands, store: redis.Redis) -> None:
    from service.store.log import Append

    turn = await hands.begin("t1")
    names = hands.store.log.names(turn.ref)
    wanted = Append(names, 1, turn.claim, 2, [events.delta("a")], ["tokens", 7, "shown", 1])
    assert await hands.store.log.append([wanted]) == [1]
    found = await hands.get("t1")
    assert (found.tokens, found.shown, found.last) == (7, True, 2)


async def test_a_log_that_is_gone_is_not_begun_in_the_middle(hands: Hands, store: redis.Redis) -> None:
    turn = await hands.begin("t1")
    store.delete(hands.store.log.name(ref("t1")))
    assert await hands.append(turn, 2, "one") == -2
    assert await hands.texts("t1") == []


async def test_a_stop_of_a_queued_turn_is_kept(hands: Hands, store: redis.Redis) -> None:
    await hands.begin("t1")
    await hands.begin("t2", on_busy="queue")
    noted = await hands.store.turns.stop(ref("t2"))
    assert noted is not None
    assert noted[0] == "queued"
    assert (await hands.get("t2")).stop
    assert await hands.store.turns.stop(ref("t9")) is None


async def test_a_session_goes_on_behind_a_turn_that_was_lost(hands: Hands, store: redis.Redis) -> None:
    await hands.begin("t1", key="k", fingerprint="f")
    for turn_id in ("t2", "t3"):
        await hands.begin(turn_id, on_busy="queue")
    free = hands.store.turns.free_session
    assert await free(ref("t1"), "k") == ("HELD", "")
    store.hset(f"chat:{{{PRINCIPAL}/{SESSION}}}:turn:t1", "lease", 1)
    assert await free(ref("t1"), "k") == ("ABANDONED", "")
    store.delete(f"chat:{{{PRINCIPAL}/{SESSION}}}:turn:t1")
    assert await free(ref("t1"), "k") == ("FREED", "t2")
    assert await hands.store.turns.known(PRINCIPAL, SESSION, "k") is None
    assert await free(ref("t1"), "k") == ("NOTHING", "")
    store.delete(f"chat:{{{PRINCIPAL}/{SESSION}}}:turn:t3")
    assert (await free(ref("t3")))[0] == "FREED"  # it was in the queue only
    store.delete(f"chat:{{{PRINCIPAL}/{SESSION}}}:turn:t2")
    assert await free(ref("t2")) == ("FREED", "")
    assert (await hands.try_begin("t4")).outcome == "BEGUN"


async def test_the_end_of_a_queued_turn_leaves_the_running_one_its_session(hands: Hands) -> None:
    await hands.begin("t1")
    queued = await hands.begin("t2", on_busy="queue")
    assert (await hands.complete(queued, 1, state="stopped")).following == ""
    assert (await hands.try_begin("t3")).outcome == "BUSY"


async def test_questions_and_answers_have_places_of_their_own(hands: Hands, store: redis.Redis) -> None:
    for turn_id in ("t1", "t2"):
        await hands.complete(await hands.begin(turn_id), 2)
    order = store.zrange(f"chat:{{{PRINCIPAL}/{SESSION}}}:order", 0, -1, withscores=True)
    assert order == [("m_t1", 2), ("a_t1", 3), ("m_t2", 4), ("a_t2", 5)]
    seeds = [("x", "user", b"{}"), ("y", "assistant", b"{}")]
    await hands.try_begin("t1", ref=ref("t1", "s2"), seeds=seeds)
    seeded = store.zrange(f"chat:{{{PRINCIPAL}/s2}}:order", 0, -1, withscores=True)
    assert seeded == [("x", 2), ("y", 5), ("m_t1", 6)]
    assert (await hands.try_begin("t3", seeds=seeds)).outcome == "HAS_HISTORY"
    assert (await hands.try_begin("t3", message_id="m_t1")).outcome == "MESSAGE_EXISTS"
    assert (await hands.try_begin("t3", mode="edit", message_id="a_t1")).outcome == "NO_MESSAGE"
    assert (await hands.try_begin("t3", ref=ref("t3", "s3"), must_exist=True)).outcome == "NO_SESSION"
    assert (await hands.try_begin("t3", on_busy="check")).outcome == "FREE"
    assert await hands.store.turns.get(ref("t3")) is None


async def test_what_is_due_later_is_handed_out_later_unless_another_clock_has_put_it(
    hands: Hands, store: redis.Redis
) -> None:
    leases = hands.store.leases
    await leases.schedule([ref("soon")], 5_000)
    assert await leases.due() == []
    await leases.schedule([ref("far")], 10_000_000)
    assert await leases.due() == [ref("far")]
    await leases.own(ref("mine"))
    owned = hands.store.keys.owned_by("host:1")
    assert store.smembers(owned) == {str(ref("mine"))}
    assert 86_000 < int(str(store.ttl(owned))) <= 86_400


async def test_a_begin_that_redis_reaches_too_late_begins_nothing(
    hands: Hands, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands.store.turns._clock, "after", lambda _: 1)  # ms since 1970
    with pytest.raises(StoreUnavailable):
        await hands.try_begin("t1")
    assert list(store.scan_iter(f"chat:{{{PRINCIPAL}/{SESSION}}}:*")) == []


async def test_a_session_that_is_busy_is_not_deleted(hands: Hands, store: redis.Redis) -> None:
    await hands.complete(await hands.begin("t1"), 2)
    store.hset(f"chat:{{{PRINCIPAL}/{SESSION}}}:session", "active", "t2")  # it begins at this moment
    assert not await hands.store.sessions.delete(PRINCIPAL, SESSION, ["t1"])
    assert await hands.store.sessions.get(PRINCIPAL, SESSION) is not None


async def test_a_reservation_may_be_repeated_and_is_held_once(ledger: Ledger, store: redis.Redis) -> None:
    bounds = Bounds(running=1, day=1_000)
    for _ in range(2):
        assert (await ledger.reserve(ref("t1"), 100, 300, bounds)).tokens == 400
    assert store.get(f"chat:{{{PRINCIPAL}}}:held") == "1 400"
    await ledger.settle(ref("t1"), "", {})
    assert store.get(f"chat:{{{PRINCIPAL}}}:held") == "0 0"
    for name in ("reserved", "running", "held"):
        assert store.ttl(f"chat:{{{PRINCIPAL}}}:{name}") != -1


async def test_a_budget_grants_what_it_has_and_says_how_long_there_is_none(ledger: Ledger) -> None:
    assert (await ledger.reserve(ref("t0"), 100, 10_000, Bounds(day=50))).wait is None  # it never fits
    assert (await ledger.reserve(ref("t1"), 100, 700, Bounds(day=1_000))).tokens == 800
    small = await ledger.reserve(ref("t2"), 10, 100, Bounds(day=1_000))
    assert small.tokens == 110
    held = await ledger.reserve(ref("t3"), 100, 700, Bounds(day=1_000))
    assert (held.by, held.wait) == ("day", 0.0)  # as soon as those that run have ended
    await ledger.settle(ref("t1"), "m", {"prompt_tokens": 100, "completion_tokens": 690})
    assert (await ledger.reserve(ref("t4"), 10, 700, Bounds(day=1_000))).by == "day"
    used_up = await ledger.reserve(ref("t5"), 10, 700, Bounds(day=800, minute=800))
    assert used_up.by == "day"
    assert used_up.wait is not None
    assert 60 < used_up.wait <= 86_400  # the longer of the two
    cut = await ledger.reserve(ref("t6"), 10, 9_000, Bounds(day=2_000))
    assert cut.tokens == 2_000 - 790 - 110


async def test_what_was_used_is_on_the_bill_by_its_kind_and_counts_until_its_period_ends(
    ledger: Ledger, store: redis.Redis
) -> None:
    await ledger.reserve(ref("t1"), 10, 10, Bounds(month=1_000))
    usage = {
        "prompt_tokens": 30,
        "completion_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    assert await ledger.settle(ref("t1"), "m", usage)
    (row,) = await ledger.usage(PRINCIPAL, 1)
    assert (row.turns, row.prompt_tokens, row.completion_tokens) == (1, 30, 12)
    assert (row.cached_tokens, row.reasoning_tokens) == (4, 5)
    standing = await ledger.standing(PRINCIPAL)
    assert standing.used == {"month": 42, "day": 42, "minute": 42}
    for period, ends in standing.resets_at.items():
        assert store.expiretime(f"chat:{{{PRINCIPAL}}}:budget:{period}") == ends
    day = next(store.scan_iter(f"chat:{{{PRINCIPAL}}}:usage:*"))
    assert int(str(store.ttl(day))) > 399 * 86_400


@pytest.mark.parametrize("shape", ["fixed", "moving"])
async def test_a_window_lets_so_many_in_and_ends(
    hands: Hands, store: redis.Redis, shape: Literal["fixed", "moving"]
) -> None:
    windows, found = hands.store.windows, []
    for _ in range(3):
        charge = Charge(PRINCIPAL, "sends", (Window(2, 60),), shape)
        found.append(windows.taken(await windows.take(charge)))
        name = next(store.scan_iter("*:limit:*"))
        if shape == "fixed" and len(found) == 1:
            store.pexpire(name, 30_000)  # half of it is over, and what follows makes it no longer
    assert [(passes, uses[0].used) for passes, uses in found] == [(True, 1), (True, 2), (False, 2)]
    assert 0 < found[2][1][0].reset <= (30 if shape == "fixed" else 60)
    assert 0 < int(str(store.pttl(name))) <= (30_000 if shape == "fixed" else 60_000)


@pytest.mark.parametrize("shape", ["fixed", "moving"])
async def test_one_send_is_charged_once_and_gets_its_own_place_back_once(
    hands: Hands, store: redis.Redis, shape: Literal["fixed", "moving"]
) -> None:
    windows = hands.store.windows

    def charge(by: str, once: str = "k") -> Charge:
        return Charge(PRINCIPAL, "sends", (Window(1, 60),), shape, once, by)

    async def take(by: str, once: str = "k") -> tuple[bool, int]:
        passes, uses = windows.taken(await windows.take(charge(by, once)))
        return passes, uses[0].used

    assert await take("a") == (True, 1)
    assert await take("b") == (True, 1)  # the same send, asked twice
    await windows.refund(charge("b"))  # whose place it is not
    assert await take("x", "other") == (False, 1)
    assert await take("c") == (True, 1)
    for _ in range(2):
        await windows.refund(charge("a"))
    assert await take("d") == (True, 1)
    await windows.forget(charge(""))
    assert await take("e") == (False, 1)


async def test_a_key_that_is_refused_again_and_again_is_tried_by_one_at_a_time(
    hands: Hands, store: redis.Redis
) -> None:
    pacing = hands.store.pacing
    name = pacing._circuit_key
    assert (await pacing.circuit()).reason == ""
    opened = []
    for _ in range(3):
        opened.append(await pacing.open_circuit("auth"))
        # Until it refuses calls it is shown, and whoever likes may call.
        told = [await pacing.circuit(), await pacing.may_probe(), await pacing.may_probe()]
        assert {one.refuses for one in told} == {opened[-1].refuses}
        assert {one.reason for one in told} == {"auth"}
    assert [one.refuses for one in opened] == [False, False, True]
    assert (await pacing.may_probe()).wait > 0
    store.hset(name, "until", 1)
    assert not (await pacing.may_probe()).refuses
    assert (await pacing.may_probe()).refuses  # somebody tries
    for seconds in (10, 20, 30, 30):
        store.hset(name, "until", 1)
        assert seconds - 1 < (await pacing.open_circuit("auth")).wait <= seconds
    assert 500 < int(str(store.ttl(name))) <= 600
    await pacing.close_circuit()
    assert (await pacing.circuit()).reason == ""


async def test_a_model_that_is_refused_is_told_until_its_time_is_over(
    hands: Hands, store: redis.Redis
) -> None:
    pacing = hands.store.pacing
    assert set(await pacing.refused("one", 60)) == {"one"}
    assert set(await pacing.refused("two", 60)) == {"one", "two"}
    store.hset(pacing._circuit_key, "unavailable one", 1)
    assert set(await pacing.unavailable()) == {"two"}
    assert await pacing.refused("two", 0) == {}


async def test_a_key_changes_only_while_it_works(hands: Hands, store: redis.Redis) -> None:
    keys: Credentials = hands.store.credentials
    text, credential = new_key("n")
    await keys.create(credential)
    expired = new_key("n", expires=int(time.time()) - 1)[1]
    await keys.create(expired)
    assert [await keys.rotate(key_id) for key_id in ("unknown", expired.id)] == [None, None]
    assert not await keys.revoke("unknown")
    assert await keys.get("unknown") is None
    new = await keys.rotate(credential.id, 60)
    assert new is not None
    found = await keys.get(credential.id)
    assert found is not None
    assert found.matches(new, found.rotated or 0)
    assert found.matches(text, found.rotated or 0)
    assert not found.matches(text, (found.rotated or 0) + 60)
    assert await keys.revoke(credential.id)
    assert await keys.rotate(credential.id) is None
    assert 29 * 86_400 < int(str(store.ttl(hands.store.keys.credential(credential.id)))) <= 30 * 86_400
    assert await keys.count() == 2


async def test_what_a_call_names_is_kept_as_such(hands: Hands, store: redis.Redis) -> None:
    sessions = hands.store.sessions
    assert not await sessions.update(PRINCIPAL, "none", {"title": "x"})
    assert await sessions.get(PRINCIPAL, "none") is None
    await hands.complete(await hands.begin("t1"), 2)
    assert await sessions.update(PRINCIPAL, SESSION, {"title": "x", "model": ""})
    assert {lives(store)[name] for name in ("session", "order", "messages", "turns")} == {SESSION_TTL}
    found = await sessions.get(PRINCIPAL, SESSION)
    assert found is not None
    assert (found.named, found.title) == (True, "x")
    assert await sessions.create(PRINCIPAL, "s2", {})
    assert not await sessions.create(PRINCIPAL, "s2", {})
    assert int(str(store.ttl(f"chat:{{{PRINCIPAL}/s2}}:session"))) > SESSION_TTL - 50
    await hands.try_begin("t5", ref=ref("t5", "s5"))
    assert not await sessions.create(PRINCIPAL, "s5", {})
    named = await sessions.get(PRINCIPAL, "s5")
    assert named is not None
    assert named.named
