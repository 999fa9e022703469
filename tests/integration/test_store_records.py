"""Leases, the ledger, keys and lists in the store, call by call: for how long, of whom, and how much."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import cast

import pytest
import redis

from service.config.settings import Settings
from service.money import Amount, Price
from service.store import log as codes
from service.store.credentials import new_key
from service.store.ledger import Booking, Bounds
from service.store.store import Store
from service.store.turn_records import Seal
from tests.support.redis import RedisServer
from tests.support.turns import PRINCIPAL, SESSION, Hands, ref


@pytest.fixture
async def hands(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Hands]:
    opened = Store(Settings(_env_file=None, redis_url=redis_server.url), "host:1")
    yield Hands(opened)
    await opened.close()


def key(name: str) -> str:
    return f"chat:{{{PRINCIPAL}/{SESSION}}}:{name}"


async def test_a_turn_is_announced_looked_at_and_struck_off_where_its_owner_is_named(
    hands: Hands, store: redis.Redis, redis_server: RedisServer
) -> None:
    leases, other = hands.store.leases, Store(hands.store.settings, "host:2")
    for turn_id in ("t1", "t2", "t3"):
        await leases.own(ref(turn_id))
    assert await leases.due() == []  # each a lease and a bit ahead
    await other.leases.disown(ref("t1"), "host:1")
    assert store.smembers("chat:worker:host:1:turns") == {str(ref("t2")), str(ref("t3"))}
    await leases.forget(ref("t2"))
    assert store.smembers("chat:worker:host:1:turns") == {str(ref("t3"))}
    assert set(cast("list[str]", store.zrange("chat:turns:deadlines", 0, -1))) == {
        str(ref("t1")),
        str(ref("t3")),
    }
    await leases.schedule([ref("t3")], 0)
    assert await leases.due() == [ref("t3")]
    await other.close()


async def test_readers_hear_which_of_their_turns_nobody_runs(hands: Hands, store: redis.Redis) -> None:
    for turn_id in ("t1", "t2"):
        await hands.try_begin(turn_id, ref=ref(turn_id, turn_id))
    store.hset(f"chat:{{{PRINCIPAL}/t2}}:turn:t2", "lease", 1)
    refs = [ref("t1", "t1"), ref("t2", "t2"), ref("gone")]
    assert await hands.store.leases.attend(refs) == [ref("t2", "t2")]


async def test_an_orphan_is_one_after_the_seconds_that_are_asked_for(
    hands: Hands, store: redis.Redis
) -> None:
    turn = await hands.begin("t1")
    renew = hands.store.leases.renew
    for seconds, code in ((6.0, codes.OK), (4.0, codes.ORPHAN), (None, codes.OK)):
        store.hset(key("turn:t1"), "reader_at", int(time.time() * 1000) - 5_000)
        assert await renew([(turn, False)], seconds) == [code]


async def test_what_running_turns_have_reserved_is_told_in_tokens_and_in_money(
    hands: Hands, store: redis.Redis
) -> None:
    price = Price("USD", 1_000_000, 0, 2_000_000)  # picos: 1,000 and 2,000 nanos a token
    bounds = Bounds(running=9, day=10_000, day_money=10**12, month_money=10**12, price=price)
    ledger = hands.store.ledger
    for turn_id in ("t1", "t2", "t3"):
        await ledger.reserve(ref(turn_id), 10, 20, bounds)
    store.zadd(f"chat:{{{PRINCIPAL}}}:running", {"t3": 1})  # its worker is dead
    standing = await ledger.standing(PRINCIPAL)
    assert (standing.reserved, standing.money_reserved) == (60, 2 * 50_000)
    await ledger.settle(ref("t1"), "m", {"prompt_tokens": 3, "completion_tokens": 4}, cost=Amount(11_000))
    standing = await ledger.standing(PRINCIPAL)
    assert (standing.reserved, standing.money_reserved) == (30, 50_000)
    assert standing.used == {"month": 7, "day": 7, "minute": 7}
    assert standing.spent == {"month": 11_000, "day": 11_000}
    assert (await ledger.standing(PRINCIPAL, "EUR")).spent == {"month": 0, "day": 0}


async def test_who_has_used_something_is_noted_each_day_anew(hands: Hands, store: redis.Redis) -> None:
    ledger = hands.store.ledger
    for date, noted in (("2026-01-01", True), ("2026-01-01", False), ("2026-01-02", True)):
        await ledger.note_booked(PRINCIPAL, Booking("m", {}, date=date))
        assert (store.zscore("chat:usage:principals", PRINCIPAL) is not None) == noted
        store.delete("chat:usage:principals")


async def test_keys_and_secrets_end_and_stay_as_they_are_to(
    hands: Hands, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    month, now = 30 * 86_400, int(time.time())
    keys = hands.store.credentials
    for expires in (None, now + 500):
        _, made = new_key("n", expires=expires)
        await keys.create(made)
        name = f"chat:{{credentials}}:{made.id}"
        left = int(str(store.ttl(name)))
        assert left == -1 if expires is None else month + 400 < left <= month + 500
        await keys.revoke(made.id)
        assert month - 60 < int(str(store.ttl(name))) <= month
    amendments = hands.store.amendments
    assert await amendments.use_key(PRINCIPAL, SESSION, "k", "one") == "one"
    assert await amendments.use_key(PRINCIPAL, SESSION, "k", "other") == "one"
    entry = hands.store.keys.session(PRINCIPAL, SESSION).idempotency("k")
    assert 0 <= hands.store.settings.idempotency_ttl_seconds - int(str(store.ttl(entry))) < 60
    secret, get = await keys.secret(), keys._redis.get
    early = [True]

    async def before(name: str) -> bytes | None:
        """As by a replica that has asked before the other one had made it."""
        return None if early and early.pop() else await get(name)

    monkeypatch.setattr(keys._redis, "get", before)
    assert await keys.secret() == secret


async def test_an_image_names_nothing_whatever_its_bytes_say(hands: Hands) -> None:
    digest = "0" * 64
    images = hands.store.images
    await hands.complete(await hands.begin("t1", named=True), 2)
    assert await images.put(ref("t2"), digest, f'{{"ref":"{digest}"}}'.encode())
    assert (await images.unnamed(PRINCIPAL, SESSION))[0] == {digest}


async def test_a_list_of_sessions_ends_and_names_none_of_the_past(hands: Hands, store: redis.Redis) -> None:
    name, sessions = f"chat:{{{PRINCIPAL}}}:sessions", hands.store.sessions
    store.zadd(name, {"past": 1})
    await sessions.list_it(PRINCIPAL, SESSION)
    assert store.zrange(name, 0, -1) == [SESSION]
    assert 0 <= hands.store.settings.session_ttl_seconds - int(str(store.ttl(name))) < 60


async def test_sessions_of_one_moment_are_each_on_a_page(hands: Hands, store: redis.Redis) -> None:
    for name in "abcde":
        await hands.store.sessions.create(PRINCIPAL, name, {})
    now = int(time.time() * 1000)
    store.zadd(f"chat:{{{PRINCIPAL}}}:sessions", dict.fromkeys("abcde", now))
    store.delete(f"chat:{{{PRINCIPAL}/d}}:session", f"chat:{{{PRINCIPAL}/b}}:session")
    seen, cursor = [], None
    for _ in range(3):
        page, cursor = await hands.store.sessions.page(PRINCIPAL, 1, cursor)
        seen += [one.id for one in page]
    assert seen == ["e", "c", "a"]


async def test_a_delete_takes_nothing_of_what_runs_and_all_of_what_has_ended(
    hands: Hands, store: redis.Redis
) -> None:
    sessions = hands.store.sessions
    turn = await hands.begin("t1", named=True, key="k", fingerprint="f")
    assert not await sessions.delete(PRINCIPAL, SESSION, ["t1"])
    assert (await hands.get("t1")).state == "running"
    await hands.complete(turn, 2)
    assert await sessions.delete(PRINCIPAL, SESSION, ["t1"])
    assert list(store.scan_iter(f"chat:{{{PRINCIPAL}/{SESSION}}}:*")) == []


async def test_a_begin_that_is_repeated_says_that_more_may_have_been_cut_off(hands: Hands) -> None:
    begun = [await hands.try_begin("t1") for _ in range(2)]
    assert [(one.outcome, one.cut) for one in begun] == [("BEGUN", False), ("BEGUN", True)]


@pytest.mark.parametrize("keeps", [True, False])
async def test_versions_are_kept_of_what_is_to_be_kept(hands: Hands, keeps: bool) -> None:
    await hands.complete(await hands.begin("t1", named=True), 2)
    await hands.begin("t2", mode="edit", message_id="m_t1", keeps_versions=keeps)
    assert len(await hands.store.versions.all(PRINCIPAL, SESSION)) == int(keeps)


async def test_what_is_chosen_leaves_as_many_versions_as_the_setting_has_now(
    hands: Hands, redis_server: RedisServer
) -> None:
    await hands.complete(await hands.begin("t1", named=True), 2)
    for number in range(2, 6):
        wanted = {"mode": "regenerate", "message_id": "", "message": b"", "keeps_versions": True}
        await hands.complete(await hands.begin(f"t{number}", **wanted), 2)
    few = Store(hands.store.settings.model_copy(update={"max_versions": 2}), "host:1")
    version = (await few.versions.all(PRINCIPAL, SESSION))[-1]
    assert (await few.versions.choose(PRINCIPAL, SESSION, version.id))[0] == "CHOSEN"
    assert len(await few.versions.all(PRINCIPAL, SESSION)) == 2
    await few.close()


async def test_sessions_that_are_gone_make_no_page_leave_out_others(hands: Hands, store: redis.Redis) -> None:
    names = [f"n{number:02}" for number in range(40)]
    for name in names:
        await hands.store.sessions.create(PRINCIPAL, name, {})
    gone = set(names[-10:]) | set(names[5:10])
    store.delete(*(f"chat:{{{PRINCIPAL}/{name}}}:session" for name in gone))
    page, cursor = await hands.store.sessions.page(PRINCIPAL, 30, None)
    assert ({one.id for one in page}, cursor) == (set(names) - gone, None)


def order(store: redis.Redis) -> list[str]:
    return cast("list[str]", store.zrange(key("order"), 0, -1))


async def ended(hands: Hands, *turn_ids: str) -> None:
    for turn_id in turn_ids:
        await hands.complete(await hands.begin(turn_id, named=True), 2)


@pytest.mark.parametrize(
    ("before", "left"),
    [
        (["m_t1"], ["m_t1", "a_t1"]),  # with the answer, of which a client may know nothing
        (["a_t1"], ["m_t1", "a_t1"]),
        (["unknown", "a_t2", "a_t1"], ["m_t1", "a_t1", "m_t2", "a_t2"]),
        (["unknown", ""], []),
    ],
)
async def test_a_message_stands_where_its_client_has_it(
    hands: Hands, store: redis.Redis, before: list[str], left: list[str]
) -> None:
    await ended(hands, "t1", "t2")
    begun = await hands.try_begin("t3", named=True, before=before)
    assert (begun.outcome, order(store)) == ("BEGUN", [*left, "m_t3"])
    assert begun.cut is (len(left) < 4)


async def test_an_answer_is_no_question_and_is_gone_on_with_as_it_was_read(hands: Hands) -> None:
    first = await hands.begin("t1", named=True)
    said = b'{"role":"assistant","content":"x","turn_id":"t1"}'
    await hands.store.turns.seal(first, Seal("completed", 2, [b"{}"], {}, "a_t1", said))
    assert (await hands.try_begin("t2", message_id="a_t1")).outcome == "MESSAGE_EXISTS"
    wanted = {"mode": "continue", "message_id": "a_t1", "message": said}
    for last_turn, outcome in (("", "NO_MESSAGE"), ("other", "NO_MESSAGE"), ("t1", "BEGUN")):
        assert (await hands.try_begin("t2", last_turn=last_turn, **wanted)).outcome == outcome


async def test_a_history_that_is_known_already_is_not_told_twice(hands: Hands, store: redis.Redis) -> None:
    await ended(hands, "t1")
    seeds = [("s1", "user", b'{"role":"user"}')]
    await hands.begin("t2", seeds=seeds, seeds_required=False)
    assert order(store) == ["m_t1", "a_t1", "m_t2"]


async def test_a_repeat_of_a_send_that_failed_takes_the_place_of_its_partial_answer(
    hands: Hands, store: redis.Redis
) -> None:
    keyed = {"key": "k", "fingerprint": "f", "named": True}
    first = await hands.begin("t1", **keyed)
    part = b'{"role":"assistant","content":"a part"}'
    await hands.store.turns.seal(first, Seal("failed", 2, [b"{}"], {}, "a_t1", part, frees_key=True))
    assert order(store) == ["m_t1", "a_t1"]
    again = await hands.try_begin("t2", **keyed)
    assert (again.outcome, again.message_id, order(store)) == ("BEGUN", "m_t1", ["m_t1"])


async def test_what_a_turn_held_is_given_back_whole(hands: Hands, store: redis.Redis) -> None:
    ledger, bounds = hands.store.ledger, Bounds(running=5, day_money=10**12, price=Price("USD", 10, 10, 20))
    for turn_id in ("t1", "t2"):
        assert (await ledger.reserve(ref(turn_id), 1_000, 1_000, bounds)).tokens == 2_000
    assert store.get(f"chat:{{{PRINCIPAL}}}:held") == "2 4000 60"
    await ledger.settle(ref("t1"), "m", {"prompt_tokens": 1, "completion_tokens": 1}, cost=Amount(7))
    assert store.get(f"chat:{{{PRINCIPAL}}}:held") == "1 2000 30"
    await ledger.settle(ref("t2"), "", {})
    assert store.get(f"chat:{{{PRINCIPAL}}}:held") == "0 0"
