"""Callers that a request limit has refused: they are refused again without asking Redis.

Each worker remembers them, so that a refusal costs less than the request. Invariants: at most _CALLERS
are remembered, and the one noted first is forgotten first; a caller is remembered until its window has
room again, and for 60 s at most, so that a Redis that came back empty counts within 60 s; a refusal by
one limit does not apply to another (keys of one owner may have different ones). Who is noted, and what a
refusal says, is limits.py's.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from limits import RateLimitItem

# 0.4 KiB each: 4 MiB of a worker at most.
_CALLERS: Final = 10_000
_LONGEST_SECONDS: Final = 60.0

Windows = tuple[RateLimitItem, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a limit says of a request. `limit` is the window that binds: of those with the least left the
    one that lasts longest; `reset` is the time in s until it has room, or more room."""

    passes: bool
    limit: RateLimitItem
    left: int
    reset: float


@dataclass(frozen=True, slots=True)
class _Noted:
    windows: Windows
    decision: Decision
    room_at: float
    until: float


class OverLimit:
    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._noted: OrderedDict[tuple[str, str], _Noted] = OrderedDict()

    def note(self, who: str, kind: str, windows: Windows, decision: Decision) -> None:
        """Redis has refused this caller."""
        now = self._now()
        until = now + min(decision.reset, _LONGEST_SECONDS)
        self._noted[who, kind] = _Noted(windows, decision, now + decision.reset, until)
        self._noted.move_to_end((who, kind))
        if len(self._noted) > _CALLERS:
            self._noted.popitem(last=False)

    def find(self, who: str, kind: str, windows: Windows) -> Decision | None:
        """The refusal that still holds, with the time until there is room; None: ask Redis."""
        noted = self._noted.get((who, kind))
        if noted is None or noted.windows != windows:
            return None
        now = self._now()
        if now >= noted.until:
            del self._noted[who, kind]
            return None
        if noted.decision.limit.amount == 0:  # a limit of 0 never has room
            return noted.decision
        return replace(noted.decision, reset=noted.room_at - now)

    def __len__(self) -> int:
        return len(self._noted)
