"""What each change of a session does beside itself: what is counted, until when that counts, who is told.

A fault here is seen by nobody for weeks: then an account is full that holds little, or one is never full.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast

import pytest
import redis

from service.config.settings import Settings
from service.store.account import session_bytes
from service.store.ledger import Bounds
from service.store.messages import Message
from service.store.store import Store
from service.store.turn_records import Seal
from tests.support.redis import RedisServer
from tests.support.turns import PRINCIPAL, SESSION, Hands, ref

SESSION_TTL, EPHEMERAL, LOG = 900_000, 900, 90_000
_LARGE: Final = b'{"role":"user","content":"%s"}' % (b"x" * 300)


@pytest.fixture
async def hands(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Hands]:
    settings = Settings(
        _env_file=None,
        redis_url=redis_server.url,
        session_ttl_seconds=SESSION_TTL,
        ephemeral_ttl_seconds=EPHEMERAL,
        log_ttl_seconds=LOG,
        max_sessions_per_principal=10,
        max_stored_bytes_per_principal=10_000_000,
        max_versions=2,
    )
    opened = Store(settings, "host:1")
    yield Hands(opened)
    await opened.close()


def key(name: str, session: str = SESSION) -> str:
    return f"chat:{{{PRINCIPAL}/{session}}}:{name}"


def counted(store: redis.Redis, session: str = SESSION) -> int:
    return int(str(store.hget(key("session", session), "bytes") or 0))


def kept_in(store: redis.Redis, session: str = SESSION) -> dict[str, str]:
    return cast("dict[str, str]", store.hgetall(key("messages", session)))


def weight(store: redis.Redis, session: str = SESSION) -> int:
    """Of what lies in the messages' key, by the rule of the scripts, and of keys that the session names."""
    size = 0
    for name, body in kept_in(store, session).items():
        long = len(body.encode())
        size += long + 200 if name.startswith("\x01") else long + 2 * len(name.encode()) + 160
    named = str(store.hget(key("session", session), "keyed") or "")
    return size + 300 * named.count("\n")


def said(number: int, role: str = "user", text: str = "a few words") -> Message:
    return Message(f"i{number}", role, text, "", "completed", number)


class Steps:
    """What can be done to one session, in order; `ended` ends what runs with an answer."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._store = hands.store

    async def ended(self, turn_id: str, **wanted: Any) -> None:
        turn = await self._hands.begin(turn_id, keeps_versions=True, **wanted)
        await self._hands.complete(turn, 2)

    async def seeded(self) -> None:
        seeds = [("s1", "user", b'{"role":"user"}'), ("s2", "assistant", _LARGE), ("s1", "user", _LARGE)]
        await self.ended("t1", seeds=seeds)

    async def gone_on(self) -> None:
        """An answer that goes on stands where it stood, and is longer."""
        turn = await self._hands.begin("t10", mode="continue", message_id="a_t1", message=_LARGE)
        longer = b'{"role":"assistant","content":"%s"}' % (b"y" * 700)
        ending = Seal("completed", 2, [b'{"type":"turn.completed","data":{}}'], {}, "a_t1", longer)
        assert (await self._store.turns.seal(turn, ending)).outcome == "SEALED"

    async def asked_again(self) -> None:
        """A question whose answer failed comes again, and is longer."""
        turn = await self._hands.begin("t2")
        await self._store.turns.seal(turn, _nothing_said())
        await self.ended("t3", message_id="m_t2", message=_LARGE)

    async def edited(self) -> None:
        await self.ended("t4", mode="edit", message_id="m_t2", message=b'{"role":"user","content":"e"}')

    async def regenerated(self) -> None:
        for number in range(5, 9):  # more often than versions are kept
            await self.ended(f"t{number}", mode="regenerate", message_id="", message=b"")

    async def chosen(self) -> None:
        (version, *_) = await self._store.versions.all(PRINCIPAL, SESSION)
        assert (await self._store.versions.choose(PRINCIPAL, SESSION, version.id))[0] == "CHOSEN"

    async def added(self, first: int = 1, keyed: tuple[str, str, bytes] | None = None) -> None:
        newest = await self._store.amendments.newest(PRINCIPAL, SESSION)
        assert newest is not None
        more = [said(first), said(first + 1, "assistant"), said(first + 2, "system")]
        write = self._store.amendments.write
        assert await write(PRINCIPAL, SESSION, newest, newest[0], more, newest=True, keyed=keyed) == "DONE"

    async def changed(self) -> None:
        for text in ("longer than it was before", ""):
            known = await self._store.amendments.read(PRINCIPAL, SESSION, "i2")
            made = said(2, "assistant", text) if text else None
            assert await self._store.amendments.write(PRINCIPAL, SESSION, known, made) == "DONE"

    async def added_with_a_key(self) -> None:
        await self.added(4, ("k", "fingerprint", b"[]"))

    async def shown_an_image(self) -> None:
        assert await self._store.images.put(ref("t20"), "0" * 64, b"picture")
        assert not await self._store.images.put(ref("t21"), "0" * 64, b"picture")
        assert await self._store.images.put(ref("t20"), "1" * 64, b"another picture")

    async def rid_of_an_image(self) -> None:
        assert await self._store.images.release(ref("t20"), "1" * 64, begun=False) == 15 + 2 * 65 + 160
        assert await self._store.images.release(ref("t20"), "0" * 64, begun=False) == 0  # another holds it


def _nothing_said() -> Seal:
    return Seal("failed", 2, [b'{"type":"turn.failed","data":{}}'], {}, "a_t2", b"")


async def test_a_session_counts_what_it_holds_whatever_has_changed_it(
    hands: Hands, store: redis.Redis
) -> None:
    steps = Steps(hands)
    done: list[Callable[[], Awaitable[None]]] = [
        steps.seeded,
        steps.gone_on,
        steps.asked_again,
        steps.edited,
        steps.regenerated,
        steps.chosen,
        steps.added,
        steps.changed,
        steps.added_with_a_key,
        steps.shown_an_image,
        steps.rid_of_an_image,
    ]
    for step in done:
        await step()
        assert counted(store) == weight(store) > 0, step.__name__
        placed = set(cast("list[str]", store.zrange(key("order"), 0, -1)))
        assert placed == {name for name in kept_in(store) if name[0] not in "\x01\x02"}, step.__name__


async def test_a_session_that_was_not_counted_is_measured_when_it_is_written_to(
    hands: Hands, store: redis.Redis
) -> None:
    """Workers of before the field `bytes` may run beside."""
    turn = await hands.begin("t1", named=True, message=_LARGE)
    store.hdel(key("session"), "bytes")
    measured = int(str(store.memory_usage(key("messages"), samples=0)))
    await hands.complete(turn, 2)
    answer = len(kept_in(store)["a_t1"]) + 2 * len("a_t1") + 160
    at_turn = int(str(store.memory_usage(key("turn:t1"))))
    assert measured + answer < counted(store) < measured + answer + 2 * at_turn
    store.hdel(key("session"), "bytes")
    measured = int(str(store.memory_usage(key("messages"), samples=0)))
    await hands.begin("t2", named=True, message=_LARGE)
    assert counted(store) == measured + len(_LARGE) + 2 * len("m_t2") + 160


async def test_a_seal_tells_what_the_session_and_the_log_hold_and_the_turn_keeps_that(
    hands: Hands, store: redis.Redis
) -> None:
    texts = {"title": "t" * 30, "system_prompt": "s" * 500, "metadata": "m" * 70}
    await hands.store.sessions.create(PRINCIPAL, SESSION, texts)
    turn = await hands.begin("t1", named=True)
    store.hset(key("session"), "updated", 1)
    before = int(time.time() * 1000)
    sealed = await hands.complete(turn, 2)
    size, lives, logs, _, updated = map(int, sealed.stored.split())
    assert size == counted(store) + session_bytes(texts)
    assert (lives, logs) == (SESSION_TTL, int(str(store.memory_usage(key("log:t1")))) + 300)
    assert int(str(store.hget(key("session"), "updated"))) == updated >= before
    assert (await hands.get("t1")).stored == sealed.stored
    other = await hands.complete(turn, 2, state="stopped")
    assert other.outcome == "FENCED"  # it has ended, and otherwise


def left(end: float) -> int:
    return round((end / 1000 - time.time()) / 50) * 50


def account(store: redis.Redis) -> dict[str, tuple[int, int]]:
    """What counts, by item: its bytes and for how many s more (in steps of 50), of logs the hour's end.

    The sums are right.
    """
    sizes = cast("dict[str, str]", store.hgetall(f"chat:{{{PRINCIPAL}}}:stored"))
    ends = cast(
        "list[tuple[str, float]]", store.zrange(f"chat:{{{PRINCIPAL}}}:stored_until", 0, -1, withscores=True)
    )
    total, sessions = int(sizes.pop("=", 0)), int(sizes.pop("#", 0))
    found = {item: (int(sizes[item]), int(end / 1000) if item[0] == "@" else left(end)) for item, end in ends}
    assert sizes.keys() == found.keys()
    assert total == sum(size for size, _ in found.values())
    assert sessions == sum(item[0] not in "/@" for item in found)
    return found


async def test_what_counts_ends_when_what_it_is_for_does(hands: Hands, store: redis.Redis) -> None:
    ledger = hands.store.ledger
    await ledger.reserve(ref("t1"), 0, 0, Bounds(), 700, named=False)
    assert not await hands.store.account.drop_gone(PRINCIPAL, [SESSION])  # it is about to begin
    assert account(store) == {SESSION: (0, EPHEMERAL), "/t1": (700, 3600)}
    sealed = await hands.complete(await hands.begin("t1"), 2)
    await ledger.settle(ref("t1"), "m", {}, sealed.stored)
    bytes_, lives, logs, hour, _ = map(int, sealed.stored.split())
    assert lives == EPHEMERAL
    assert hour == (time.time() + LOG) // 3600 or time.time() % 3600 < 60
    log = (logs, (hour + 1) * 3600)
    assert account(store) == {SESSION: (bytes_, EPHEMERAL), f"@{hour}": log}
    # Its name has come: it lasts as long as on the list. A send without a name makes that no shorter.
    await hands.store.sessions.list_it(PRINCIPAL, SESSION)
    await ledger.reserve(ref("t2"), 0, 0, Bounds(), 1, named=False)
    assert account(store) == {SESSION: (bytes_, SESSION_TTL), "/t2": (1, 3600), f"@{hour}": log}
    await ledger.settle(ref("t2"), "", {})  # it has not begun
    assert await hands.store.account.charge(PRINCIPAL, SESSION, 50, new=False) is None
    assert await hands.store.account.charge(PRINCIPAL, SESSION, 50, new=True) is None
    assert await hands.store.account.charge(PRINCIPAL, "other", 50, new=True) is None
    assert account(store) == {
        SESSION: (bytes_ + 50, SESSION_TTL),
        "other": (50, SESSION_TTL),
        f"@{hour}": log,
    }
    await hands.store.account.free(PRINCIPAL, [SESSION], [sealed.stored])
    assert account(store) == {"other": (50, SESSION_TTL)}


async def test_whoever_has_a_session_open_is_told_of_each_change_at_once(
    hands: Hands, store: redis.Redis
) -> None:
    bell: Any = store.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    bell.subscribe(key("session"))
    bell.get_message(timeout=5)
    steps, sessions = Steps(hands), hands.store.sessions
    first, second = await hands.begin("t1", named=True), None
    assert bell.get_message(timeout=5), "begun"

    async def queued() -> None:
        nonlocal second
        second = await hands.begin("t2", on_busy="queue")

    async def freed() -> None:
        """What it is busy with is gone."""
        store.delete(key("turn:t2"))
        assert await hands.store.turns.free_session(ref("t2")) == ("FREED", "")

    async def edited() -> None:
        await steps.ended("t3", mode="edit", message_id="m_t1", message=_LARGE)

    async def titled() -> None:
        assert await sessions.give_title(ref("t3"), "title")

    async def updated() -> None:
        assert await sessions.update(PRINCIPAL, SESSION, {"title": "other"})

    async def deleted() -> None:
        assert await sessions.delete(PRINCIPAL, SESSION, ["t1", "t2", "t3"])

    async def sealed() -> None:
        await hands.complete(first, 2)

    changes: list[Callable[[], Awaitable[None]]] = [
        queued,
        sealed,
        freed,
        edited,
        titled,
        updated,
        steps.chosen,
        steps.added,
        steps.changed,
        deleted,
    ]
    for change in changes:
        while bell.get_message(timeout=0):
            pass
        await change()
        assert bell.get_message(timeout=5), change.__name__
    bell.close()


async def test_what_is_amended_is_what_its_caller_has_read(hands: Hands) -> None:
    write = hands.store.amendments.write
    assert await write(PRINCIPAL, SESSION, None, None, [said(1)], newest=True) == "NO_SESSION"
    turn = await hands.begin("t1", named=True)
    assert await write(PRINCIPAL, SESSION, None, None, [said(1)], newest=True) == "BUSY"
    await hands.complete(turn, 2)
    steps = Steps(hands)
    await steps.added()
    read = hands.store.amendments.read
    newest, older = await read(PRINCIPAL, SESSION, "i3"), await read(PRINCIPAL, SESSION, "i1")
    assert newest is not None
    assert older is not None
    longer = (newest[0], newest[1] + 1)
    for known in (None, older, longer):
        changed = known[0] if known else None
        assert await write(PRINCIPAL, SESSION, known, changed, [said(4)], newest=True) == "CHANGED"
    keyed = ("k", "fingerprint", b"[]")
    added = [said(4)]
    assert await write(PRINCIPAL, SESSION, newest, newest[0], added, newest=True, keyed=keyed) == "DONE"
    newest = await hands.store.amendments.newest(PRINCIPAL, SESSION)
    assert newest is not None
    assert newest[0].id == "i4"
    assert await write(PRINCIPAL, SESSION, newest, newest[0], [said(5)], keyed=keyed) == "CHANGED"
    places = [await hands.store.sessions.place(PRINCIPAL, SESSION, f"i{n}") for n in range(1, 6)]
    assert places == [4, 5, 7, 8, None]


async def test_who_asks_behind_an_answer_that_goes_on_waits_and_cuts_off_nothing(hands: Hands) -> None:
    await hands.complete(await hands.begin("t1", named=True), 2)
    more = await hands.begin(
        "t2", mode="continue", message_id="a_t1", last_turn="", message=b'{"role":"assistant"}'
    )
    assert (await hands.try_begin("t3", before=["a_t1"], on_busy="queue")).state == "queued"
    await hands.complete(more, 2)


async def test_a_question_that_is_being_answered_is_not_asked_once_more(hands: Hands) -> None:
    await hands.begin("t1", named=True)
    again = await hands.try_begin("t2", message_id="m_t1", on_busy="queue")
    assert again.outcome == "MESSAGE_EXISTS"


async def test_a_session_whose_hash_was_evicted_goes_on_behind_what_is_there(
    hands: Hands, store: redis.Redis
) -> None:
    for turn_id in ("t1", "t2"):
        await hands.complete(await hands.begin(turn_id, named=True), 2)
    store.delete(key("session"))
    begun = await hands.try_begin("t3", named=True)
    assert (begun.outcome, begun.pos, begun.turns) == ("BEGUN", 7, 3)


async def test_what_stands_in_the_place_of_a_chosen_version_is_kept_where_no_others_are(
    hands: Hands, redis_server: RedisServer
) -> None:
    """The setting has been lowered since."""
    steps = Steps(hands)
    await steps.seeded()
    await steps.ended("t2", mode="regenerate", message_id="", message=b"")
    few = Store(hands.store.settings.model_copy(update={"max_versions": 0}), "host:1")
    try:
        for _ in range(2):
            (version,) = await few.versions.all(PRINCIPAL, SESSION)
            assert (await few.versions.choose(PRINCIPAL, SESSION, version.id))[0] == "CHOSEN"
    finally:
        await few.close()
