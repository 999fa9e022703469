"""The log: appending events for all of a worker's turns in one round trip, and reading them back.

Invariants: an event's Redis id is `<event id>-0`, so a repeated append is refused, never
doubled; nothing is handed out before its append was acknowledged (P1).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from service.errors import StoreUnavailable
from service.events import Event
from service.store.connection import lua
from service.store.connection.typed_scripts import Call
from service.store.part import StorePart
from service.store.turn_records import TurnRef
from service.telemetry import metrics

T = TypeVar("T")

# What append.lua and renew.lua return for a turn.
OK: Final = 1
STOP: Final = 2
FENCED: Final = 0
GONE: Final = -1
LOST: Final = -2
ORPHAN: Final = 3

# Events read per round trip: a page is some tens of KiB, and a 65k-token answer a hundred pages.
PAGE: Final = 500


@dataclass(slots=True)
class Append:
    """Events to append to one turn's log, and fields of its hash to set in the same step."""

    names: Sequence[str]  # the keys, as Log.names gives them
    epoch: int
    claim: str
    first_id: int
    payloads: Sequence[bytes]
    fields: Sequence[Any] = ()


class Log(StorePart):
    def name(self, ref: TurnRef) -> str:
        """The log's key, which is also the channel that is notified when it grows."""
        return self._session(ref).log(ref.turn_id)

    def names(self, ref: TurnRef) -> Sequence[str]:
        """The keys that an append writes. Made once per turn: making them takes as long as the call."""
        return self._turn(ref), self.name(ref)

    async def append(self, appends: Sequence[Append]) -> list[Any]:
        """Append for many turns in one round trip. Per turn OK, STOP, FENCED, GONE, LOST or an exception."""
        begin = time.perf_counter()
        results = await self._scripts.batch("append", self._calls(appends))
        self._note(appends, begin)
        return results

    def start_append(self, appends: Sequence[Append], answered: Callable[[list[Any] | None], None]) -> bool:
        """The same without waiting and without a task. False where that is not possible now.

        `answered` gets the results, or None: then call `append` with the same, which never doubles an event.
        """
        begin = time.perf_counter()

        def noted(results: list[Any] | None) -> None:
            if results is not None:
                self._note(appends, begin)
            answered(results)

        return self._scripts.start("append", self._calls(appends), noted)

    def _calls(self, appends: Sequence[Append]) -> list[Call]:
        return [
            lua.append(
                turn=item.names[0],
                log=item.names[1],
                epoch=item.epoch,
                claim=item.claim,
                lease_ms=self.lease_ms,
                first=item.first_id,
                fields=item.fields,
                payloads=item.payloads,
            )
            for item in appends
        ]

    def _note(self, appends: Sequence[Append], begin: float) -> None:
        metrics.append_duration.observe(time.perf_counter() - begin)
        metrics.events_appended.inc(sum([len(item.payloads) for item in appends]))

    def by_server(self, items: Sequence[T], name: Callable[[T], str]) -> dict[str, Sequence[T]]:
        """Group items by the server that holds their log; `name` gives the log's key."""
        return self._client.by_server(items, name)

    async def read(self, ref: TurnRef, after: int, count: int = PAGE) -> list[Event]:
        """Up to `count` events with ids above `after`."""
        return await self._read(self.name(ref), after, count)

    async def _read(self, name: str, after: int, count: int = PAGE) -> list[Event]:
        entries = await self._client.run("read", self._redis.xrange(name, f"{after + 1}-0", "+", count))
        return [_event(entry) for entry in entries]

    async def read_all(self, ref: TurnRef) -> list[Event]:
        events: list[Event] = []
        while True:
            page = await self.read(ref, events[-1].id if events else 0)
            events += page
            if len(page) < PAGE:
                return events

    async def read_many(self, wanted: Sequence[tuple[str, int]]) -> list[list[Event]]:
        """New events of many turns' logs, by their names, in one round trip."""
        if self._client.cluster:
            return await asyncio.gather(*(self._read(name, after) for name, after in wanted))
        commands = [("XRANGE", name, f"{after + 1}-0", "+", "COUNT", PAGE) for name, after in wanted]
        pages = await self._client.many("tail", commands)
        for page in pages:
            if isinstance(page, BaseException):
                raise StoreUnavailable from page
        return [[_event(entry) for entry in page] for page in pages]


def _event(entry: Sequence[Any]) -> Event:
    """From a reply: id, [field, value]."""
    return Event(int(entry[0].split(b"-", 1)[0]), entry[1][1])
