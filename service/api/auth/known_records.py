"""A worker's cache of records of the store: fresh for two seconds, so that a change counts soon.

While the store is silent, a known record is used for five minutes, so that an outage locks nobody out; an
unknown one is 503. Invariants: at most _MOST are known, and those read longest ago are forgotten first; all
who ask for the same record at once share one read. Which records: key_cache.py, principal_cache.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from service.errors import StoreUnavailable
from service.eventloop.shared_task import result_of

_FRESH_SECONDS: Final = 2.0
_STALE_SECONDS: Final = 300.0
_RETRY_SECONDS: Final = 1.0  # between tries while the store is silent
_MOST: Final = 10_000  # 5 MB; where there are more, some are read more often

Wanted = TypeVar("Wanted")
Found = TypeVar("Found")


@dataclass(slots=True)
class Known(Generic[Found]):
    record: Found
    read: float
    again: float


class KnownRecords(dict[str, Known[Found]]):
    def fresh(self, id: str) -> Known[Found] | None:
        known = self.get(id)
        return known if known is not None and asyncio.get_running_loop().time() < known.again else None

    def keep(self, id: str, record: Found) -> None:
        now = asyncio.get_running_loop().time()
        self.pop(id, None)  # and again at the end: the first is forgotten first
        if len(self) >= _MOST:
            del self[next(iter(self))]
        self[id] = Known(record, now, now + _FRESH_SECONDS)

    def bridged(self, id: str) -> Found:
        """The record from before the store fell silent, if it is known. Raises StoreUnavailable."""
        now = asyncio.get_running_loop().time()
        known = self.get(id)
        if known is None or now - known.read > _STALE_SECONDS:
            raise StoreUnavailable
        known.again = now + _RETRY_SECONDS
        return known.record


class SharedReads(Generic[Wanted, Found]):
    """Reads that are shared by all who ask for the same; one goes on when the first who asked has left."""

    def __init__(self, name: str, fetch: Callable[[Wanted], Coroutine[Any, Any, Found]]) -> None:
        self._name = name  # of the tasks
        self._fetch = fetch
        self._under_way: dict[Wanted, asyncio.Task[Found]] = {}

    async def read(self, wanted: Wanted) -> Found:
        """Raises what `fetch` does."""
        task = self._under_way.get(wanted)
        if task is None:
            task = asyncio.create_task(self._fetch(wanted), name=self._name)
            self._under_way[wanted] = task
            task.add_done_callback(lambda _: self._under_way.pop(wanted, None))
        return await result_of(task)
