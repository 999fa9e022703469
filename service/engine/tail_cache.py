"""Tail caches: the newest events of the turns that this worker's readers follow.

One per followed turn, however many readers it has. A turn that this worker runs fills its cache after
each acknowledged append. Any other is read from the log when a notification names it; turns that are
named within 70 ms are read in one round trip. It is a cache of the log keyed by event id: a reader
that is further behind reads the log itself, and nothing is in the cache that is not in the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final

from service.config.settings import Settings
from service.engine.background import Background
from service.errors import ServiceError, StoreUnavailable
from service.eventloop.aligned_sleep import aligned_sleep
from service.eventloop.inline_future import InlineFuture
from service.events import Event
from service.store.connection.notifications_cluster import AnyNotifications
from service.store.store import Store
from service.store.turn_records import TurnRef
from service.telemetry import metrics

# A reader further behind than this many events reads the log: about 10 s at a window of 40 ms.
_KEPT_EVENTS: Final = 256
_RETRY_SECONDS: Final = 0.2
# Seconds between two reads for turns of other workers. A read takes as much time as passing six tokens on,
# and 14 updates a second still read as a flow.
_TAIL_SECONDS: Final = 0.07
# Seconds that a log is kept after its end, for readers at other workers: the wait for the next read, and the
# read.
FAREWELL_SECONDS: Final = 3 * _TAIL_SECONDS
# Seconds that a heartbeat may be late. A look at 5,000 waiting readers takes about 1 ms.
_PULSE_SECONDS: Final = 1.0

#: Takes new events in the callback that brings them. False: its reader has to be woken for them.
OnEvents = Callable[[list[Event]], bool]


class _Wait(InlineFuture[bool]):
    """A reader that waits for new events."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, on_events: OnEvents) -> None:
        super().__init__(loop=loop)
        self.seconds = seconds
        self.until = loop.time() + seconds
        self.on_events = on_events


class TailCache:
    """Gives new events to its readers, or wakes them. `last` is the id of the newest known event."""

    def __init__(self, ref: TurnRef, channel: str) -> None:
        self.ref = ref
        self.channel = channel  # the log's name
        self._loop = asyncio.get_running_loop()
        self.events: deque[Event] = deque(maxlen=_KEPT_EVENTS)
        self.last: int | None = None
        self.heard = 0  # the newest id that a notification named
        self.local = False
        self.readers = 0
        self.stale = False
        self.subscribed = False  # to notifications of this log
        self.trouble = False
        self.checked = 0.0
        self.error: ServiceError | None = None
        self._waiting: dict[_Wait, None] = {}  # a set that keeps its order

    def push(self, events: Sequence[Event]) -> None:
        fresh = [event for event in events if self.last is None or event.id > self.last]
        if fresh:
            self.error = None  # the turn goes on, so an earlier error is over
            if self.last is not None and fresh[0].id != self.last + 1:
                self.events.clear()  # this worker has taken the turn over: the events between are in the log
            self.events.extend(fresh)
            self.last = fresh[-1].id
            self._give(fresh)

    def _give(self, fresh: list[Event]) -> None:
        """Call each waiting reader; waking its task would take as much time as everything else."""
        waiting, self._waiting = self._waiting, {}
        now = self._loop.time()
        for wait in waiting:
            if wait.done():
                continue
            try:
                taken = wait.on_events(fresh)
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
        """Add what a reader has read from the log; `whole`: it has read to the end."""
        follows = bool(events) and self.last is not None and events[0].id <= self.last + 1
        if follows or (whole and self.last is None):
            self.push(events)

    def after(self, cursor: int) -> list[Event] | None:
        """Events above the cursor; None: read the log."""
        if self.last is None or self.stale:
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
        """The log cannot be read on: tell all readers."""
        self.error = error
        self.wake()

    def forget(self) -> None:
        """Its events differ from the log: drop them, so that the next reader reads the log."""
        self.events.clear()
        self.last = None

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, {}  # a woken reader runs at once, and may wait again
        for wait in waiting:
            if not wait.done():
                wait.set_result(True)

    async def wait(self, seconds: float, on_events: OnEvents) -> bool:
        """False when nothing came for `seconds`, give or take a pulse. Raises what `on_events` raised."""
        wait = _Wait(self._loop, seconds, on_events)
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


class TailCaches:
    def __init__(
        self, settings: Settings, store: Store, notifications: AnyNotifications, background: Background
    ) -> None:
        self._store = store
        self._notifications = notifications
        self._pulse_seconds = min(_PULSE_SECONDS, settings.heartbeat_seconds / 10)
        self._cache = settings.local_cache
        self._background = background
        self._tails: dict[str, TailCache] = {}
        self._dirty: dict[str, None] = {}  # a set that keeps its order
        self._reading: set[str] = set()
        self._news = asyncio.Event()

    def start(self) -> None:
        self._background.loop("tail", self._tail)
        self._background.loop("pulse", self._pulse)

    def all(self) -> list[TailCache]:
        return list(self._tails.values())

    def local(self, ref: TurnRef) -> TailCache | None:
        """The tail that a runner of this worker fills; None where the cache is switched off."""
        if not self._cache:
            return None
        channel = self._store.log.name(ref)
        tail = self._tails.setdefault(channel, TailCache(ref, channel))
        tail.local = True
        return tail

    def has_readers(self, ref: TurnRef) -> bool:
        tail = self._tails.get(self._store.log.name(ref))
        return tail is not None and tail.readers > 0

    async def leave(self, ref: TurnRef) -> None:
        """The runner has ended: from now on notifications are the only source."""
        channel = self._store.log.name(ref)
        tail = self._tails.get(channel)
        if tail is None or not tail.local:
            return
        tail.local = False
        if not tail.readers:
            self._tails.pop(channel, None)
        elif not (tail.events and tail.events[-1].terminal):
            await self.subscribe(tail)
            self.notify(channel)

    def watch(self, ref: TurnRef) -> _Watch:
        """A block around a reader, which gives it the tail."""
        channel = self._store.log.name(ref)
        tail = self._tails.setdefault(channel, TailCache(ref, channel))
        return _Watch(self, tail)

    async def unread(self, tail: TailCache) -> None:
        """A reader has left."""
        tail.readers -= 1
        channel = tail.channel
        if not tail.readers and not tail.local and self._tails.get(channel) is tail:
            del self._tails[channel]
            await self._notifications.unsubscribe(channel)

    async def subscribe(self, tail: TailCache) -> None:
        await self._notifications.subscribe(tail.channel)
        tail.subscribed = True

    def notify(self, channel: str, newest: int | None = None) -> None:
        """A notification: the log of this channel has grown, up to `newest`, where that is known."""
        tail = self._tails.get(channel)
        if tail is None or tail.local:
            return
        if tail.last is None:
            tail.stale = True
            tail.wake()
            return
        tail.heard = max(tail.heard, tail.last + 1 if newest is None else newest)
        if tail.heard > tail.last:
            self._dirty[channel] = None
            self._news.set()

    def reset(self) -> None:
        """Notifications may have been missed: ask for everything."""
        for channel, tail in self._tails.items():
            tail.trouble = True
            tail.wake()
            self.notify(channel)

    def wake_all(self) -> None:
        for tail in self._tails.values():
            tail.wake()

    async def _pulse(self) -> None:
        """One timer for all waiting readers: a timer for each would take more time than their events."""
        while True:
            await aligned_sleep(self._pulse_seconds)
            now = asyncio.get_running_loop().time()
            for tail in self._tails.values():
                tail.expire(now)

    async def _tail(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            tails = [
                tail
                for channel in self._dirty
                if (tail := self._tails.get(channel)) is not None
                and tail.last is not None
                and tail.heard > tail.last  # a read may have brought the event before its notification came
                and channel not in self._reading
            ]
            self._dirty.clear()
            for together in self._store.log.by_server(tails, lambda tail: tail.channel).values():
                self._background.task("tail", self._bring(together))
            if tails:  # logs that are named meanwhile are read together
                await asyncio.sleep(_TAIL_SECONDS)

    async def _bring(self, tails: Sequence[TailCache]) -> None:
        """New events of tails whose logs are on one server."""
        channels = {tail.channel for tail in tails}
        self._reading |= channels
        try:
            pages = await self._store.log.read_many([(tail.channel, tail.last or 0) for tail in tails])
        except StoreUnavailable:
            await asyncio.sleep(_RETRY_SECONDS)
            pages = None
        finally:
            self._reading -= channels
        for tail, events in zip(tails, pages or [[]] * len(tails), strict=True):
            if events:
                tail.push(events)
            elif pages is not None:  # a notification, and no event: the log is gone
                tail.heard = tail.last or 0
                tail.trouble = True
                tail.wake()
        metrics.events_replayed.inc(sum(map(len, pages or [])))
        if any(tail.heard > (tail.last or 0) for tail in tails):  # the read failed, or one grew meanwhile
            self._dirty |= dict.fromkeys(tail.channel for tail in tails)
            self._news.set()


class _Watch:
    """One reader of a tail, while its block lasts."""

    __slots__ = ("_tail", "_tails")

    def __init__(self, tails: TailCaches, tail: TailCache) -> None:
        self._tails = tails
        self._tail = tail

    async def __aenter__(self) -> TailCache:
        tail = self._tail
        tail.readers += 1
        if not tail.local and not tail.subscribed:
            # Each reader subscribes: the first may leave before the subscription is confirmed.
            try:
                await self._tails.subscribe(tail)
            except BaseException:
                await self._tails.unread(tail)
                raise
            tail.stale = True  # what others have read meanwhile may be out of date already
        return tail

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tails.unread(self._tail)
