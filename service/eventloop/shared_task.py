"""Waiting for a task that others wait for too, or that goes on when who waits has left.

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
    """An exception that nobody has waited for to the end is no error of the loop's."""
    if not task.cancelled():
        task.exception()
