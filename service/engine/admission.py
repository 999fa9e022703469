"""Admission: a worker bounds its turns. Beyond the bound a few sends wait, and others are 503.

The bound is per worker, because what it protects (a loop, a connection pool, memory) is a
worker's. Invariants: sends get places in the order in which they came; a place that comes free goes to
the next; no send waits longer than 1 s. Turns that are taken over are never refused, but take places.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Final

from service.errors import ServiceError
from service.telemetry import metrics

# One send in twenty may wait: at full load a place comes free every few ms, so that a second
# suffices for all of them.
_WAITING_SHARE: Final = 20
_PATIENCE_SECONDS: Final = 1.0
# Timers that are late by 0.5 s, for 1 s: the event loop has more work than it can do (idle: < 5 ms).
_LATE_SECONDS: Final = 0.5
_LATE_FOR_SECONDS: Final = 1.0


class Admission:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0
        self._beginning = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.late_since: float | None = None

    def place(self) -> Admission:
        """A block around a begin: it has a place until the turn runs or it fails. Raises overloaded."""
        return self

    async def __aenter__(self) -> None:
        late = self.late_since
        if late is not None and asyncio.get_running_loop().time() - late >= _LATE_FOR_SECONDS:
            raise _overloaded()
        if self.full:
            await self._wait()
        else:
            self._beginning += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beginning -= 1
        self._give_on()

    @property
    def full(self) -> bool:
        """Would a send that comes now have to wait, or be refused?"""
        return bool(self._waiting) or not self._free()

    def began(self) -> None:
        """A turn runs: begun here with a place, or taken over."""
        self._running += 1

    def ended(self) -> None:
        self._running -= 1
        self._give_on()

    def _give_on(self) -> None:
        """A place is free: the send that has waited longest gets it."""
        while self._waiting and self._free():
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._beginning += 1
                waiter.set_result(None)

    def note_lag(self, seconds: float) -> None:
        """How late the event loop runs its timers; told five times a second."""
        if seconds < _LATE_SECONDS:
            self.late_since = None
        elif self.late_since is None:
            self.late_since = asyncio.get_running_loop().time()

    def _free(self) -> bool:
        return self._running + self._beginning < self._limit

    async def _wait(self) -> None:
        if len(self._waiting) >= max(1, self._limit // _WAITING_SHARE):
            raise _overloaded()
        metrics.admission_waits.inc()
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await asyncio.wait([waiter], timeout=_PATIENCE_SECONDS)
        except asyncio.CancelledError:
            if waiter.done():
                self._beginning -= 1
                self._give_on()
            else:
                self._waiting.remove(waiter)
            raise
        if not waiter.done():
            self._waiting.remove(waiter)
            raise _overloaded()


def _overloaded() -> ServiceError:
    metrics.limit_rejections.labels(limit="admission").inc()
    return ServiceError(
        "overloaded",
        "This replica has as many answers running as it can take; try again in 1 s.",
        retry_after=1,
    )
