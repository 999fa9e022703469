"""The end of a turn: all that it takes in Redis, in one round trip.

The seal, the settlement and the end of the announcement each have a module and a script of their own. On one
server they are called together (lua/finish.lua), since all of them follow from what the sealer knows; on a
Cluster one after the other. What a turn ends with is decided elsewhere.
"""

from __future__ import annotations

from service.store.connection import lua
from service.store.leases import Leases
from service.store.ledger import Booking, Ledger
from service.store.part import Shared, StorePart
from service.store.turn_records import Seal, Sealed, Turn
from service.store.turns import Turns


class TurnEnds(StorePart):
    def __init__(self, shared: Shared, turns: Turns, leases: Leases, ledger: Ledger) -> None:
        super().__init__(shared)
        self._turns = turns
        self._leases = leases
        self._ledger = ledger

    @property
    def together(self) -> bool:
        """Can a turn be sealed and settled at once?"""
        return not self._client.cluster

    async def finish(self, turn: Turn, seal: Seal, booking: Booking) -> Sealed:
        """Seal and, where that is done, settle. Raises StoreUnavailable."""
        index, owned = self._leases.announced
        answer, booked = await self._scripts.call(
            lua.finish(
                index=index,
                owned=owned,
                reference=str(turn.ref),
                sealing=self._turns.sealing(turn, seal),
                settling=self._ledger.settling(turn.ref, booking),
            )
        )
        if booked:
            await self._ledger.note_booked(turn.ref.principal, booking)
        return self._turns.sealed(answer)
