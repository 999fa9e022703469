"""Metrics of this worker: its processor time and memory, that it runs; and how full the store is.

Invariant: while the store does not answer, its last figures stay.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from service.errors import StoreUnavailable
from service.eventloop.aligned_sleep import aligned_sleep
from service.store.store import Store
from service.telemetry import metrics

_PERIOD_SECONDS: Final = 1.0
_STORE_EVERY: Final = 15  # periods between two INFOs: one per scrape
_STATM: Final = Path("/proc/self/statm")  # 12 us a reading; other systems have none and show 0


class ProcessStats:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._used = 0.0
        self._periods = 0

    async def run(self) -> None:
        metrics.workers.set(1)
        while True:
            now = time.process_time()
            metrics.cpu.inc(now - self._used)
            self._used = now
            with contextlib.suppress(OSError):
                metrics.resident.set(int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            if self._periods % _STORE_EVERY == 0:
                await self._look_at_store()
            self._periods += 1
            await aligned_sleep(_PERIOD_SECONDS)

    async def _look_at_store(self) -> None:
        if self._store.settings.redis_url is None:
            return  # in memory, in this process
        with contextlib.suppress(StoreUnavailable):
            used, limit = await self._store.client.memory()
            metrics.redis_memory.set(used)
            metrics.redis_memory_limit.set(limit)
