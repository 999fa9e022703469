"""Feeds: the newest events of the turns that this worker's readers follow.

One feed per followed turn, however many readers. A turn that this worker runs fills its feed
after each acknowledged append; any other is read from the log when the doorbell rings, all
that rang in one round trip. A feed is a cache of the log keyed by event id: whoever is behind
it reads the log itself, and nothing is in it that is not in the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from service.config.settings import Settings
from service.engine.background import Background
from service.errors import ServiceError, StoreUnavailable
from service.eventloop.aligned_sleep import beat
from service.eventloop.inline_future import Handoff
from service.events import Event
from service.store.connection.notifications import Doorbell
from service.store.connection.notifications_cluster import ClusterDoorbell
from service.store.store import Store
from service.store.turns import TurnRef
from service.telemetry import metrics

# A reader further behind than this many events reads the log: about 10 s at a window of 40 ms.
_KEPT_EVENTS: Final = 256
_RETRY_SECONDS: Final = 0.2
# Between two reads for turns that other workers run: such a read costs what six tokens do that only
# pass through, and 14 updates a second still read as a flow.
_TAIL_SECONDS: Final = 0.07
# So long after its end a log is there for readers at other workers who had just looked, and a read takes.
FAREWELL_SECONDS: Final = 3 * _TAIL_SECONDS
# How late a heartbeat may be; 5,000 waiting readers are looked through in about 1 ms.
_PULSE_SECONDS: Final = 1.0

#: Takes new events in the callback that brings them; False where its reader has to be woken for them.
Tap = Callable[[list[Event]], bool]


class _Wait(Handoff[bool]):
    """A reader that waits at the end of what there is."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, tap: Tap) -> None:
        super().__init__(loop=loop)
        self.seconds = seconds
        self.until = loop.time() + seconds
        self.tap = tap


class Feed:
    """Gives its readers what arrives, or wakes them for it. `last` is the id of the newest event known of."""

    __slots__ = (
        "_loop",
        "_waiting",
        "channel",
        "checked",
        "error",
        "events",
        "heard",
        "last",
        "local",
        "readers",
        "ref",
        "rung",
        "subscribed",
        "trouble",
    )

    def __init__(self, ref: TurnRef, channel: str) -> None:
        self.ref = ref
        self.channel = channel  # the log's name
        self._loop = asyncio.get_running_loop()
        self.events: deque[Event] = deque(maxlen=_KEPT_EVENTS)
        self.last: int | None = None
        self.heard = 0  # the newest id that rang
        self.local = False
        self.readers = 0
        self.rung = False
        self.subscribed = False  # what rings is heard
        self.trouble = False
        self.checked = 0.0
        self.error: ServiceError | None = None
        self._waiting: dict[_Wait, None] = {}  # a set that keeps its order

    def push(self, events: Sequence[Event]) -> None:
        fresh = [event for event in events if self.last is None or event.id > self.last]
        if fresh:
            self.error = None  # the turn goes on: an error of the past does not outlive its cause
            if self.last is not None and fresh[0].id != self.last + 1:
                self.events.clear()  # a takeover by this worker: what came between is in the log
            self.events.extend(fresh)
            self.last = fresh[-1].id
            self._give(fresh)

    def _give(self, fresh: list[Event]) -> None:
        """To each reader where it waits: waking its task for them would cost as much as all the rest."""
        waiting, self._waiting = self._waiting, {}
        now = self._loop.time()
        for wait in waiting:
            if wait.done():
                continue
            try:
                taken = wait.tap(fresh)
            except Exception as fault:  # noqa: BLE001 - not caught for good: raised again in the reader's task
                # From there it goes up to the edge, which logs and counts it. Here it would end the flush
                # of other turns.
                wait.set_exception(fault)
                continue
            if taken:
                wait.until = now + wait.seconds
                self._waiting[wait] = None
            else:
                wait.set_result(True)

    def fill(self, events: Sequence[Event], *, whole: bool) -> None:
        """What a reader has read from the log; `whole` when it read up to the log's end."""
        if self.last is not None:
            if events and events[0].id <= self.last + 1:
                self.push(events)
        elif whole:
            self.push(events)

    def after(self, cursor: int) -> list[Event] | None:
        """Events above the cursor; None when only the log can tell."""
        if self.last is None or self.rung:
            return None
        if cursor >= self.last:
            return []
        if not self.events or self.events[0].id > cursor + 1:
            return None
        found = []
        for event in reversed(self.events):
            if event.id <= cursor:
                break
            found.append(event)
        found.reverse()
        return found

    def fail(self, error: ServiceError) -> None:
        """The runner has given up on the store; its readers are told so."""
        self.error = error
        self.wake()

    def forget(self) -> None:
        """What it holds is not what the log says: the next reader reads that."""
        self.events.clear()
        self.last = None

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, {}  # who is woken goes on at once, and may wait again
        for wait in waiting:
            if not wait.done():
                wait.set_result(True)

    async def wait(self, seconds: float, tap: Tap) -> bool:
        """False when nothing happened for so long, give or take a pulse. Raises what `tap` raised."""
        wait = _Wait(self._loop, seconds, tap)
        self._waiting[wait] = None
        try:
            return await wait
        finally:
            self._waiting.pop(wait, None)

    def expire(self, now: float) -> None:
        """Wake those who have waited long enough."""
        for wait in list(self._waiting):
            if wait.until <= now and not wait.done():
                wait.set_result(False)


class Feeds:
    def __init__(self, settings: Settings, store: Store, background: Background) -> None:
        self._store = store
        self._pulse_seconds = min(_PULSE_SECONDS, settings.heartbeat_seconds / 10)
        self._cache = settings.local_cache
        self._background = background
        self._feeds: dict[str, Feed] = {}
        self._dirty: dict[str, None] = {}  # a set that keeps its order
        self._reading: set[str] = set()
        self._bell = asyncio.Event()
        self._doorbell: Doorbell | ClusterDoorbell | None = None

    def start(self, doorbell: Doorbell | ClusterDoorbell) -> None:
        self._doorbell = doorbell
        self._background.loop("tail", self._tail)
        self._background.loop("pulse", self._pulse)

    def all(self) -> list[Feed]:
        return list(self._feeds.values())

    def local(self, ref: TurnRef) -> Feed | None:
        """The feed that a runner of this worker fills; None where the cache is switched off."""
        if not self._cache:
            return None
        channel = self._store.log.name(ref)
        feed = self._feeds.setdefault(channel, Feed(ref, channel))
        feed.local = True
        return feed

    def has_readers(self, ref: TurnRef) -> bool:
        feed = self._feeds.get(self._store.log.name(ref))
        return feed is not None and feed.readers > 0

    async def leave(self, ref: TurnRef) -> None:
        """The runner has ended: from now on the log's bell is the only source."""
        channel = self._store.log.name(ref)
        feed = self._feeds.get(channel)
        if feed is None or not feed.local:
            return
        feed.local = False
        if not feed.readers:
            self._feeds.pop(channel, None)
        elif not (feed.events and feed.events[-1].terminal):
            await self._subscribe(feed)
            self.ring(channel)

    @asynccontextmanager
    async def watch(self, ref: TurnRef) -> AsyncIterator[Feed]:
        channel = self._store.log.name(ref)
        feed = self._feeds.setdefault(channel, Feed(ref, channel))
        feed.readers += 1
        try:
            if not feed.local and not feed.subscribed:
                # Each reader until it is heard: the one that asked first may leave before that.
                await self._subscribe(feed)
                feed.rung = True  # what others have read meanwhile may be out of date already
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers and not feed.local and self._feeds.get(channel) is feed:
                del self._feeds[channel]
                if self._doorbell:
                    await self._doorbell.unsubscribe(channel)

    async def _subscribe(self, feed: Feed) -> None:
        if self._doorbell:
            await self._doorbell.subscribe(feed.channel)
        feed.subscribed = True

    def ring(self, channel: str, newest: int | None = None) -> None:
        """The log of this channel has grown, says the doorbell: up to `newest`, where that is known."""
        feed = self._feeds.get(channel)
        if feed is None or feed.local:
            return
        if feed.last is None:
            feed.rung = True
            feed.wake()
            return
        feed.heard = max(feed.heard, feed.last + 1 if newest is None else newest)
        if feed.heard > feed.last:
            self._dirty[channel] = None
            self._bell.set()

    def reset(self) -> None:
        """Bells may have been missed: ask for everything."""
        for channel, feed in self._feeds.items():
            feed.trouble = True
            feed.wake()
            self.ring(channel)

    def wake_all(self) -> None:
        for feed in self._feeds.values():
            feed.wake()

    async def _pulse(self) -> None:
        """One timer for all that wait: a timer each would cost more than what they wait for."""
        while True:
            await beat(self._pulse_seconds)
            now = asyncio.get_running_loop().time()
            for feed in self._feeds.values():
                feed.expire(now)

    async def _tail(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            feeds = [
                feed
                for channel in self._dirty
                if (feed := self._feeds.get(channel)) is not None
                and feed.last is not None
                and feed.heard > feed.last  # a bell may come behind the read that brought what it rang for
                and channel not in self._reading
            ]
            self._dirty.clear()
            for together in self._store.log.by_server(feeds, lambda feed: feed.channel).values():
                self._background.task("tail", self._bring(together))
            if feeds:  # what rings meanwhile is read together
                await asyncio.sleep(_TAIL_SECONDS)

    async def _bring(self, feeds: Sequence[Feed]) -> None:
        """New events of feeds whose logs are on one server."""
        channels = {feed.channel for feed in feeds}
        self._reading |= channels
        try:
            pages = await self._store.log.read_many([(feed.channel, feed.last or 0) for feed in feeds])
        except StoreUnavailable:
            await asyncio.sleep(_RETRY_SECONDS)
            pages = None
        finally:
            self._reading -= channels
        for feed, events in zip(feeds, pages or [[]] * len(feeds), strict=True):
            if events:
                feed.push(events)
            elif pages is not None:  # it rang, and there is nothing: the log is gone
                feed.heard = feed.last or 0
                feed.trouble = True
                feed.wake()
        metrics.events_replayed.inc(sum(map(len, pages or [])))
        if any(feed.heard > (feed.last or 0) for feed in feeds):  # it failed, or rang again meanwhile
            self._dirty |= dict.fromkeys(feed.channel for feed in feeds)
            self._bell.set()
