"""Bounds of this worker on the bodies of requests: how much it holds, and how much it reads in vain.

A body is held until its last byte has come, for 30 s at most (bodies.py). Without a bound, a caller
with a key and 1,000 connections could make a worker hold 1 GiB of bodies that never end. A large body
takes some 15 ms to read and check; a refused one is charged as a read, of which a caller may have 1,200 a
minute, so the bytes of refused bodies are bounded too.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from service.errors import ServiceError
from service.telemetry import metrics

_MIB: Final = 1_048_576
# A body is usually complete after one read; 32 of the largest at once are slow uploads of a whole office.
_PER_PRINCIPAL: Final = 32 * _MIB
_IN_ALL: Final = 128 * _MIB  # an eighth of what compose gives a replica


class BodyBounds:
    def __init__(self, largest: int) -> None:
        """`largest` is the bound on one body in bytes: a principal has room for two of them."""
        self._per_principal = max(_PER_PRINCIPAL, 2 * largest)
        self._in_all = max(_IN_ALL, 4 * largest)
        self._held: Counter[str] = Counter()
        self.working = asyncio.Lock()  # held while a large body is parsed

    def add(self, principal: str, size: int) -> None:
        """Count bytes that were received, until `give_back`. Raises concurrency_limited, overloaded."""
        if self._held[principal] + size > self._per_principal:
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


# A caller may have six refused bodies of 330 KiB at once, then one in 5 s: 3 ms of each second of a worker.
_REFUSED_AT_ONCE: Final = 2 * _MIB
_REFUSED_PER_SECOND: Final = 65_536
_CALLERS: Final = 10_000  # that are remembered, 0.2 KiB each; the one refused longest ago goes first


class RefusedBodies:
    """Bytes of large bodies that were read and then refused, per caller: a leaky bucket."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller -> bytes, when

    def add(self, caller: str, size: int) -> None:
        self._levels[caller] = (self._level(caller) + size, self._now())
        self._levels.move_to_end(caller)
        if len(self._levels) > _CALLERS:
            self._levels.popitem(last=False)

    def check(self, caller: str) -> None:
        """Before a large body of this caller is read. Raises rate_limited."""
        over = self._level(caller) - _REFUSED_AT_ONCE
        if over >= 0:
            wait = max(1, math.ceil(over / _REFUSED_PER_SECOND))
            metrics.limit_rejections.labels(limit="refused_bodies").inc()
            text = f"Too many large requests of yours were refused; try again in {wait} s."
            raise ServiceError("rate_limited", text, retry_after=wait)

    def _level(self, caller: str) -> float:
        level, since = self._levels.get(caller, (0.0, 0.0))
        return max(0.0, level - (self._now() - since) * _REFUSED_PER_SECOND)
