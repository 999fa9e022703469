"""Watching a session: its events, for all clients that have it open.

There is no log of these: an event has the session as it is now, and its id names that state. A client that
comes back with the id of another state gets the present one, so nothing is missed and nothing is stored for
it. Scripts that change a session publish under the name of its key. Then, and at every heartbeat, the session
is read again: once for all of its watchers on this worker, and less often the more there are. Else the
largest session, open a hundred times and changed 20 times a second, would have Redis send 250 MB/s. Turns are
followed by readers (reader.py).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from service.config.settings import Settings
from service.store.connection.notifications_cluster import AnyNotifications
from service.store.messages import Session
from service.store.store import Store

CHANGED: Final = "session.changed"
BEGUN: Final = "turn.begun"
ENDED: Final = "turn.ended"
DELETED: Final = "session.deleted"

# Seconds between two reads of a session, times its watchers: together they get 200 events a second.
_TELLING_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """`id` names the session's state after the event; 0 where another event follows at once."""

    name: str
    data: dict[str, Any]
    id: int


class _Watched:
    """A session that is open on this worker, as it was read last."""

    def __init__(self) -> None:
        self.watchers = 0
        self.begun = 0  # the number of the last read that has begun
        self._number = 0
        self._found: Session | BaseException | None = None
        self._news = asyncio.Event()
        self._told = asyncio.Event()  # set when the next read has ended
        self._closed = False
        self._reading: asyncio.Task[None] | None = None

    def notify(self) -> None:
        self._news.set()

    def close(self) -> None:
        self._closed = True
        self._told.set()
        if self._reading is not None:
            self._reading.cancel()

    def read(self, get: Callable[[], Awaitable[Session | None]], heartbeat: float) -> None:
        """Read the session again, at once or soon, and go on reading it."""
        self._news.set()
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_on(get, heartbeat), name="session-watch")
            self._reading.add_done_callback(self._ended)

    async def _read_on(self, get: Callable[[], Awaitable[Session | None]], heartbeat: float) -> None:
        while True:
            self._news.clear()
            self.begun += 1
            self._tell(await get())
            await asyncio.sleep(_TELLING_SECONDS * self.watchers)
            with suppress(TimeoutError):
                async with asyncio.timeout(heartbeat):
                    await self._news.wait()

    def _tell(self, found: Session | BaseException | None) -> None:
        self._found, self._number = found, self.begun
        told, self._told = self._told, asyncio.Event()
        told.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The read has failed: all watchers get the error, and the next watcher tries again."""
        self._reading = None
        if not task.cancelled():
            self._tell(task.exception())

    async def after(self, seen: int) -> tuple[int, Session | None]:
        """The result of a read after number `seen`, and its number. Raises what the read has raised."""
        while self._number <= seen and not self._closed:
            await self._told.wait()
        if isinstance(self._found, BaseException):
            raise self._found
        return self._number, self._found


class SessionWatches:
    def __init__(self, settings: Settings, store: Store, notifications: AnyNotifications) -> None:
        self._settings = settings
        self._store = store
        self._notifications = notifications
        self._watched: dict[str, _Watched] = {}
        self.closed = False

    def notify(self, channel: str) -> bool:
        """True when the channel is that of a session which is watched here."""
        watched = self._watched.get(channel)
        if watched is not None:
            watched.notify()
        return watched is not None

    def reset(self) -> None:
        """Notifications may have been missed: look at everything."""
        for watched in self._watched.values():
            watched.notify()

    def close(self) -> None:
        """End all watches: this worker goes away, and does not wait for them."""
        self.closed = True
        for watched in self._watched.values():
            watched.close()

    async def follow(
        self, principal: str, session_id: str, known: int | None
    ) -> AsyncGenerator[SessionEvent | None]:
        """What differs from the state `known` (None: from nothing), then what happens; None is a heartbeat.

        Ends after `session.deleted`, and where this worker goes away. Raises store_unavailable.
        """
        told: Session | None = None
        async with self._watching(principal, session_id) as watched:
            seen = watched.begun  # a read that is under way may not have seen what the caller did before
            while True:
                seen, session = await watched.after(seen)
                if self.closed:
                    return
                if session is None:
                    yield SessionEvent(DELETED, {}, 0)
                    return
                for event in _between(told, session, known):
                    yield event
                quiet = told == session
                told = session
                if quiet:
                    yield None

    @asynccontextmanager
    async def _watching(self, principal: str, session_id: str) -> AsyncIterator[_Watched]:
        channel = self._store.keys.session(principal, session_id).session
        watched = self._watched.setdefault(channel, _Watched())
        watched.watchers += 1
        try:
            # Each watcher subscribes: the first may leave before the subscription is confirmed.
            await self._notifications.subscribe(channel)
            get = partial(self._store.sessions.get, principal, session_id)
            watched.read(get, self._settings.heartbeat_seconds)
            yield watched
        finally:
            watched.watchers -= 1
            if not watched.watchers:
                watched.close()
                del self._watched[channel]
                await self._notifications.unsubscribe(channel)


def state_of(session: Session) -> int:
    """A number for the state of a session: the ms of its last change, and two digits of a checksum."""
    facts = (session.title, session.model, session.system_prompt, session.turns, session.active_turn)
    return session.updated * 100 + zlib.crc32(repr(facts).encode()) % 100


def resource(session: Session) -> dict[str, Any]:
    shown = ("title", "model", "system_prompt", "updated", "turns", "active_turn")
    return {name: getattr(session, name) for name in shown}


def _between(told: Session | None, session: Session, known: int | None) -> Iterator[SessionEvent]:
    state = state_of(session)
    if told is None:
        if state != known:
            yield SessionEvent(CHANGED, resource(session), state)
        return
    if told == session:
        return
    if told.active_turn != session.active_turn:
        if told.active_turn:
            yield SessionEvent(ENDED, {"turn_id": told.active_turn}, 0)
        if session.active_turn:
            yield SessionEvent(BEGUN, {"turn_id": session.active_turn}, 0)
    yield SessionEvent(CHANGED, resource(session), state)
