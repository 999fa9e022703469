"""How long an event loop stood still, without the time for which the machine had no core for it.

A blocked loop and a process that waits for a core look alike to a clock. The kernel says how
long this thread has waited for one (`schedstat`), and that is taken off: what is left is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

_STEP = 0.005


@dataclass
class Lag:
    """`worst` is the longest stand in s; `seconds` is how long was watched, both without waits."""

    worst: float = 0.0
    seconds: float = 0.0


def waited() -> float:
    """Seconds for which this thread was ready to run and had no core; 0 where that is not told."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


@contextlib.asynccontextmanager
async def watching() -> AsyncIterator[Lag]:
    """Watch the loop while the block runs; old objects of other tests are no garbage of this one."""
    lag = Lag()
    gc.collect()
    gc.freeze()
    task = asyncio.create_task(_watch(lag))
    try:
        yield lag
    finally:
        task.cancel()  # what is frozen stays so: to unfreeze would be to look again at all that is imported


async def _watch(lag: Lag) -> None:
    while True:
        begin, had_waited = time.perf_counter(), waited()
        await asyncio.sleep(_STEP)
        took = time.perf_counter() - begin - (waited() - had_waited)
        lag.seconds += max(0.0, took)
        lag.worst = max(lag.worst, took - _STEP)
