"""A reader gets every event once and in order, also where its feed has jumped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from service import events
from service.config.settings import Settings
from service.engine.feeds import Feed, Feeds
from service.engine.reader import Readers
from service.events import Event
from service.store.store import Store
from service.store.turns import TurnRef
from tests.support.waiting import eventually_async

REF = TurnRef("p", "s", "t_1")


def told(number: int) -> Event:
    return Event(number, events.delta(str(number)))


async def test_a_feed_that_jumps_is_made_up_for_from_the_log() -> None:
    feed = Feed(REF, "log")
    log = [told(1), told(2)]
    seen: list[int] = []

    @asynccontextmanager
    async def watch(ref: TurnRef) -> AsyncIterator[Feed]:
        yield feed

    async def read(ref: TurnRef, after: int, count: int = 500) -> list[Event]:
        return [event for event in log if event.id > after]

    def take(found: list[Event]) -> None:
        seen.extend(event.id for event in found)

    store = cast(Store, SimpleNamespace(log=SimpleNamespace(read=read)))
    readers = Readers(Settings(), store, cast(Feeds, SimpleNamespace(watch=watch)))
    following: asyncio.Task[Any] = asyncio.create_task(readers.follow(REF, 0, take))
    await eventually_async(lambda: seen == [1, 2])
    log += [told(3), told(4)]
    feed.push([told(4)])  # this worker has taken the turn over: what came between is in the log only
    await eventually_async(lambda: len(seen) >= 3)
    assert seen == [1, 2, 3, 4]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
