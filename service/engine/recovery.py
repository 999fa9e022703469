"""Recovery: leases renewed, deadlines kept, lapsed turns taken over, settled turns forgotten.

Three loops of every worker. `renew` keeps the leases of this worker's quiet turns (appends keep
those of the others) and hears of stops and orphans; `tick` ends attempts that are too slow;
`sweep` looks at every turn whose deadline has passed, by Redis's clock, and takes over what
nobody owns. The index is a hint: claim.lua decides.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from service.config.settings import Settings
from service.engine.admission import Admission
from service.engine.attempts import origin
from service.engine.background import Apart, Background
from service.engine.budgets import Budgets
from service.engine.live import Live
from service.engine.tail_cache import TailCaches
from service.errors import StoreUnavailable
from service.eventloop.aligned_sleep import aligned_sleep
from service.store import log as codes
from service.store.store import Store
from service.store.turn_records import Claim, Turn, TurnRef
from service.telemetry import metrics
from service.telemetry.logs import get_logger
from service.usage import detail

_TICK_SECONDS: Final = 0.2
# A lapsed turn waits half of this on average; one script per worker and sweep.
_SWEEP_SECONDS: Final = 0.2
# 2,000 leases at once would be 8 ms of the loop and 16 of Redis, for which all appends wait; one at a
# time, over a slow network, they would lapse meanwhile.
_RENEWED_TOGETHER: Final = 128
# From the leave of a reader whom nobody can follow to the end of its answer. A proxy that lost its
# connection to one replica asks the next within milliseconds, and its client never notices.
_LEFT_SECONDS: Final = 1.0
# A sealer that lives books within a round trip of the seal, and writes the turn's line itself.
_SEALER_SECONDS: Final = 0.1
_SIGNALS: Final = {codes.STOP: "stop", codes.FENCED: "fenced", codes.GONE: "gone", codes.ORPHAN: "orphan"}

log = get_logger(__name__)

T = TypeVar("T")


class Recovery:
    def __init__(
        self,
        settings: Settings,
        store: Store,
        tails: TailCaches,
        budgets: Budgets,
        admission: Admission,
        worker: str,
        lives: dict[str, Live],
        start: Callable[[Turn], Any],
    ) -> None:
        self._store = store
        self._tails = tails
        self._budgets = budgets
        self._admission = admission
        self._worker = worker
        self._lives = lives
        self._start = start
        self._lease = settings.lease_seconds
        self._orphan = settings.orphan_seconds
        self._sweep_every = min(_SWEEP_SECONDS, settings.lease_seconds / 4)
        self.closed = False

    def start(self, background: Background) -> None:
        background.loop("renew", partial(self._renew, Apart(background, "renew")))
        background.loop("tick", self._tick)
        background.loop("sweep", partial(self._sweep, Apart(background, "sweep")))

    async def _renew(self, apart: Apart) -> None:
        """Every third of a lease, or often enough to notice an orphan in time; each server apart."""
        by_server = self._store.log.by_server
        while True:
            await aligned_sleep(min(self._lease / 3, self._orphan / 4))
            apart.look()
            for server, lives in by_server(list(self._lives.values()), lambda live: live.names[1]).items():
                turns = [live.turn for live in lives]
                refs = [turn.ref for turn in turns]
                apart.start(("renew", server), partial(_in_groups, self._renew_leases, lives))
                # These are on the servers of their callers, and of the index.
                apart.start(("hold", server), partial(_in_groups, self._budgets.hold, turns))
                apart.start(("schedule", server), partial(_in_groups, self._store.leases.schedule, refs))
            remote = [tail for tail in self._tails.all() if tail.readers and not self._runs(tail.ref)]
            for server, tails in by_server(remote, lambda tail: tail.channel).items():
                apart.start(("attend", server), partial(self._attend, [tail.ref for tail in tails]))

    def _runs(self, ref: TurnRef) -> bool:
        return ref.turn_id in self._lives

    async def _attend(self, refs: Sequence[TurnRef]) -> None:
        # A shard that went back to before a seal has turns that the index has forgotten.
        for ref in await self._store.leases.attend(refs):
            await self.claim_due(ref)

    async def end_unread(self, ref: TurnRef) -> None:
        """End the turn of an unnamed session in a moment, where it runs here and nobody reads it by then.

        Whoever has attached to it, at whichever worker, has noted that (attend.lua): it may be read again.
        """
        grace = min(_LEFT_SECONDS, self._orphan)
        await asyncio.sleep(grace + 0.01)
        live = self._lives.get(ref.turn_id)
        with contextlib.suppress(StoreUnavailable):  # the next renewals find it as well, only later
            if live is not None and not await self._store.leases.attended(ref):
                await self._renew_leases([live], grace)

    async def _renew_leases(self, lives: Sequence[Live], orphan: float | None = None) -> None:
        """`orphan`: seconds without a reader after which an unnamed session's answer ends."""
        results = await self._store.leases.renew(
            [(live.turn, self._tails.has_readers(live.turn.ref)) for live in lives], orphan
        )
        for live, result in zip(lives, results, strict=True):
            if isinstance(result, BaseException):
                continue
            signal = _SIGNALS.get(result)
            if signal and self._lives.get(live.turn.ref.turn_id) is live:
                live.interrupt(signal)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            late = await aligned_sleep(_TICK_SECONDS)
            now = loop.time()
            metrics.loop_lag.observe(late)
            self._admission.note_lag(late)
            for live in list(self._lives.values()):
                # Silence that Redis causes is not the model's.
                if live.deadline is None or live.failing_since is not None or live.signal is not None:
                    continue
                if now > live.deadline[0]:
                    live.interrupt(live.deadline[1])

    async def _sweep(self, apart: Apart) -> None:
        while True:
            await aligned_sleep(self._sweep_every)
            if self.closed:
                continue  # asking hides what is due from those who would take it
            apart.look()
            for index in self._store.leases.indexes:
                apart.start(("due", index), partial(self._sweep_index, apart, index))

    async def _sweep_index(self, apart: Apart, index: str) -> None:
        for ref in await self._store.leases.due(index):
            if not self._runs(ref):  # one that fails, or waits for its server, is due again in 1 s
                apart.start(("look", ref), partial(self.claim_due, ref))

    async def claim_due(self, ref: TurnRef) -> None:
        """Whatever a passed deadline turns out to mean."""
        if self.closed:
            return
        claim = await self._store.turns.claim(ref, self._worker)
        if claim.outcome == "CLAIMED" and claim.turn is not None:
            self._take(claim, claim.turn)
            await self._store.leases.own(ref)
            if claim.previous_owner != self._worker:
                await self._store.leases.disown(ref, claim.previous_owner)
        elif claim.outcome == "LEASED":
            await self._store.leases.schedule([ref], claim.milliseconds_left + 50)
        elif claim.outcome == "WAITING":
            await self._budgets.hold_queued(ref)
            await self._store.leases.schedule([ref])
            await self._free_for(ref)
        elif claim.outcome == "SEALED" and claim.turn is not None:
            await self._settle(claim.turn, "sweep")
            await self._store.leases.settle(ref)
        else:
            # Never begun (its worker died in between), expired, deleted or lost.
            await self.free(ref)
            await self._budgets.cancel(ref)
            await self._store.leases.settle(ref)

    async def free(self, ref: TurnRef, key: str | None = None) -> bool:
        """Clear what points to a turn that is gone or has ended. True where something did.

        A turn that nobody runs, though it has not ended, is taken up: the index may have forgotten it.
        """
        outcome, following = await self._store.turns.free_session(ref, key)
        if outcome == "ABANDONED":
            await self.claim_due(ref)
        elif outcome == "FREED":
            log.warning("session.freed", session=ref.session_id, turn=ref.turn_id, note="the turn is gone")
            if following:
                await self.promote(TurnRef(ref.principal, ref.session_id, following))
        return outcome == "FREED"

    async def _free_for(self, queued: TurnRef) -> None:
        """What a queued turn waits for may be gone, or be run by nobody."""
        session = await self._store.sessions.get(queued.principal, queued.session_id)
        if session is not None and session.active_turn:
            await self.free(TurnRef(queued.principal, queued.session_id, session.active_turn))

    async def settle(self, refs: Sequence[TurnRef]) -> None:
        """Book those that have ended, now: the keys that a sweep would book from are to be deleted."""
        late = await self._budgets.unsettled(refs)
        if late:
            await asyncio.sleep(_SEALER_SECONDS)
            late = await self._budgets.unsettled(late)
        for ref in late:
            turn = await self._store.turns.get(ref)
            if turn is not None and turn.sealed:
                await self._settle(turn, "delete")

    async def _settle(self, turn: Turn, by: str) -> None:
        """Book a sealed turn whose sealer could not.

        The sealer may have died before it wrote its line, or after: one that counts lines counts
        each turn once.
        """
        usage, model = turn.usage or {}, turn.answered_by or turn.model
        if await self._budgets.settle(turn.ref, model, usage, turn.stored):
            log.info(
                "turn.ended",
                **origin(turn),
                turn=turn.ref.turn_id,
                session=turn.ref.session_id,
                principal=turn.ref.principal,
                outcome=turn.state,
                model=model,
                attempt=turn.attempt,
                epoch=turn.epoch,
                input_tokens=usage.get("prompt_tokens", 0),
                output_tokens=usage.get("completion_tokens", 0),
                cached_tokens=detail(usage, "cached_tokens"),
                reasoning_tokens=detail(usage, "reasoning_tokens"),
                settled_by=by,
            )

    def _take(self, claim: Claim, turn: Turn) -> None:
        if not claim.promoted:
            metrics.takeovers.inc()
            metrics.takeover_delay.observe(claim.milliseconds_lapsed / 1000)
            log.warning(
                "turn.taken_over",
                turn=turn.ref.turn_id,
                session=turn.ref.session_id,
                epoch=turn.epoch,
                attempt=turn.attempt,
                shown=turn.shown,
                previous_owner=claim.previous_owner,
            )
        self._start(turn)

    async def promote(self, ref: TurnRef) -> None:
        """The queued turn's time has come: run it here, now."""
        try:
            if self.closed:
                await self._store.leases.schedule([ref], 0)
            else:
                await self.claim_due(ref)
        except StoreUnavailable:
            log.warning("promote.postponed", turn=ref.turn_id, action="the sweep starts it")


async def _in_groups(work: Callable[[Sequence[T]], Awaitable[None]], items: Sequence[T]) -> None:
    for i in range(0, len(items), _RENEWED_TOGETHER):
        await work(items[i : i + _RENEWED_TOGETHER])
