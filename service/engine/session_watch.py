"""Watching a session: what happens in it, told to whoever has it open.

There is no log of it: an event says how the session is now, and its id names that state. Who comes back
with the id of another state is told the present one, so that nothing can be missed and nothing is kept
for it. Scripts that change a session publish under the name of its key; a watcher that hears that, and
each watcher at every heartbeat, reads the session again. Turns are followed by readers, not here.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from service.config.settings import Settings
from service.store.connection.notifications import Notifications
from service.store.connection.notifications_cluster import ClusterNotifications
from service.store.messages import Session
from service.store.store import Store

CHANGED: Final = "session.changed"
BEGUN: Final = "turn.begun"
ENDED: Final = "turn.ended"
DELETED: Final = "session.deleted"


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """`id` names the state in which the session is after it; 0 in front of others that lead there."""

    name: str
    data: dict[str, Any]
    id: int


class _Watchers:
    """The watchers of one session on this worker."""

    def __init__(self) -> None:
        self.waiting: set[asyncio.Event] = set()

    def notify(self) -> None:
        for watcher in self.waiting:
            watcher.set()


class SessionWatches:
    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._watched: dict[str, _Watchers] = {}
        self._notifications: Notifications | ClusterNotifications | None = None
        self.closed = False

    def start(self, notifications: Notifications | ClusterNotifications) -> None:
        self._notifications = notifications

    def notify(self, channel: str) -> bool:
        """True when the channel is that of a session which is watched here."""
        watchers = self._watched.get(channel)
        if watchers is not None:
            watchers.notify()
        return watchers is not None

    def reset(self) -> None:
        """Notifications may have been missed: look at everything."""
        for watchers in self._watched.values():
            watchers.notify()

    def close(self) -> None:
        """End all watches: this worker goes away, and they hold up nothing."""
        self.closed = True
        self.reset()

    async def follow(
        self, principal: str, session_id: str, known: int | None
    ) -> AsyncIterator[SessionEvent | None]:
        """What differs from the state `known` (None: from nothing), then what happens; None is a heartbeat.

        Ends after `session.deleted`, and where this worker goes away. Raises store_unavailable.
        """
        told: Session | None = None
        async with self._watching(self._store.keys.session(principal, session_id).session) as news:
            while not self.closed:
                news.clear()
                session = await self._store.sessions.get(principal, session_id)
                if session is None:
                    yield SessionEvent(DELETED, {}, 0)
                    return
                for event in _between(told, session, known):
                    yield event
                quiet = told == session
                told = session
                if quiet:
                    yield None
                try:
                    async with asyncio.timeout(self._settings.heartbeat_seconds):
                        await news.wait()
                except TimeoutError:
                    continue

    @asynccontextmanager
    async def _watching(self, channel: str) -> AsyncIterator[asyncio.Event]:
        watchers = self._watched.setdefault(channel, _Watchers())
        news = asyncio.Event()
        watchers.waiting.add(news)
        try:
            if self._notifications is not None:  # each, until it is heard: the first may have left by then
                await self._notifications.subscribe(channel)
            yield news
        finally:
            watchers.waiting.discard(news)
            if not watchers.waiting and self._watched.get(channel) is watchers:
                del self._watched[channel]
                if self._notifications is not None:
                    await self._notifications.unsubscribe(channel)


def state_of(session: Session) -> int:
    """A number for the state of a session: its last change in ms, and two digits for what it is like."""
    facts = (session.title, session.model, session.system_prompt, session.turns, session.active_turn)
    return session.updated * 100 + zlib.crc32(repr(facts).encode()) % 100


def resource(session: Session) -> dict[str, Any]:
    return {
        "title": session.title,
        "model": session.model,
        "system_prompt": session.system_prompt,
        "updated": session.updated,
        "turns": session.turns,
        "active_turn": session.active_turn,
    }


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
