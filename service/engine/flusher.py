"""The flusher: one append per turn and window, all turns of the worker in one round trip.

The first token of an answer goes at once. After that a window (15 ms unless set) collects what
arrives; a round trip that takes longer makes the window longer, so nothing ever queues up. While
Redis is away the turns hold their deltas and the same append is tried again, for a bounded time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final

from service import metrics
from service.engine.background import Background
from service.engine.live import Live
from service.errors import StoreUnavailable
from service.logs import get_logger
from service.settings import Settings
from service.store import log as codes
from service.store.log import Append, Log

_RETRY_SECONDS: Final = 0.1
# Turns per round trip: keeps one pipeline's reply, and the loop's work on it, below a few ms.
_CHUNK: Final = 256
_SIGNALS: Final = {codes.STOP: "stop", codes.FENCED: "fenced", codes.GONE: "gone", codes.LOST: "lost"}

log = get_logger(__name__)


class Flusher:
    def __init__(self, settings: Settings, store_log: Log, background: Background) -> None:
        self._log = store_log
        self._window = settings.flush_window_seconds
        self._hold = settings.store_hold_seconds
        self._background = background
        self._dirty: set[Live] = set()
        self._wake = asyncio.Event()

    def start(self) -> None:
        self._background.loop("flusher", self._run)

    def put(self, live: Live, *, urgent: bool = False) -> None:
        """The turn has something to write; `urgent` does not wait for the window."""
        if urgent and not live.in_flight:
            self._background.task("flush", self._flush([live]))
            return
        self._dirty.add(live)
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch = [live for live in self._dirty if not live.in_flight]
            self._dirty.clear()
            begin = loop.time()
            for i in range(0, len(batch), _CHUNK):
                await self._flush(batch[i : i + _CHUNK])
            took = loop.time() - begin
            await asyncio.sleep(max(self._window, took))

    async def _flush(self, lives: Collection[Live]) -> None:
        ready = [live for live in lives if live.has_pending and not live.in_flight]
        if not ready:
            return
        appends = []
        for live in ready:
            live.take_off()
            first, payloads, fields = live.take()
            appends.append(Append(live.turn.ref, live.turn.epoch, first, payloads, fields))
        results: list[Any]
        try:
            results = await self._log.append(appends)
        except StoreUnavailable as error:
            results = [error] * len(ready)
        finally:
            for live in ready:
                live.land()
        now = asyncio.get_running_loop().time()
        for live, result in zip(ready, results, strict=True):
            self._settle(live, result, now)

    def _settle(self, live: Live, result: Any, now: float) -> None:
        if isinstance(result, BaseException):
            self._held(live, now)
            return
        live.appended_at = now
        if result in (codes.OK, codes.STOP):
            live.acknowledge()
            if live.has_pending:
                self.put(live)
        elif result == codes.FENCED:
            metrics.fenced.inc()
        signal = _SIGNALS.get(result)
        if signal:
            live.interrupt(signal)

    def _held(self, live: Live, now: float) -> None:
        if live.failing_since is None:
            live.failing_since = now
            metrics.store_holds.inc()
            log.warning("store.held", turn=live.turn.ref.turn_id, hold_seconds=self._hold)
        if now - live.failing_since > self._hold:
            live.interrupt("store")
            return
        asyncio.get_running_loop().call_later(_RETRY_SECONDS, self.put, live)
