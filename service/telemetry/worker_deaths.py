"""How many workers of this replica have died: a number in memory that the master shares with its children.

Not in a file of prometheus_client's, since workers may die because no such file can be written. Made at
import, before the first fork; only the master adds. Shown as `chat_worker_deaths_total`.
"""

from __future__ import annotations

import mmap
from typing import Final

_PAGE: Final = memoryview(mmap.mmap(-1, 8)).cast("Q")


def add() -> None:
    _PAGE[0] += 1


def count() -> int:
    return _PAGE[0]
