"""The beat: what a process does from time to time, it does in one wake-up.

Waking an idle worker costs 0.1 to 0.3 ms of processor time, whatever little it then does, so loops
sleep until moments that they share. Processes have different moments: they neither wake nor ask
Redis all at once.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

# Processes that are started together have neighbouring ids: a prime spreads them over a tenth of a second.
_SPREAD: Final = 29
_GRID_MS: Final = 100


async def beat(seconds: float) -> float:
    """Sleep until this process's next multiple of `seconds`. Returns how late the wake-up was, in seconds."""
    loop = asyncio.get_running_loop()
    period = max(1, round(seconds * 1000))
    since = round(loop.time() * 1000) + os.getpid() * _SPREAD % _GRID_MS
    wait = (period - since % period) / 1000
    due = loop.time() + wait
    await asyncio.sleep(wait)
    return max(0.0, loop.time() - due)
