"""Waiting for a fact with a bound, instead of sleeping and hoping.

`eventually` returns the first true value of its predicate; `eventually_async` is the same on
an event loop. Both raise AssertionError when the time is up.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_POLL = 0.02


def eventually(predicate: Callable[[], T | None], within: float = 15.0, what: str = "") -> T:
    deadline = time.monotonic() + within
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(predicate, within, what))
        time.sleep(_POLL)


@overload
async def eventually_async(
    predicate: Callable[..., Awaitable[T | None]], within: float = 15.0, what: str = "", every: float = _POLL
) -> T: ...
@overload
async def eventually_async(
    predicate: Callable[..., T | None], within: float = 15.0, what: str = "", every: float = _POLL
) -> T: ...
async def eventually_async(
    predicate: Callable[..., Any], within: float = 15.0, what: str = "", every: float = _POLL
) -> Any:
    deadline = time.monotonic() + within
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(predicate, within, what))
        await asyncio.sleep(every)


def _complaint(predicate: object, within: float, what: str) -> str:
    return f"not within {within:g} s: {what or getattr(predicate, '__qualname__', predicate)}"
