"""Repeats: a send under an idempotency key that is known leads to the turn of the first. It is never refused.

How keys are stored is store/turns.py's. A send whose key is not known begins a turn (beginning.py).
"""

from __future__ import annotations

from service import ids
from service.engine.history import mismatch, turn_not_found
from service.engine.running import Running
from service.engine.sends import Attached, Send
from service.store.store import Store
from service.store.turn_records import TurnRef
from service.telemetry import metrics


class Repeats:
    def __init__(self, store: Store, running: Running) -> None:
        self._store = store
        self._running = running

    async def known(self, send: Send) -> Attached | None:
        """The turn of a repeat. Raises idempotency_mismatch for another body under the same key."""
        if send.key is None:
            return None
        session_id = send.session_id or ids.derived_session_id(send.principal, send.key)
        found = await self._store.turns.known(send.principal, session_id, send.key)
        if found is None:
            return None
        if found[1] != send.fingerprint():
            raise mismatch()
        ref = TurnRef(send.principal, session_id, found[0])
        attached = await self.attach(ref)
        if attached is None:
            if await self._answered(ref):
                raise turn_not_found()  # its answer is in the history, so the model is not asked again
            await self._running.free(ref, send.key)
        return attached

    async def knows(self, principal: str, session_id: str | None, key: str) -> bool:
        """Does the key belong to a turn of the session (None: of that of sends without one)?"""
        session_id = session_id or ids.derived_session_id(principal, key)
        return await self._store.turns.known(principal, session_id, key) is not None

    async def _answered(self, ref: TurnRef) -> bool:
        """Is the answer in the history though the turn is gone? One that it continued has another id."""
        sessions, answer = self._store.sessions, ids.answer_id(ref.turn_id)
        if await sessions.message(ref.principal, ref.session_id, answer) is not None:
            return True
        newest = await sessions.newest(ref.principal, ref.session_id, 1)
        return [message.turn_id for message in newest] == [ref.turn_id] and newest[0].role == "assistant"

    async def attach(self, ref: TurnRef) -> Attached | None:
        """A reader's way to a turn that has begun; None where it is gone."""
        turn = await self._store.turns.get(ref)
        if turn is None:
            return None
        if not turn.sealed:
            await self._store.leases.attend([ref])  # else its runner may be about to end it as unread
        metrics.idempotent_repeats.inc()
        return Attached(ref, turn.model, turn.created, fresh=False, state=turn.state, void=turn.void)
