"""Stopping a turn: by its owner, or by this worker if the owner does not.

The stop is noted in the store before the owner is told, so that it holds for any later owner too.
What a stopped turn keeps and bills is sealing.py's.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Final

from service.engine.reader import Readers, Reconnect
from service.engine.running import Running
from service.engine.sealing import Sealer
from service.errors import StoreUnavailable
from service.eventloop.shared_task import result_of
from service.store.store import Store
from service.store.turn_records import TurnRef
from service.telemetry import metrics
from service.telemetry.logs import get_logger

# After this time the worker that was asked seals the turn itself.
_PATIENCE_SECONDS: Final = 0.2
# Two workers that stop one turn by force fence each other. They pause for a random time, up to a claim and a
# seal.
_TRIES: Final = 10
_PAUSE_SECONDS: Final = 0.05

# Turns that begin in a session while its turns are stopped, and are stopped too. Each waits for a seal, so an
# interrupt or a delete takes seconds at most.
_LATE_TURNS: Final = 5

log = get_logger(__name__)


class Stops:
    def __init__(self, store: Store, readers: Readers, sealer: Sealer, running: Running) -> None:
        self._store = store
        self._readers = readers
        self._sealer = sealer
        self._running = running
        #: turns of one session that are stopped one after the other; queued ones begin meanwhile
        self.most = store.settings.max_queued_turns + _LATE_TURNS
        self._forcing: dict[str, asyncio.Task[None]] = {}

    async def carry_out(self, ref: TurnRef) -> bool:
        """Returns when the turn is sealed; False where there is no such turn.

        A turn that is gone, or has ended, holds its session no longer.
        """
        begin = time.perf_counter()
        noted = await self._store.turns.stop(ref)
        if noted is None:
            await self._running.free(ref)
            return False
        state, owner, left = noted
        if state in ("running", "queued"):
            metrics.stops.inc()
            if not (state == "running" and left > 0 and await self._owner_seals(ref, owner)):
                await self._seal_by_force(ref)
            metrics.stop_duration.observe(time.perf_counter() - begin)
        else:
            await self._running.free(ref)
        return True

    async def _owner_seals(self, ref: TurnRef, owner: str) -> bool:
        live = self._running.find(ref)
        if live is not None:
            live.interrupt("stop")
        else:
            await self._store.turns.notify(owner, ref)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                turn = await self._store.turns.get(ref)
                if turn is not None and not turn.sealed:
                    await self._readers.follow(ref, turn.last, lambda _: None)
        except (TimeoutError, Reconnect):  # this worker may be leaving: its readers end, the stop does not
            return False
        return True

    async def _seal_by_force(self, ref: TurnRef) -> None:
        """Seal the turn here; other stops of the same turn wait for the same seal."""
        forcing = self._forcing.get(ref.turn_id)
        if forcing is None:
            forcing = self._forcing[ref.turn_id] = asyncio.create_task(self._force(ref), name="stop")
            forcing.add_done_callback(lambda _: self._forcing.pop(ref.turn_id, None))
        await result_of(forcing)

    async def _force(self, ref: TurnRef) -> None:
        for _ in range(_TRIES):
            claim = await self._store.turns.claim(ref, self._store.worker, force=True)
            if claim.outcome != "CLAIMED" or claim.turn is None:
                return
            log.warning("stop.forced", turn=ref.turn_id, previous_owner=claim.previous_owner)
            sealed = await self._sealer.stop_from_log(claim.turn)
            if claim.previous_owner != self._store.worker:
                with suppress(StoreUnavailable):  # the set is a hint: a stop does not fail because of it
                    await self._store.leases.disown(ref, claim.previous_owner)
            if sealed.outcome != "FENCED":
                if sealed.following:
                    await self._running.promote(ref, sealed.following)
                return
            await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS))
        raise StoreUnavailable("The turn is claimed again and again; stop it again in 2 s.")
