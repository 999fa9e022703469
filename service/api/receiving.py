"""Bodies that are being received: how many bytes of them a worker holds, of one principal and in all.

A body is held until its last byte has come, for 30 s at most (bodies.py). Without a bound, a caller
with a key and 1,000 connections could make a worker hold 1 GiB of bodies that never end.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from service.errors import ServiceError

_MIB: Final = 1_048_576
# A body is usually whole after one read; 32 of the largest at once are slow uploads of an office.
_OF_ONE: Final = 32 * _MIB
_IN_ALL: Final = 128 * _MIB  # an eighth of what compose gives a replica


class Receiving:
    def __init__(self, largest: int) -> None:
        """`largest` is the bound on one body in bytes: two of them always find room."""
        self._of_one = max(_OF_ONE, 2 * largest)
        self._in_all = max(_IN_ALL, 4 * largest)
        self._held: Counter[str] = Counter()

    def add(self, principal: str, size: int) -> None:
        """Count bytes that have come, until `give_back`. Raises concurrency_limited, overloaded."""
        if self._held[principal] + size > self._of_one:
            raise ServiceError(
                "concurrency_limited", "Too many bodies are on their way; send some later.", retry_after=1
            )
        if self._held.total() + size > self._in_all:
            raise ServiceError("overloaded", "Too many bodies are on their way.", retry_after=1)
        self._held[principal] += size

    def give_back(self, principal: str, size: int) -> None:
        self._held[principal] -= size
        if not self._held[principal]:
            del self._held[principal]
