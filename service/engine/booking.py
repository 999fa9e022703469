"""Booking: the usage of an ended turn that its sealer has not booked.

The sealer books its own turns (sealing.py). If it has died after the seal, or if the keys to book from are
about to be deleted, it is done here. Booking twice has the effect of once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from service.engine.attempts import Ending, line_of
from service.engine.budgets import Budgets
from service.engine.webhooks import Webhooks
from service.store.store import Store
from service.store.turn_records import Turn, TurnRef
from service.telemetry.logs import get_logger

# A sealer that lives books within a round trip of the seal, and writes the turn's line itself.
_SEALER_SECONDS: Final = 0.1

log = get_logger(__name__)


class Booking:
    def __init__(self, store: Store, budgets: Budgets, webhooks: Webhooks) -> None:
        self._store = store
        self._budgets = budgets
        self._webhooks = webhooks

    async def book_ended(self, refs: Sequence[TurnRef]) -> None:
        """Book the ended turns of a session now: the keys to book them from are about to be deleted."""
        late = await self._budgets.unsettled(refs)
        if late:
            await asyncio.sleep(_SEALER_SECONDS)
            late = await self._budgets.unsettled(late)
        for ref in late:
            turn = await self._store.turns.get(ref)
            if turn is not None and turn.sealed:
                await self.book(turn, "delete")

    async def book(self, turn: Turn, by: str) -> None:
        """Book a sealed turn whose sealer has not.

        The sealer may have died before or after it wrote the line `turn.ended`, so there may be two of them.
        """
        ending = Ending(
            turn.state,
            turn.answered_by or turn.model,
            turn.usage or {},
            turn.finish_reason,
            (turn.error or {}).get("code"),
        )
        await self._webhooks.ended(turn, ending)
        if await self._budgets.settle(turn, ending.model, ending.usage):
            log.info("turn.ended", **line_of(turn, ending), settled_by=by)
