"""Leases: who runs what until when, by Redis's clock.

The lease itself stands in the turn's hash (append and renew move it). This module keeps the
index of deadlines that sweepers read, and the set of turns per worker that lets the master
end a crashed worker's leases at once. Both are hints: scripts check the turn itself.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

from service.errors import StoreRefusesWrites
from service.store.connection import lua
from service.store.connection.typed_scripts import Call
from service.store.keys import part_of, part_tags
from service.store.part import Shared, StorePart
from service.store.turn_records import Turn, TurnRef

# A turn that a sweeper has taken is offered to other sweepers again after this time: it may have died.
_SWEEP_HOLD_MS: Final = 1_000
# A deadline lies one lease ahead at most. One that lies so much further came from a wrong clock. Clocks that
# differ by less delay a takeover by as much.
_AHEAD_MS: Final = 60_000
# A shard that answers does so in less than 1 ms.
_ANNOUNCE_SECONDS: Final = 0.25
_SWEEP_LIMIT: Final = 100
# Kept a day: longer than any outage of a host after which its set could still be wanted.
_OWNED_TTL_SECONDS: Final = 86_400
_ABANDONED: Final = 2  # of attend.lua

# Turns of an index in one step, 0.5 ms of Redis.
_PAGE: Final = 1_000


class Leases(StorePart):
    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._announcing: set[asyncio.Task[None]] = set()
        # By index, on the loop's clock: when it was heard of last, and until when owners come first.
        self._heard: dict[str, float] = {}
        self._owners_first: dict[str, float] = {}

    async def schedule(self, refs: Sequence[TurnRef], milliseconds: int | None = None) -> None:
        """Let a sweeper look at the turns after `milliseconds`, by default a lease and 50 ms."""
        due = self.lease_ms + 50 if milliseconds is None else milliseconds
        by_index: dict[str, list[str]] = {}
        for ref in refs:
            by_index.setdefault(self._index(ref), []).append(str(ref))
        calls = [
            self._scripts.call(lua.schedule(index=index, after_ms=due, references=of))
            for index, of in by_index.items()
        ]
        if len(calls) == 1:  # sent now, before what others ask of the store in the next moment
            await calls[0]
            return
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    @property
    def indexes(self) -> Sequence[str]:
        """The indexes of deadlines. On a Cluster each is on the shard of its turns, except the last one."""
        parts = part_tags() if self._client.cluster else ()
        return (*map(self._keys.deadlines_near, parts), self._keys.deadlines)

    def _index(self, ref: TurnRef) -> str:
        if not self._client.cluster:
            return self._keys.deadlines
        return self._keys.deadlines_near(part_tags()[part_of(self._session(ref).session)])

    async def own(self, ref: TurnRef) -> None:
        """Announce a turn before it begins: from now on a sweep finds it if its owner dies."""
        if not self._client.cluster:
            await self._scripts.call(self.announcing(ref))
            return
        # The index may be on another shard, and a slow one must not delay the turn: its owner announces it
        # again every third of a lease. A Cluster has no sets of workers' turns, since no master reads them.
        task = asyncio.create_task(self.schedule([ref]), name="announce")
        self._announcing.add(task)
        task.add_done_callback(self._announced)
        await asyncio.wait({task}, timeout=_ANNOUNCE_SECONDS)

    def _announced(self, task: asyncio.Task[None]) -> None:
        self._announcing.discard(task)
        if not task.cancelled():
            task.exception()  # counted where it arose

    def announcing(self, ref: TurnRef) -> Call:
        """The call that announces a turn on one server."""
        index, owned = self.announced
        return lua.own(
            index=index,
            owned=owned,
            after_ms=self.lease_ms + 50,
            reference=str(ref),
            ttl=_OWNED_TTL_SECONDS,
        )

    @property
    def announced(self) -> tuple[str, str]:
        """Where a turn of this worker is announced on one server: the index and the worker's set."""
        return self._keys.deadlines, self._keys.owned_by(self._worker)

    async def disown(self, ref: TurnRef, worker: str = "") -> None:
        """Remove a turn from the set of a worker, by default of this one."""
        if self._client.cluster:
            return
        name = self._keys.owned_by(worker or self._worker)
        await self._client.run("disown", self._redis.srem(name, str(ref)))

    async def settled(self, ref: TurnRef, settling: Call) -> Any:
        """Settle a turn that has ended, or has not begun; nobody needs to look at it again."""
        if self._client.cluster:
            answer = await self._scripts.call(settling)
            await self.forget(ref)
            return answer
        index, owned = self.announced
        leaving = lua.leave(index=index, owned=owned, reference=str(ref), settling=settling)
        return await self._scripts.call(leaving)

    async def forget(self, ref: TurnRef) -> None:
        """Nobody needs to look at the turn again."""
        pipeline = self._redis.pipeline()
        pipeline.zrem(self._index(ref), str(ref))
        if not self._client.cluster:
            pipeline.srem(self._keys.owned_by(self._worker), str(ref))
        await self._client.run("settle", pipeline.execute(), commands=2)

    async def due(self, index: str | None = None) -> list[TurnRef]:
        """Turns of an index whose deadline has passed. Other sweepers do not get them for the next second."""
        name = index or self._keys.deadlines
        call = lua.due(
            index=name, limit=_SWEEP_LIMIT, hold_ms=_SWEEP_HOLD_MS, ahead_ms=self.lease_ms + _AHEAD_MS
        )
        try:
            found = await self._scripts.call(call)
        except StoreRefusesWrites:
            self._heard[name] = -math.inf  # it is asked to write where a lease may have lapsed, not before
            raise
        self._is_heard(name)
        refs = [TurnRef.parse(reference.decode()) for reference in found]
        if refs and self._client.cluster and name == self._keys.deadlines:
            # Written there by workers from before December 2026.
            await self.schedule(refs, 0)
            await self._client.run("due", self._redis.zrem(name, *map(str, refs)))
            return []
        return refs

    def _is_heard(self, index: str) -> None:
        """A store was away for so long that leases may have lapsed: their owners have one to renew them."""
        now, lease = asyncio.get_running_loop().time(), self.lease_ms / 1000
        if now - self._heard.get(index, now) > lease * 2 / 3:  # they are renewed every third of one
            self._owners_first[index] = now + lease
        self._heard[index] = now

    def owners_first_ms(self, ref: TurnRef) -> int:
        """How long nobody takes this turn over, since the store is just back and its owner may live."""
        left = self._owners_first.get(self._index(ref), 0.0) - asyncio.get_running_loop().time()
        return max(0, int(left * 1000))

    async def unsettled(self, most: int) -> list[TurnRef]:
        """Turns that run, wait, or are not booked yet, each once. Stops at the page that reaches `most`."""
        references: dict[str, None] = {}
        for index in self.indexes:
            cursor = 0
            while True:
                cursor, members = await self._client.run("list", self._redis.zscan(index, cursor, _PAGE))
                references.update(dict.fromkeys(raw.decode() for raw, _ in members))
                if cursor == 0 or len(references) >= most:
                    break
        return [TurnRef.parse(reference) for reference in references]

    async def renew(self, turns: Sequence[tuple[Turn, bool]], orphan: float | None = None) -> list[Any]:
        """Renew many leases in one round trip: (turn, has a reader here) -> a code of log.py.

        `orphan`: seconds without a reader after which a turn is an orphan, by default CHAT_ORPHAN_SECONDS.
        """
        orphan_ms = int((self._settings.orphan_seconds if orphan is None else orphan) * 1000)
        calls = [
            lua.renew(
                self._session(turn.ref),
                turn=self._turn(turn.ref),
                epoch=turn.epoch,
                claim=turn.claim,
                lease_ms=self.lease_ms,
                has_reader=has_reader,
                orphan_ms=orphan_ms,
            )
            for turn, has_reader in turns
        ]
        return await self._scripts.batch("renew", calls) if calls else []

    async def attend(self, refs: Sequence[TurnRef]) -> list[TurnRef]:
        """Note that these turns, which others may run, have readers here. Returns those nobody runs."""
        calls = [lua.attend(turn=self._turn(ref)) for ref in refs]
        results = await self._scripts.batch("attend", calls) if calls else []
        return [ref for ref, result in zip(refs, results, strict=True) if result == _ABANDONED]

    async def attended(self, ref: TurnRef) -> bool:
        """Has the turn had another reader than the one that it began with?"""
        return bool(await self._client.run("attended", self._redis.hexists(self._turn(ref), "attended")))
