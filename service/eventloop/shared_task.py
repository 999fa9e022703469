"""Waiting for a task that several may wait for, and that goes on when one of them has left.

Not asyncio.shield: from Python 3.14 on it reports an exception of the task as unhandled as soon as one of
those who waited was cancelled. Each outage of the store would then be errors in the log that mean nothing.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def result_of(task: asyncio.Task[T]) -> T:
    """Its result, or raises what it has raised. Cancelling who waits here does not cancel it."""
    task.add_done_callback(_see)
    await asyncio.wait([task])
    return task.result()


def _see(task: asyncio.Task[T]) -> None:
    """Retrieve the exception, so that asyncio does not log it when nobody waits any more."""
    if not task.cancelled():
        task.exception()
