"""One read of the store for all who ask for the same at the same time.

Invariant: a read goes on when who asked first has left, since others may wait for it. What was read is
remembered by the modules that ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from service.eventloop.shared_task import result_of

Wanted = TypeVar("Wanted")
Found = TypeVar("Found")


class SharedReads(Generic[Wanted, Found]):
    def __init__(self, name: str, fetch: Callable[[Wanted], Awaitable[Found]]) -> None:
        self._name = name  # of the tasks
        self._fetch = fetch
        self._under_way: dict[Wanted, asyncio.Task[Found]] = {}

    async def read(self, wanted: Wanted) -> Found:
        """Raises what `fetch` does."""
        task = self._under_way.get(wanted)
        if task is None:
            task = asyncio.create_task(self._read(wanted), name=self._name)
            self._under_way[wanted] = task
            task.add_done_callback(lambda _: self._under_way.pop(wanted, None))
        return await result_of(task)

    async def _read(self, wanted: Wanted) -> Found:
        return await self._fetch(wanted)
