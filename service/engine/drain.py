"""Drain: how a worker leaves without cutting anything.

From the signal on it begins no turn and takes none over; what runs goes on until the deadline
that the server has set. What is left then is released for takeover, and its readers are told to
reconnect, before the server cuts their connections.
"""

from __future__ import annotations

import asyncio
from typing import Final

from service.engine.engine import Engine
from service.eventloop.leaving import Leaving
from service.telemetry import metrics
from service.telemetry.logs import get_logger

# Seconds before the server's deadline: for the last appends, the releases, and telling readers to reconnect.
_MARGIN_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.5  # between looks at the deadline, which the server may bring nearer

log = get_logger(__name__)


class Drain:
    def __init__(self, engine: Engine, leaving: Leaving) -> None:
        self._engine = engine
        self._leaving = leaving

    async def watch(self) -> None:
        await self._leaving.wait()
        self._engine.drain(refuse=self._leaving.refusing)
        metrics.drains.inc()
        log.info("drain.began", turns_running=len(self._engine.running))
        await self._until_deadline()
        if left := len(self._engine.running):
            log.warning("drain.deadline", turns_running=left, action="released for takeover")
        await self._engine.release()

    async def finish(self) -> None:
        """When the server has no request left: turns without readers run on until the deadline."""
        self._engine.drain()
        await self._until_deadline()
        await self._engine.release()

    async def _until_deadline(self) -> None:
        """Returns when no turn and no reader is left, or shortly before the server cuts."""
        loop = asyncio.get_running_loop()
        while True:
            end = self._leaving.deadline - _MARGIN_SECONDS
            if end == float("inf"):
                return
            try:
                async with asyncio.timeout_at(min(end, loop.time() + _LOOK_SECONDS)):
                    await self._engine.idle()
                    return
            except TimeoutError:
                if loop.time() >= end:
                    return
