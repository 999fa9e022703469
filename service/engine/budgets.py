"""Token budgets: reserve at begin, settle with real usage at every ending, exactly once."""

from __future__ import annotations

from service.store.turns import TurnRef


class Budgets:
    async def settle(self, ref: TurnRef, model: str, usage: dict[str, int]) -> None: ...
