"""Readers: following a turn from an event id on, replay and live being one loop over one log.

A reader gets lists of events, and an empty list when nothing came for a heartbeat. It returns after
the terminal event. Else it raises: `Reconnect` when this worker ends before the turn, a ServiceError
when the log cannot be read any more. Where the store has lost events, a new life of the log follows with
much higher ids (store/lua/next_life.lua): a reader goes on in it only if what it was shown is still
true, or if the next event says that it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from service.config.settings import Settings
from service.engine.history import turn_not_found
from service.engine.tail_cache import TailCache, TailCaches
from service.errors import ServiceError, StoreRefusesWrites, StoreUnavailable
from service.events import FAILED, RESTARTED, Event
from service.store.log import PAGE
from service.store.store import Store
from service.store.turn_records import Turn, TurnRef
from service.telemetry import metrics

T = TypeVar("T")

_STORE_RETRY_SECONDS: Final = 0.25
# While their connection lives notifications are not lost; this look is a precaution.
_INSPECT_SECONDS: Final = 60.0

#: Called with new events; what it returns is awaited before it is called again.
OnBatch = Callable[[list[Event]], Awaitable[None] | None]


class Reconnect(Exception):
    """The worker is going away; the turn goes on elsewhere. Readers come back with their cursor."""


def expired() -> ServiceError:
    return ServiceError("events_expired", "The events of this turn are no longer kept; read its messages.")


def lost() -> ServiceError:
    return ServiceError(
        "events_lost", "The store has lost events that were shown; read this turn again from its start."
    )


class Readers:
    def __init__(self, settings: Settings, store: Store, tails: TailCaches) -> None:
        self._settings = settings
        self._store = store
        self._tails = tails
        self.closing = asyncio.Event()

    def close(self) -> None:
        """Tell all readers to reconnect."""
        self.closing.set()
        self._tails.wake_all()

    async def check(self, ref: TurnRef, after: int) -> bool:
        """Is there anything to follow? False at the terminal event.

        Raises turn_not_found, cursor_ahead, events_expired, events_lost.
        """
        turn, follows = await asyncio.gather(self._store.turns.get(ref), self._follows(ref, after))
        if turn is None:
            raise turn_not_found()
        if after > turn.last:
            if await self._store.turns.lost_writes(turn):
                raise lost()
            raise ServiceError("cursor_ahead", f"The last event of this turn has the id {turn.last}.")
        if turn.sealed and after == turn.last:
            return False
        # An event may have been written between these two reads: the second read of the log decides.
        if turn.last > after and not follows and not await self._follows(ref, after):
            raise lost() if await self._store.log.read(ref, 0, 1) else expired()
        return True

    async def _follows(self, ref: TurnRef, after: int) -> bool:
        """Is the event of the cursor in the log? With a cursor of 0: is anything in it?"""
        found = await self._store.log.read(ref, max(0, after - 1), 1)
        return bool(found) and (after == 0 or found[0].id == after)

    async def follow(self, ref: TurnRef, after: int, on_batch: OnBatch) -> None:
        """Give `on_batch` all events above `after`: new ones in the callback that brings them, where it can.

        Raises Reconnect, ServiceError, and what `on_batch` raises.
        """
        reader = _Reader(after, on_batch, self.closing)
        async with self._tails.watch(ref) as tail:
            while True:
                found = tail.after(reader.cursor)
                if found is None:
                    found = await self._read(tail, reader.cursor)
                    if not found and not reader.cursor:
                        await self._check_kept(tail)
                        continue  # it may have been written meanwhile
                if found:
                    if found[0].id != reader.cursor + 1:
                        await self._cross(ref, reader.cursor, found[0])
                    reader.give(found)
                elif tail.error is not None:
                    raise tail.error
                elif self.closing.is_set():
                    raise Reconnect
                elif tail.trouble or not await tail.wait(self._settings.heartbeat_seconds, reader.on_events):
                    await self._inspect(tail, reader.cursor)
                    reader.give([])
                if reader.pause is not None:
                    await reader.pause
                    reader.pause = None
                if found and found[-1].terminal:
                    return

    async def _check_kept(self, tail: TailCache) -> None:
        """Checks a turn whose log is empty: it may be queued, or sealed or deleted, so that nothing comes.

        Raises turn_not_found, events_expired.
        """
        turn = await self._turn(tail)
        if turn is None:
            raise turn_not_found()
        if turn.sealed:
            if not await self._store.log.read(tail.ref, 0, 1):
                raise expired()
            tail.stale = True  # it was stopped after its log was read

    async def _cross(self, ref: TurnRef, cursor: int, event: Event) -> None:
        """Go on behind a gap in the ids. Raises events_lost if the reader was shown lost events.

        A restart voids what was shown, and a failure ends the turn; another event may follow only if the
        cursor is at the last event that was left.
        """
        if event.name in (RESTARTED, FAILED):
            return
        turn = await self._store.turns.get(ref)
        if turn is None or turn.kept != cursor:
            raise lost()

    async def _read(self, tail: TailCache, cursor: int) -> list[Event]:
        """Read events from the log, into the tail."""

        def ask() -> Awaitable[list[Event]]:
            tail.stale = False
            return self._store.log.read(tail.ref, cursor)

        events = await self._holding_on(ask)
        metrics.events_replayed.inc(len(events))
        tail.fill(events, whole=len(events) < PAGE)
        if tail.last is None and not events:
            tail.last = cursor
        return events

    async def _holding_on(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the store, again and again for CHAT_STORE_HOLD_SECONDS while it is away."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._settings.store_hold_seconds
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                if loop.time() > give_up:
                    raise
                await asyncio.sleep(_STORE_RETRY_SECONDS)

    async def _turn(self, tail: TailCache) -> Turn | None:
        """The turn as it is.

        One reader of a tail asks for all of them; if it leaves before the answer, the next one asks.
        """
        tail.trouble, learnt = False, False
        try:
            turn = await self._holding_on(partial(self._store.turns.get, tail.ref))
            learnt = True
            return turn
        except StoreUnavailable as error:
            learnt = True
            tail.fail(error)
            raise
        finally:
            if not learnt:
                tail.trouble = True
                tail.wake()

    async def _inspect(self, tail: TailCache, cursor: int) -> None:
        """After a silence: does the store write, do the turn and its log still exist?"""
        reason, seconds = self._store.health.refusal
        if seconds > self._settings.store_hold_seconds and not self._store.client.cluster:
            raise StoreRefusesWrites(reason)  # the turn's runner has given up by now
        now = asyncio.get_running_loop().time()
        if not tail.trouble and now - tail.checked < _INSPECT_SECONDS:
            return
        tail.checked = now
        turn = await self._turn(tail)
        # `tail.fail` tells the other readers too, who would look at the next heartbeat only.
        if turn is None:
            error = ServiceError("turn_not_found", "The turn was deleted while it was read.")
            tail.fail(error)
            raise error
        if turn.sealed and turn.last <= cursor:
            # It has ended with other events than those that were shown, and no more will come.
            tail.forget()
            error = lost()
            tail.fail(error)
            raise error
        if turn.last > cursor and (tail.last or 0) <= cursor:
            tail.last = None  # a notification was missed, or the log was lost
            tail.wake()
            if turn.sealed and not await self._store.log.read(tail.ref, cursor, 1):
                raise expired()


class _Reader:
    """One reader of a turn: its cursor, and what it has to await before it takes more."""

    __slots__ = ("_closing", "_on_batch", "cursor", "pause")

    def __init__(self, cursor: int, on_batch: OnBatch, closing: asyncio.Event) -> None:
        self.cursor = cursor
        self.pause: Awaitable[None] | None = None
        self._on_batch = on_batch
        self._closing = closing

    def give(self, events: list[Event]) -> None:
        if events:
            self.cursor = events[-1].id
        self.pause = self._on_batch(events)

    def on_events(self, fresh: list[Event]) -> bool:
        """Called by the callback that brings new events. False: the reader's task has to take them."""
        if fresh[0].id != self.cursor + 1 or fresh[-1].terminal or self._closing.is_set():
            return False
        self.give(fresh)
        return self.pause is None
