"""Calls of the store, one by one: what they leave where they find nothing or no room, and what they tell."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import redis

from service.config.settings import Settings
from service.errors import StoreRefusesWrites, StoreUnavailable
from service.store import log as codes
from service.store.credentials import new_key
from service.store.ledger import Booking, Bounds, Need
from service.store.messages import Message
from service.store.store import Store
from service.store.turn_records import Begin, Seal
from service.store.windows import Charge, Window
from tests.support.redis import RedisServer
from tests.support.turns import PRINCIPAL, SESSION, Hands, ref


@pytest.fixture
async def hands(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Hands]:
    settings = Settings(
        _env_file=None,
        redis_url=redis_server.url,
        max_sessions_per_principal=10,
        max_stored_bytes_per_principal=10_000_000,
    )
    opened = Store(settings, "host:1")
    yield Hands(opened)
    await opened.close()


def key(name: str) -> str:
    return f"chat:{{{PRINCIPAL}/{SESSION}}}:{name}"


def everything(store: redis.Redis) -> dict[str, object]:
    return {name: store.dump(name) for name in cast("list[str]", store.keys("*"))}


async def test_what_is_asked_about_a_turn_that_is_gone_leaves_nothing_behind(
    hands: Hands, store: redis.Redis
) -> None:
    turn = await hands.begin("t1", named=True)
    store.flushdb()
    turns, leases = hands.store.turns, hands.store.leases
    assert await hands.append(turn, 2, "x") == codes.GONE
    assert (await hands.complete(turn, 2)).outcome == "GONE"
    assert (await turns.claim(turn.ref, "host:2")).outcome == "GONE"
    assert await turns.stop(turn.ref) is None
    assert await turns.release(turn) is False
    await turns.deliver(turn.ref)
    await turns.withdraw(turn.ref)
    assert await leases.attend([turn.ref]) == []
    assert await leases.renew([(turn, True)]) == [codes.GONE]
    assert await turns.free_session(turn.ref) == ("NOTHING", "")
    assert everything(store) == {}


async def test_a_full_store_takes_nothing_that_grows_and_all_that_ends_what_runs(
    hands: Hands, store: redis.Redis
) -> None:
    """What it refuses it has not begun to carry out."""
    opened, bounds = hands.store, Bounds(running=9, day=1_000_000)
    for turn_id in ("t1", "t2"):
        await opened.ledger.reserve(ref(turn_id), 10, 10, bounds)
    await hands.complete(await hands.begin("t1", named=True, keeps_versions=True), 2)
    await hands.complete(await hands.begin("t2", named=True), 2)
    item = Message("i", "user", "words", "", "completed", 1)
    charge = Charge(PRINCIPAL, "sends", (Window(9, 60),), "moving", "once", "me")
    assert opened.windows.taken(await opened.windows.take(charge))[0]
    sending = Begin(ref("t3", "new"), "append", "m", b"{}", {"model": "m"}, b"{}", {}, named=True, created=1)
    grows: dict[str, Callable[[], Awaitable[Any]]] = {
        "a send": lambda: opened.send_admission.admit(sending, Need(10, 10, bounds), None),
        "a begin": lambda: opened.turns.begin(sending, "host:1"),
        "an edit": lambda: hands.try_begin("t4", mode="edit", message_id="m_t1"),
        "one with versions": lambda: hands.try_begin(
            "t4", mode="edit", message_id="m_t1", keeps_versions=True
        ),
        "an item": lambda: opened.amendments.write(PRINCIPAL, "other", None, None, [item], newest=True),
        "an image": lambda: opened.images.put(ref("t6"), "0" * 64, b"picture"),
        "a session": lambda: opened.sessions.create(PRINCIPAL, "third", {}),
        "a title": lambda: opened.sessions.update(PRINCIPAL, SESSION, {"title": "x"}),
        "a charge": lambda: opened.account.charge(PRINCIPAL, SESSION, 1, new=False),
        "a webhook": lambda: opened.webhooks.put("t1", b"{}"),
    }
    await opened.sessions.create(PRINCIPAL, "other", {})
    busy = ref("t7", "busy")
    await hands.try_begin("t7", ref=busy)
    running = await opened.turns.get(busy)
    assert running is not None
    await opened.ledger.reserve(busy, 10, 10, bounds)
    await opened.leases.own(busy)
    before = everything(store)
    store.config_set("maxmemory", 1)
    try:
        for name, ask in grows.items():
            with pytest.raises(StoreRefusesWrites):
                await ask()
            assert everything(store) == before, name
        assert await opened.turns.stop(running.ref) is not None
        assert await opened.turns.release(running)
        settling = Booking("m", {"prompt_tokens": 1, "completion_tokens": 1})
        end = Seal("stopped", 2, [b"{}"], {}, "a_t7", b"")
        assert (await opened.turn_ends.finish(running, end, settling)).outcome == "SEALED"
        assert store.zscore("chat:turns:deadlines", str(busy)) is None  # nobody looks at it again
        assert not store.exists("chat:worker:host:1:turns")
        assert await opened.ledger.settle(ref("t2"), "m", {"prompt_tokens": 1, "completion_tokens": 1})
        await opened.windows.refund(charge)
        assert store.llen(f"chat:{{{PRINCIPAL}}}:limit:sends:moving:60") == 0
        assert await opened.turns.free_session(busy) == ("NOTHING", "")
    finally:
        store.config_set("maxmemory", 0)


async def test_what_is_told_again_is_told_after_its_pause(hands: Hands, store: redis.Redis) -> None:
    queue = hands.store.webhooks
    assert await queue.put("t1", b"{}")
    (told,) = await queue.take(8)
    assert (told.id, told.tries) == ("t1", 1)
    for pause in (100.0, 0.0):
        await queue.tried("t1", "", pause)
        due = float(str(store.zscore("chat:{webhooks}:due", "t1"))) / 1000 - time.time()
        assert pause - 5 < due < pause + 5
    assert [one.tries for one in await queue.take(8)] == [2]


async def test_how_long_a_turn_was_nobody_s_is_told_to_who_takes_it_over(
    hands: Hands, store: redis.Redis
) -> None:
    turn = await hands.begin("t1")
    store.hset(key("turn:t1"), "lease", int(time.time() * 1000) - 5_000)
    claim = await hands.store.turns.claim(turn.ref, "host:2")
    assert 5_000 <= claim.milliseconds_lapsed < 35_000
    assert claim.previous_owner == "host:1"


async def test_what_a_key_may_have_of_its_own_can_be_taken_away_again(hands: Hands) -> None:
    keys = hands.store.credentials
    _, made = new_key("n", limit_sends="5/minute", budget_tokens_per_day=7)
    await keys.create(made)
    await keys.create(replace(made, name="another of the same id"))  # it stays as it is
    assert await keys.get(made.id) == made
    assert await keys.change(made.id, {"limit_sends": None, "name": "m"})
    assert await keys.get(made.id) == replace(made, limit_sends=None, name="m")


async def test_a_call_that_was_under_way_makes_no_refusal_of_a_key_longer(
    hands: Hands, store: redis.Redis
) -> None:
    pacing = hands.store.pacing
    for _ in range(3):
        opened = await pacing.open_circuit("auth")
    assert opened.refuses
    until = store.hget(pacing._circuit_key, "until")
    assert (await pacing.open_circuit("auth")).refuses
    assert store.hget(pacing._circuit_key, "until") == until


async def test_a_turn_that_waited_through_a_loss_has_its_first_event_before_the_new_life(
    hands: Hands, store: redis.Redis
) -> None:
    first = await hands.begin("t1")
    await hands.begin("t2", on_busy="queue")
    store.hset(key("turn:t2"), "history", "f" * 40)
    await hands.complete(first, 2)
    turn = (await hands.store.turns.claim(ref("t2"), "host:2")).turn
    assert turn is not None
    assert (turn.kept, turn.opens_life) == (1, True)
    # Who takes it over after that goes on in the same life.
    assert await hands.append(turn, turn.last + 1, "x") == codes.OK
    assert await hands.store.turns.release(turn)
    later = (await hands.store.turns.claim(ref("t2"), "host:3")).turn
    assert later is not None
    assert (later.last, later.opens_life) == (turn.last + 1, False)


async def test_a_turn_that_waits_is_no_turn_that_is_gone(hands: Hands) -> None:
    first = await hands.begin("t1")
    await hands.begin("t2", on_busy="queue")
    assert await hands.store.turns.free_session(ref("t2")) == ("HELD", "")
    assert (await hands.complete(first, 2)).following == "t2"
    assert await hands.store.turns.free_session(ref("t2")) == ("ABANDONED", "")  # its time has come


async def test_what_refuses_a_send_ends_it_there(hands: Hands, store: redis.Redis) -> None:
    opened = hands.store
    sending = Begin(ref("t2"), "append", "m", b"{}", {"model": "m"}, b"{}", {}, named=True, created=1)
    admit = opened.send_admission.admit

    def announced() -> bool:
        return store.zscore("chat:turns:deadlines", str(ref("t2"))) is not None

    one, little = Bounds(running=1), Bounds(day=600)
    await opened.ledger.reserve(ref("t1"), 10, 10, one)
    found = await admit(sending, Need(10, 10, one), None)
    assert (found.reserved.by, found.begun, announced()) == ("turns", None, False)
    found = await admit(sending, Need(100, 5_000, little), None)  # its caller makes a shorter one of it
    assert (found.reserved.by, found.reserved.tokens, found.begun, announced()) == ("", 600, None, True)
    assert await opened.turns.get(ref("t2")) is None
    found = await admit(sending, Need(100, 500, little), None)
    assert found.begun is not None
    assert found.begun.outcome == "BEGUN"


async def test_a_seal_that_is_fenced_settles_nothing(hands: Hands, store: redis.Redis) -> None:
    opened, booking = hands.store, Booking("m", {"prompt_tokens": 1, "completion_tokens": 1})
    await opened.ledger.reserve(ref("t1"), 10, 10, Bounds(running=1))
    await opened.leases.own(ref("t1"))
    turn = await hands.begin("t1")
    await opened.turns.release(turn)
    now = (await opened.turns.claim(ref("t1"), "host:2")).turn
    assert now is not None
    ending = Seal("completed", 2, [b'{"type":"turn.completed","data":{}}'], {}, "a_t1", b"")
    assert (await opened.turn_ends.finish(turn, ending, booking)).outcome == "FENCED"
    assert await opened.ledger.unsettled(PRINCIPAL) == {"t1"}
    assert store.zscore("chat:turns:deadlines", str(ref("t1"))) is not None
    assert await opened.ledger.usage(PRINCIPAL, 1) == []
    sealed = await opened.turn_ends.finish(now, ending, booking)
    assert (sealed.outcome, await opened.ledger.unsettled(PRINCIPAL)) == ("SEALED", set())
    assert store.zscore("chat:turns:deadlines", str(ref("t1"))) is None
    assert store.smembers("chat:worker:host:1:turns") == set()
    stored = cast("dict[str, str]", store.hgetall(f"chat:{{{PRINCIPAL}}}:stored"))
    assert stored[SESSION] == sealed.stored.split()[0]


async def test_a_send_beyond_its_limit_or_its_time_takes_no_place(hands: Hands, store: redis.Redis) -> None:
    opened = hands.store
    sending = Begin(ref("t2"), "append", "m", b"{}", {"model": "m"}, b"{}", {}, named=True, created=1)
    need, charge = Need(10, 10, Bounds(running=1)), Charge(PRINCIPAL, "sends", (Window(1, 60),), "fixed")
    await opened.sessions.create(PRINCIPAL, SESSION, {})
    look = opened.send_admission.read_snapshot
    assert (await look(PRINCIPAL, SESSION, 1, 1, charge)).session is not None
    assert (await look(PRINCIPAL, SESSION, 1, 1, charge)).session is None
    found = await opened.send_admission.admit(sending, need, charge)
    assert (found.charged[0], found.begun, await opened.ledger.unsettled(PRINCIPAL)) == (0, None, set())
    opened.clock._ahead = 1.0 - time.monotonic()  # long ago, by the clock of Redis
    with pytest.raises(StoreUnavailable):
        await opened.send_admission.admit(sending, need, None)
    assert await opened.ledger.unsettled(PRINCIPAL) == set()
    assert await opened.turns.get(ref("t2")) is None


async def test_a_session_whose_only_turn_never_began_is_kept_by_nobody(hands: Hands) -> None:
    opened = hands.store
    await opened.ledger.reserve(ref("t1"), 1, 1, Bounds(), 500)
    assert (await opened.account.kept(PRINCIPAL)).sessions == 1
    await opened.ledger.settle(ref("t1"), "", {})
    kept = await opened.account.kept(PRINCIPAL)
    assert (kept.sessions, kept.bytes) == (0, 0)
