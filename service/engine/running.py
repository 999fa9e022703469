"""Running: the turns of this worker, from their begin or their claim to their end.

A turn that was begun here, taken over from a worker that is gone, or promoted from its session's queue runs
in a task of its own; when it ends, the next of its session's queue is promoted. Invariants: what runs here is
known to this object alone, others ask it; claim.lua decides whose a turn is. What a turn does while it runs
is runner.py's. Who begins, stops or looks for turns stands above: beginning.py, stopping.py, recovery.py.
"""

from __future__ import annotations

import asyncio

from service.engine.admission import Admission
from service.engine.attempts import begin_turn
from service.engine.background import Background
from service.engine.booking import Booking
from service.engine.budgets import Budgets
from service.engine.live import Live
from service.engine.pictures import Pictures
from service.engine.runner import Runner
from service.engine.tail_cache import TailCache, TailCaches
from service.engine.titles import Titles
from service.errors import StoreUnavailable
from service.events import Event
from service.store.store import Store
from service.store.turn_records import Claim, Turn, TurnRef
from service.telemetry import metrics
from service.telemetry.logs import get_logger

log = get_logger(__name__)


class Running:
    def __init__(
        self,
        store: Store,
        runner: Runner,
        titles: Titles,
        tails: TailCaches,
        budgets: Budgets,
        booking: Booking,
        admission: Admission,
        pictures: Pictures,
        background: Background,
    ) -> None:
        self._store = store
        self._runner = runner
        self._titles = titles
        self._tails = tails
        self._budgets = budgets
        self._booking = booking
        self._admission = admission
        self._pictures = pictures
        self._background = background
        self._lives: dict[str, Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = False  # takes no turn over any more

    def __len__(self) -> int:
        return len(self._lives)

    def lives(self) -> list[Live]:
        return list(self._lives.values())

    def find(self, ref: TurnRef) -> Live | None:
        return self._lives.get(ref.turn_id)

    @property
    def idle(self) -> bool:
        """Nothing runs, and nothing that ran is being left."""
        return not self._tasks

    # Run

    def run(self, turn: Turn) -> None:
        """Run a turn that this worker has begun or claimed."""
        tail = self._tails.local(turn.ref)  # at once: its first reader must not subscribe
        if tail is not None and turn.epoch == 1:
            tail.push([Event(1, turn.started)])
        task = asyncio.create_task(self._run(turn, tail), name="turn")
        self._tasks.add(task)
        self._admission.began()
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._admission.ended()

    async def _run(self, turn: Turn, tail: TailCache | None) -> None:
        live = Live(turn, self._store.log.names(turn.ref), tail)
        live.span = begin_turn(turn)
        self._lives[turn.ref.turn_id] = live
        metrics.turns_running.inc()
        following = ""
        try:
            if turn.epoch > 1:
                await self._inherit(live)
            following = await self._runner.run(live)
            self._titles.after(live)
            if turn.drops or turn.epoch > 1:  # what a worker knew that is gone is not known any more
                self._drop_images(turn.ref)
        except StoreUnavailable:
            log.warning("turn.left", turn=turn.ref.turn_id, reason="store", action="its lease lapses")
        finally:
            metrics.turns_running.dec()
            live.span.end()
            if self.find(turn.ref) is live:  # this worker may have claimed it anew meanwhile
                del self._lives[turn.ref.turn_id]
            await self._tails.leave(turn.ref)
        if following:
            self._background.task("promote", self.promote(turn.ref, following))

    def _drop_images(self, ref: TurnRef) -> None:
        """Of a turn that has ended: its seal has told the account what the session held with them."""
        self._background.task("images", self._pictures.sweep(ref.principal, ref.session_id))

    async def _inherit(self, live: Live) -> None:
        """What the owners before have written and used."""
        turn = live.turn
        await self._budgets.hold([turn])
        if turn.shown:
            live.answer.replay(await self._store.log.read_all(turn.ref))
        live.inherit_bill()

    # Take over

    async def claim_due(self, ref: TurnRef) -> None:
        """Whatever a passed deadline turns out to mean."""
        if self.closed:
            return
        claim = await self._store.turns.claim(ref, self._store.worker)
        if claim.outcome == "CLAIMED" and claim.turn is not None:
            self._take_over(claim, claim.turn)
            await self._store.leases.own(ref)
            if claim.previous_owner != self._store.worker:
                await self._store.leases.disown(ref, claim.previous_owner)
        elif claim.outcome == "LEASED":
            await self._store.leases.schedule([ref], claim.milliseconds_left + 50)
        elif claim.outcome == "WAITING":
            await self._budgets.hold_queued(ref)
            await self._store.leases.schedule([ref])
            await self._free_for(ref)
        elif claim.outcome == "SEALED" and claim.turn is not None:
            await self._booking.book(claim.turn, "sweep")
            self._drop_images(ref)  # whoever has sealed it may have come no further
        else:
            # Never begun (its worker died in between), expired, deleted or lost.
            await self.free(ref)
            await self._budgets.cancel(ref)

    def _take_over(self, claim: Claim, turn: Turn) -> None:
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
        self.run(turn)

    async def promote(self, ended: TurnRef, turn_id: str) -> None:
        """The time of a queued turn has come, since the one before it has ended: run it here, now."""
        ref = TurnRef(ended.principal, ended.session_id, turn_id)
        try:
            if self.closed:
                await self._store.leases.schedule([ref], 0)
            else:
                await self.claim_due(ref)
        except StoreUnavailable:
            log.warning("promote.postponed", turn=ref.turn_id, action="the sweep starts it")

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
                await self.promote(ref, following)
        return outcome == "FREED"

    async def _free_for(self, queued: TurnRef) -> None:
        """What a queued turn waits for may be gone, or be run by nobody."""
        session = await self._store.sessions.get(queued.principal, queued.session_id)
        if session is not None and session.active_turn:
            await self.free(TurnRef(queued.principal, queued.session_id, session.active_turn))

    # Release

    async def release(self, seconds: float) -> None:
        """Leave what still runs to others; returns when that is done, or after so many seconds."""
        for live in self.lives():
            live.interrupt("drain")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()
