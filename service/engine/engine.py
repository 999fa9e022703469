"""The engine: a turn's life, and the only place with chat rules.

begin, follow, stop, read. Everything a worker holds in memory is here and none of it is needed
for correctness: another worker finds the same in the store. Knows no HTTP, no Redis commands
and no Groq.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from service import ids, metrics
from service.engine.admission import Admission
from service.engine.attempts import begin_turn
from service.engine.background import Background
from service.engine.budgets import Budgets
from service.engine.context import DEFAULT_SYSTEM_PROMPT, Contexts, Tokens
from service.engine.feeds import Feed, Feeds
from service.engine.flusher import Flusher
from service.engine.governor import Governor
from service.engine.live import Answer, Live
from service.engine.reader import Readers
from service.engine.recovery import Recovery
from service.engine.runner import Runner
from service.engine.sealing import Sealer
from service.engine.sends import Attached, Send, draft
from service.engine.stopping import Stops
from service.engine.vitals import Vitals
from service.errors import ServiceError, StoreUnavailable
from service.events import Event
from service.logs import get_logger
from service.settings import Settings
from service.store.doorbell import Doorbell
from service.store.sessions import Session
from service.store.store import Store
from service.store.turns import Begin, Begun, Turn, TurnRef
from service.upstream.base import Upstream
from service.upstream.models import Catalogue, Model

# Between two interrupts of one session: each waits for a seal, so this bounds a send to seconds.
_INTERRUPT_TRIES: Final = 5
_IDLE_POLL_SECONDS: Final = 0.05
# What refuses a send for want of room; and how long a repeat waits for its twin to begin, 0.3 s in all.
_GATES: Final = ("concurrency_limited", "budget_exhausted", "overloaded")
_TWIN_PAUSES: Final = (0.02, 0.08, 0.2)

log = get_logger(__name__)


class Engine:
    def __init__(
        self, settings: Settings, store: Store, upstream: Upstream, catalogue: Catalogue, worker: str
    ) -> None:
        self.settings = settings
        self.store = store
        self.catalogue = catalogue
        self.worker = worker
        self._upstream = upstream
        self._background = Background()
        self._lives: dict[str, Live] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.tokens = Tokens()
        self.contexts = Contexts(store.sessions, self.tokens)
        self.budgets = Budgets(settings, store.ledger, self.contexts)
        self.admission = Admission(settings.max_running_turns, lambda: len(self._tasks))
        self.governor = Governor(store.pacing, self._background)
        self.feeds = Feeds(settings, store, self._background)
        self.readers = Readers(settings, store, self.feeds)
        self.sealer = Sealer(settings, store, self.feeds, self.budgets)
        self._flusher = Flusher(settings, store.log, self._background)
        self._runner = Runner(
            settings, catalogue, upstream, self.contexts, self.tokens, self._flusher, self.governor,
            self.sealer,
        )  # fmt: skip
        self.recovery = Recovery(
            settings, store, self.feeds, self.budgets, self.admission, worker, self._lives, self.run
        )  # fmt: skip
        self._stops = Stops(store, self.readers, self.sealer, self.recovery, worker, self._lives)
        self._doorbell = Doorbell(settings, self._rung, self.feeds.reset)
        self._bell = store.keys.bell(worker)
        self.draining = False

    async def open(self) -> None:
        self.feeds.start(self._doorbell)
        self._background.loop("vitals", Vitals(self.store).run)
        self.recovery.start(self._background)
        self.governor.start()
        self._doorbell.start(self._bell)

    def drain(self, *, refuse: bool = True) -> None:
        """Take no turn over from now on, and begin none where the whole replica goes."""
        self.draining = self.draining or refuse
        self.recovery.closed = True

    async def release(self) -> None:
        """Leave what still runs to others, and tell all readers to reconnect."""
        lives = list(self._lives.values())
        for live in lives:
            live.interrupt("drain")
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=self.settings.redis_timeout_seconds + 1)
        self.readers.close()

    async def close(self) -> None:
        """End everything; the store outlives the engine."""
        self.drain()
        await self.release()
        for task in list(self._tasks.values()):
            task.cancel()
        await self._doorbell.close()
        await self._background.close()
        await self._upstream.close()

    @property
    def running(self) -> int:
        return len(self._lives)

    async def idle(self) -> None:
        """Returns when this worker runs no turn and has no reader any more. For drains only."""
        while True:
            if not self._tasks and not any(feed.readers for feed in self.feeds.all()):
                return
            await asyncio.sleep(_IDLE_POLL_SECONDS)

    def _rung(self, channel: str, data: bytes) -> None:
        if channel != self._bell:
            self.feeds.ring(channel)
            return
        live = self._lives.get(TurnRef.parse(data.decode()).turn_id)
        if live is not None:
            live.interrupt("stop")

    # Begin

    async def known(self, send: Send) -> Attached | None:
        """The turn of a repeat. Raises idempotency_mismatch for another body under the same key."""
        if send.key is None:
            return None
        session_id = send.session_id or ids.derived_session_id(send.principal, send.key)
        found = await self.store.turns.known(send.principal, session_id, send.key)
        if found is None:
            return None
        if found[1] != send.fingerprint():
            raise _mismatch()
        return await self._attach(TurnRef(send.principal, session_id, found[0]))

    async def _attach(self, ref: TurnRef) -> Attached:
        turn = await self.turn(ref)
        metrics.idempotent_repeats.inc()
        return Attached(ref, turn.model, turn.created, fresh=False, state=turn.state, void=turn.void)

    async def begin(self, send: Send) -> Attached:
        """Start the send's turn, or attach to it where another replica was faster.

        Raises draining, overloaded, context_too_long, model_not_found, concurrency_limited,
        budget_exhausted, turn_in_progress, session_has_history, session_not_found,
        idempotency_mismatch, store_unavailable.
        """
        try:
            return await self._begin(send)
        except ServiceError as error:
            if send.key is None or error.code not in _GATES:
                raise
            # Its twin, sent at the same moment, has taken the last place: a repeat is never refused.
            for pause in _TWIN_PAUSES:
                await asyncio.sleep(pause)
                attached = await self.known(send)
                if attached is not None:
                    return attached
            raise

    async def _begin(self, send: Send) -> Attached:
        if self.draining:
            raise ServiceError(
                "draining", "This replica is shutting down; send it again.", retry_after=1
            )  # fmt: skip
        if send.session_id is not None:
            session_id = send.session_id
        else:
            session_id = (
                ids.derived_session_id(send.principal, send.key) if send.key else ids.new_session_id()
            )
        ref = TurnRef(send.principal, session_id, ids.new_turn_id())
        session = await self.store.sessions.get(send.principal, session_id) if send.session_id else None
        model = self.catalogue.resolve(send.model or (session.model if session else None))
        system = send.system or (session.system_prompt if session else None) or DEFAULT_SYSTEM_PROMPT
        model.check(send.params)
        self.contexts.check(model, send.params, system, send.content, send.messages)
        params = {**send.params, "system": system}
        if send.messages is not None:
            params["messages"] = send.messages
        async with self.admission.place():
            try:
                reserved = await self._reserve(send, ref, session, model, params)
            except StoreUnavailable:
                raise  # it has waited its time; a sweep finds what was announced all the same
            except ServiceError:
                await self.store.leases.settle(ref)
                raise
            begin = draft(send, ref, model.id, params, reserved)
            begun = await self._begun(begin, send)
            if begun.outcome == "BEGUN":
                return await self._start(begin, begun, send, model.id, params)
        await self.budgets.cancel(ref)
        await self.store.leases.settle(ref)
        return await self._refused(begun, ref, send)

    async def _reserve(
        self, send: Send, ref: TurnRef, session: Session | None, model: Model, params: dict[str, Any]
    ) -> int:
        try:
            return await self.budgets.reserve(send, ref, session, model, params)
        except ServiceError as error:
            active = session.active_turn if session else None
            if error.code not in _GATES or send.on_busy != "interrupt" or not active:
                raise
        # What it interrupts holds the place that it needs.
        await self.stop(TurnRef(ref.principal, ref.session_id, active))
        return await self.budgets.reserve(send, ref, session, model, params)

    async def _start(
        self, begin: Begin, begun: Begun, send: Send, model: str, params: dict[str, Any]
    ) -> Attached:
        """The turn is in the store: run it, unless it waits in a queue."""
        ref = begin.ref
        metrics.turns_started.inc()
        created = _created(begin.started)
        turn = Turn(
            ref=ref, state=begun.state, epoch=1, attempt=0, model=model, user=begun.message_id,
            pos=begun.pos, last=1, created=created, params=params, started=begin.started,
            idem=self.store.turns.idempotency(ref, send.key),
            trace=send.traceparent, request=send.request_id, reserved=begin.fields["reserved"],
            question=send.content,
        )  # fmt: skip
        if begun.state == "running":
            self.run(turn)
        else:
            await self.budgets.hold_queued(ref)
        if begin.named:
            await self.store.sessions.list_it(ref.principal, ref.session_id)
        return Attached(ref, model, created, fresh=True, state=begun.state)

    async def _begun(self, begin: Begin, send: Send) -> Begun:
        begun = await self.store.turns.begin(begin, self.worker)
        for _ in range(_INTERRUPT_TRIES):
            if begun.outcome != "BUSY" or send.on_busy != "interrupt":
                break
            await self.stop(TurnRef(begin.ref.principal, begin.ref.session_id, begun.turn_id))
            begun = await self.store.turns.begin(begin, self.worker)
        return begun

    async def _refused(self, begun: Begun, ref: TurnRef, send: Send) -> Attached:
        if begun.outcome == "KNOWN":
            return await self._attach(TurnRef(ref.principal, ref.session_id, begun.turn_id))
        if begun.outcome in ("MISMATCH", "MESSAGE_EXISTS"):
            raise _mismatch()
        if begun.outcome == "BUSY":
            raise ServiceError(
                "turn_in_progress", f"The session is answering already, in turn {begun.turn_id}.",
                retry_after=1, headers={
                    "Location": f"/v1/sessions/{ref.session_id}/turns/{begun.turn_id}/events",
                    "X-Turn-Id": begun.turn_id,
                },
            )  # fmt: skip
        if begun.outcome == "HAS_HISTORY":
            raise ServiceError(
                "session_has_history", "The session has messages already; send without history."
            )  # fmt: skip
        if begun.outcome == "NO_SESSION":
            raise session_not_found()
        raise ServiceError("message_not_found", "There is no user message of that id in this session.")

    # Run

    def run(self, turn: Turn) -> None:
        """Run a turn that this worker has begun or claimed."""
        feed = self.feeds.local(turn.ref)  # at once: its first reader must not subscribe to its bell
        if feed is not None and turn.epoch == 1:
            feed.push([Event(1, turn.started)])
        self._tasks[turn.ref.turn_id] = task = asyncio.create_task(self._run(turn, feed), name="turn")
        task.add_done_callback(lambda _: self._ran(turn.ref.turn_id))

    def _ran(self, turn_id: str) -> None:
        self._tasks.pop(turn_id, None)
        self.admission.freed()

    async def _run(self, turn: Turn, feed: Feed | None) -> None:
        live = Live(turn, self.store.log.names(turn.ref), feed)
        live.span = begin_turn(turn)
        self._lives[turn.ref.turn_id] = live
        metrics.turns_running.inc()
        following = ""
        try:
            if turn.epoch > 1:
                await self._inherit(live)
            following = await self._runner.run(live)
        except StoreUnavailable:
            log.warning("turn.left", turn=turn.ref.turn_id, reason="store", action="its lease lapses")
        finally:
            metrics.turns_running.dec()
            live.span.end()
            self._lives.pop(turn.ref.turn_id, None)
            await self.feeds.leave(turn.ref)
        if following:
            self._background.task(
                "promote",
                self.recovery.promote(TurnRef(turn.ref.principal, turn.ref.session_id, following)),
            )

    async def _inherit(self, live: Live) -> None:
        """What the owners before have written and used."""
        turn = live.turn
        await self.budgets.hold([turn])
        if turn.shown:
            live.answer.replay(await self.store.log.read_all(turn.ref))
        if turn.tokens:
            billed = turn.billed
            billed["prompt_tokens"] = billed.get("prompt_tokens", 0) + turn.prompt_tokens
            billed["completion_tokens"] = billed.get("completion_tokens", 0) + turn.tokens
            live.bill(billed)

    # Stop and read

    async def stop(self, ref: TurnRef) -> Turn:
        """Returns the sealed turn: by its owner, or by us where the owner does not within 200 ms."""
        if not await self._stops.carry_out(ref):
            raise turn_not_found()
        return await self.turn(ref)

    async def turn(self, ref: TurnRef) -> Turn:
        turn = await self.store.turns.get(ref)
        if turn is None:
            raise turn_not_found()
        return turn

    async def named(self, ref: TurnRef) -> None:
        """A call has named the session: its answers run on without readers from now on."""
        session = await self.store.sessions.get(ref.principal, ref.session_id)
        if session is None:
            raise turn_not_found()
        if not session.named:
            await self.store.sessions.update(ref.principal, ref.session_id, {})

    async def delete(self, principal: str, session_id: str) -> None:
        """Stop what runs, book what is not booked, then remove every key. Raises session_not_found."""
        for tried in range(self.settings.max_queued_turns + _INTERRUPT_TRIES):
            session = await self.store.sessions.get(principal, session_id)
            if session is None:
                if tried:
                    return  # another delete was faster
                raise session_not_found()
            if session.active_turn:
                await self.stop(TurnRef(principal, session_id, session.active_turn))
                continue
            turns = await self.store.sessions.turns(principal, session_id)
            await self.recovery.settle([TurnRef(principal, session_id, turn_id) for turn_id in turns])
            if await self.store.sessions.delete(principal, session_id, turns):
                return
        raise ServiceError("turn_in_progress", "The session goes on answering; try again.", retry_after=1)

    async def text(self, turn: Turn) -> str:
        """The answer so far, or the whole of it."""
        if turn.sealed:
            message = await self.store.sessions.message(
                turn.ref.principal, turn.ref.session_id, ids.answer_id(turn.ref.turn_id)
            )
            if message is not None:
                return message.content
        answer = Answer()
        answer.replay(await self.store.log.read_all(turn.ref))
        return "".join(answer.text)


def session_not_found() -> ServiceError:
    return ServiceError("session_not_found", "There is no such session.")


def turn_not_found() -> ServiceError:
    return ServiceError("turn_not_found", "There is no such turn in this session.")


def _mismatch() -> ServiceError:
    return ServiceError(
        "idempotency_mismatch", "The idempotency key was used for another request; take a new one.",
        headers={"x-should-retry": "false"},
    )  # fmt: skip


def _created(started: bytes) -> int:
    return int(Event(1, started).data["created"])
