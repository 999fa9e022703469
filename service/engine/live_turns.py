"""Turns that run or wait, of all principals: shown to operators, and stopped by them.

Turns are found by the indexes of deadlines, which name every turn that is not settled. Turns that begin or
end while a list is made may be in it or not. Invariants: no text is read; a stop is the same as a user's
(stopping.py). Who may do this is the edge's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from service.engine.stopping import Stops
from service.store.store import Store
from service.store.turn_records import Turn

# Turns that are read for one list: 5 ms of Redis, and more than 16 workers run.
_MOST: Final = 20_000
_STOPS_AT_ONCE: Final = 16


class LiveTurns:
    def __init__(self, store: Store, stops: Stops) -> None:
        self._store = store
        self._stops = stops

    async def find(self, principal: str = "", turn_id: str = "") -> list[Turn]:
        """Turns that have not ended, oldest first; of one principal, or one turn of it, if given."""
        refs = await self._store.leases.unsettled(_MOST)
        wanted = [ref for ref in refs if principal in ("", ref.principal) and turn_id in ("", ref.turn_id)]
        turns = await self._store.turns.outlines(wanted)
        return sorted((turn for turn in turns if not turn.sealed), key=lambda turn: turn.created)

    async def stop(self, turns: Sequence[Turn]) -> list[str]:
        """Stop turns; returns the ids of those sealed now. Queued ones first, or they would begin."""
        stopped: list[str] = []

        async def one(turn: Turn) -> None:
            if await self._stops.carry_out(turn.ref):
                stopped.append(turn.ref.turn_id)

        for state in ("queued", "running"):
            some = [turn for turn in turns if turn.state == state]
            for first in range(0, len(some), _STOPS_AT_ONCE):
                await asyncio.gather(*map(one, some[first : first + _STOPS_AT_ONCE]))
        return stopped
