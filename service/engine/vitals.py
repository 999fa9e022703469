"""What this worker costs: processor time, memory, and that it is there. Written once a second."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Final

from service import metrics

_PERIOD_SECONDS: Final = 1.0
_STATM: Final = Path("/proc/self/statm")  # 12 us a reading; other systems have none and show 0


async def vitals() -> None:
    metrics.workers.set(1)
    used = 0.0
    while True:
        now = time.process_time()
        metrics.cpu.inc(now - used)
        used = now
        with contextlib.suppress(OSError):
            metrics.resident.set(int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        await asyncio.sleep(_PERIOD_SECONDS)
