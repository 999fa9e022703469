"""Records of the store as a worker knows them: kept for two seconds, so that a change holds soon.

While the store is silent what was known holds for five minutes, so that an outage locks nobody out; what
was not known is 503. Invariants: at most _MOST are known, and those read longest ago are forgotten first;
there is one read at a time for all who ask for the same. Which records: key_cache.py, principal_cache.py.
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
_MOST: Final = 10_000  # 5 MB; of more than that some are read more often

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
        self.pop(id, None)  # and to the end, where what is in use stays longest
        if len(self) >= _MOST:
            del self[next(iter(self))]
        self[id] = Known(record, now, now + _FRESH_SECONDS)

    def bridged(self, id: str) -> Found:
        """What was known before the store fell silent. Raises StoreUnavailable."""
        now = asyncio.get_running_loop().time()
        known = self.get(id)
        if known is None or now - known.read > _STALE_SECONDS:
            raise StoreUnavailable
        known.again = now + _RETRY_SECONDS
        return known.record


class SharedReads(Generic[Wanted, Found]):
    """A read goes on when who asked first has left, since others may wait for it."""

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
