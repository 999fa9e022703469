"""What a waiting call has asked for, and what it is granted. When that is decided is queue.py's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from service.store.pacing import NEAR
from service.upstream.base import Limits


@dataclass(frozen=True, slots=True)
class Grant:
    """A call let go, `at` Redis's ms; tokens left of the minute and reserved by others as of then."""

    prompt: int
    completion: int
    at: int = 0
    level: float = -1.0
    out: float = 0.0


@dataclass(slots=True, eq=False)
class Waiter:
    principal: str
    prompt: int
    completion: int
    fixed: bool
    since: float
    deadline: float
    outcome: asyncio.Future[Grant | float]
    held: bool = False


def says_nothing(limits: Limits) -> bool:
    """The headers of an account whose calls are not counted, or that are not there."""
    if limits.remaining_tokens is not None and limits.remaining_tokens < (limits.limit_tokens or 0):
        return False
    return limits.remaining_requests is None or limits.remaining_requests >= NEAR
