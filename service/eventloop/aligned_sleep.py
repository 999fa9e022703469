"""Sleeping until moments that all loops of a process share.

Waking an idle worker costs 0.1 to 0.3 ms of processor time, however little it then does. Periodic
loops that wake at the same moment share that cost. Different processes have different moments, so
that they do not all wake and ask Redis at once.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

# Processes that are started together have neighbouring ids: a prime spreads them over a tenth of a second.
_SPREAD: Final = 29
_GRID_MS: Final = 100


async def aligned_sleep(seconds: float) -> float:
    """Sleep until this process's next multiple of `seconds`. Returns how late the wake-up was, in seconds."""
    loop = asyncio.get_running_loop()
    period = max(1, round(seconds * 1000))
    since = round(loop.time() * 1000) + os.getpid() * _SPREAD % _GRID_MS
    wait = (period - since % period) / 1000
    due = loop.time() + wait
    await asyncio.sleep(wait)
    return max(0.0, loop.time() - due)
