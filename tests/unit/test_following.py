"""A reader gets every event once and in order, also where its tail has jumped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service import events
from service.config.settings import Settings
from service.engine.reader import Readers
from service.engine.tail_cache import TailCache, TailCaches
from service.errors import ServiceError, StoreUnavailable
from service.events import Event
from service.store.store import Store
from service.store.turn_records import Turn, TurnRef
from tests.support.waiting import eventually_async

REF = TurnRef("p", "s", "t_1")


def told(number: int) -> Event:
    return Event(number, events.delta(str(number)))


async def test_a_reader_who_was_shown_more_than_a_turn_has_is_told_when_it_has_ended() -> None:
    """Found by seed 10226: the store forgot a takeover whose first event a reader had been shown."""
    tail = TailCache(REF, "log")
    tail.trouble = True  # the connection to the store was lost: bells may have been missed

    @asynccontextmanager
    async def watch(ref: TurnRef) -> AsyncIterator[TailCache]:
        yield tail

    async def read(ref: TurnRef, after: int, count: int = 500) -> list[Event]:
        return []

    async def get(ref: TurnRef) -> SimpleNamespace:
        return SimpleNamespace(sealed=True, last=4)

    health = SimpleNamespace(refusal=("", 0.0))
    parts = SimpleNamespace(log=SimpleNamespace(read=read), turns=SimpleNamespace(get=get), health=health)
    readers = Readers(Settings(), cast(Store, parts), cast(TailCaches, SimpleNamespace(watch=watch)))
    with pytest.raises(ServiceError, match="lost events"):
        await asyncio.wait_for(readers.follow(REF, 4, lambda _: None), 5)


async def test_a_feed_that_jumps_is_made_up_for_from_the_log() -> None:
    tail = TailCache(REF, "log")
    log = [told(1), told(2)]
    seen: list[int] = []

    @asynccontextmanager
    async def watch(ref: TurnRef) -> AsyncIterator[TailCache]:
        yield tail

    async def read(ref: TurnRef, after: int, count: int = 500) -> list[Event]:
        return [event for event in log if event.id > after]

    def on_batch(found: list[Event]) -> None:
        seen.extend(event.id for event in found)

    store = cast(Store, SimpleNamespace(log=SimpleNamespace(read=read)))
    readers = Readers(Settings(), store, cast(TailCaches, SimpleNamespace(watch=watch)))
    following: asyncio.Task[Any] = asyncio.create_task(readers.follow(REF, 0, on_batch))
    await eventually_async(lambda: seen == [1, 2])
    log += [told(3), told(4)]
    tail.push([told(4)])  # this worker has taken the turn over: what came between is in the log only
    await eventually_async(lambda: len(seen) >= 3)
    assert seen == [1, 2, 3, 4]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_turn_that_is_stopped_while_it_waits_is_read_to_its_end() -> None:
    """Its log begins with its stop, which may come between the look at the log and that at the turn."""
    tail = TailCache(REF, "log")
    log: list[Event] = []
    seen: list[str] = []

    @asynccontextmanager
    async def watch(ref: TurnRef) -> AsyncIterator[TailCache]:
        yield tail

    async def read(ref: TurnRef, after: int, count: int = 500) -> list[Event]:
        return [event for event in log if event.id > after]

    async def get(ref: TurnRef) -> Turn:
        log[:] = [
            Event(1, events.structured(events.STARTED, {})),
            Event(2, events.structured(events.STOPPED, {})),
        ]
        return Turn(REF, "stopped", 1, 0, "m", "u", 3, 2, 0)

    parts = SimpleNamespace(log=SimpleNamespace(read=read), turns=SimpleNamespace(get=get))
    readers = Readers(Settings(), cast(Store, parts), cast(TailCaches, SimpleNamespace(watch=watch)))
    following = readers.follow(REF, 0, lambda found: seen.extend(event.name for event in found))
    await asyncio.wait_for(following, 5)
    assert seen == ["turn.started", "turn.stopped"]


class Missed:
    """A log of which the tail has heard nothing, and readers at its old end: the bell was missed."""

    def __init__(self, get: Callable[[TurnRef], Awaitable[Turn | None]], **settings: Any) -> None:
        self.feed = TailCache(REF, "log")
        self.feed.push([told(1)])
        self.log = [told(1), told(2), Event(3, events.structured(events.COMPLETED, {}))]
        self.seen: list[list[int]] = []
        parts = SimpleNamespace(
            log=SimpleNamespace(read=self._read),
            turns=SimpleNamespace(get=get),
            health=SimpleNamespace(refusal=("", 0.0)),
            client=SimpleNamespace(cluster=False),
        )
        values = Settings(heartbeat_seconds=100, **settings)
        self.readers = Readers(
            values, cast(Store, parts), cast(TailCaches, SimpleNamespace(watch=self._watch))
        )

    async def _read(self, ref: TurnRef, after: int, count: int = 500) -> list[Event]:
        return [event for event in self.log if event.id > after]

    @asynccontextmanager
    async def _watch(self, ref: TurnRef) -> AsyncIterator[TailCache]:
        yield self.feed

    def follow(self) -> asyncio.Task[None]:
        seen: list[int] = []
        self.seen.append(seen)
        taking = self.readers.follow(REF, 1, lambda found: seen.extend(event.id for event in found))
        return asyncio.create_task(taking)


def ended(last: int) -> Turn:
    return Turn(REF, "completed", 1, 1, "m", "u", 3, last, 0)


async def test_a_store_that_fails_when_a_missed_bell_is_looked_for_is_asked_again_soon() -> None:
    answers: list[Turn | None] = [None, None, ended(3)]

    async def get(ref: TurnRef) -> Turn | None:
        answer = answers.pop(0)
        if answer is None:
            raise StoreUnavailable
        return answer

    missed = Missed(get)
    following = [missed.follow() for _ in range(2)]
    await asyncio.sleep(0)
    missed.feed.trouble = True
    missed.feed.wake()
    await asyncio.wait_for(asyncio.gather(*following), 5)  # a heartbeat is 100 s
    assert missed.seen == [[2, 3], [2, 3]]


async def test_when_the_reader_that_looks_leaves_another_one_looks() -> None:
    asked = asyncio.Event()
    held = asyncio.Event()

    async def get(ref: TurnRef) -> Turn | None:
        if not asked.is_set():
            asked.set()
            await held.wait()
        return ended(3)

    missed = Missed(get)
    first, second = missed.follow(), missed.follow()
    await asyncio.sleep(0)
    missed.feed.trouble = True
    missed.feed.wake()
    await asyncio.wait_for(asked.wait(), 5)
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert missed.seen == [[], [2, 3]]


async def test_readers_of_another_workers_turn_are_told_when_the_store_stays_away() -> None:
    async def get(ref: TurnRef) -> Turn | None:
        raise StoreUnavailable

    missed = Missed(get, store_hold_seconds=0.5)
    following = [missed.follow() for _ in range(3)]
    await asyncio.sleep(0)
    missed.feed.trouble = True
    missed.feed.wake()
    for task in following:
        with pytest.raises(ServiceError, match="does not answer"):
            await asyncio.wait_for(task, 5)


async def test_a_second_reader_waits_until_its_bell_is_heard_though_the_first_has_left() -> None:
    asked: list[asyncio.Future[None]] = []

    async def subscribe(channel: str) -> None:
        asked.append(asyncio.get_running_loop().create_future())
        await asked[-1]

    async def unsubscribe(channel: str) -> None:
        raise AssertionError("somebody reads it still")

    store = cast(Store, SimpleNamespace(log=SimpleNamespace(name=str)))
    notifications = SimpleNamespace(subscribe=subscribe, unsubscribe=unsubscribe)
    tails = TailCaches(Settings(), store, cast(Any, notifications), cast(Any, None))
    heard = asyncio.Event()
    leave = asyncio.Event()

    async def watch() -> None:
        async with tails.watch(REF) as tail:
            assert tail.subscribed
            assert tail.stale  # what was read before may be out of date
            heard.set()
            await leave.wait()

    first, second = asyncio.create_task(watch()), asyncio.create_task(watch())
    await eventually_async(lambda: len(asked) == 2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not heard.is_set()
    asked[1].set_result(None)
    await asyncio.wait_for(heard.wait(), 5)
    second.cancel()
