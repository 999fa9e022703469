"""Beginning: from a send to a turn that runs, or why there is none.

The charge to the request limit, the reservation and the begin are one round trip where nothing is in the way;
whatever refuses afterwards gives back what was reserved. Invariant: only begin.lua says whether a session is
busy. What a place or a token costs belongs to budgets.py, what a busy replica does to admission.py, what a
repeat under the same idempotency key meets to repeats.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import Final

from service import ids
from service.engine.admission import Admission
from service.engine.background import Background
from service.engine.budgets import Budgets, SlotsBusy
from service.engine.charging import charged
from service.engine.context import DEFAULT_SYSTEM_PROMPT, PREVIEW, Contexts
from service.engine.exchanges import (
    answered_meanwhile,
    answers,
    asked_again,
    find_base,
    gone_on_meanwhile,
    no_results_of_newest,
)
from service.engine.history import answering, mismatch, session_not_found, turn_not_found
from service.engine.pictures import Pictures
from service.engine.repeats import Repeats
from service.engine.running import Running
from service.engine.sends import Attached, Candidate, Send, draft
from service.engine.stopping import Stops
from service.errors import Draining, ServiceError, StoreUnavailable
from service.store.messages import HistoryPage
from service.store.send_admission import SessionSnapshot
from service.store.store import Store
from service.store.turn_records import Begin, Begun, Turn, TurnRef
from service.telemetry import metrics
from service.telemetry.logs import get_logger
from service.upstream.models import Catalogue, Model

# Codes that refuse a send for want of room which a concurrent duplicate may have taken, and the pauses (s)
# in which it waits for the duplicate to begin, 0.3 s in all. A request limit refuses a duplicate only once
# the first has begun, since until then the first's charge is marked: there is nothing to wait for.
_TWIN_PAUSES: Final = (0.02, 0.08, 0.2)
_GATES: Final = {
    "concurrency_limited": _TWIN_PAUSES,
    "budget_exhausted": _TWIN_PAUSES,
    "storage_full": _TWIN_PAUSES,
    "overloaded": _TWIN_PAUSES,
    "rate_limited": (0.0,),
}


# Between two tries to note what has begun while the store does not answer.
_NOTE_SECONDS: Final = 0.2

log = get_logger(__name__)


class Beginning:
    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        contexts: Contexts,
        pictures: Pictures,
        budgets: Budgets,
        admission: Admission,
        running: Running,
        stops: Stops,
        background: Background,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._contexts = contexts
        self._pictures = pictures
        self._budgets = budgets
        self._admission = admission
        self._running = running
        self._stops = stops
        self._background = background
        self.repeats = Repeats(store, running)
        self.closed = False  # begins nothing any more

    async def begin(self, send: Send) -> Attached:
        """Start the send's turn, or attach to it where another replica was faster.

        Raises rate_limited, draining, overloaded, context_too_long, model_not_found,
        concurrency_limited, budget_exhausted, storage_full, turn_in_progress, session_has_history,
        session_not_found, idempotency_mismatch, store_unavailable.
        """
        if self.closed:
            raise Draining
        seen = SessionSnapshot()
        try:
            if send.session_id is not None:
                preview = (0, 0) if send.messages is not None else PREVIEW
                read = self._store.send_admission.read_snapshot
                seen = await charged(send.charging, partial(read, send.principal, send.session_id, *preview))
            return await self._begin(send, seen)
        except ServiceError as error:
            if send.key is None or error.code not in _GATES:
                raise
            # A concurrent duplicate has taken the last slot: a repeat is never refused.
            for pause in _GATES[error.code]:
                await asyncio.sleep(pause)
                attached = await self.repeats.known(send)
                if attached is not None:
                    return attached
            raise

    async def _begin(self, send: Send, seen: SessionSnapshot) -> Attached:
        session_id = send.session_id or (
            ids.derived_session_id(send.principal, send.key) if send.key else ids.new_session_id()
        )
        ref = TurnRef(send.principal, session_id, ids.new_turn_id())
        session = seen.session
        if send.mode == "continue":
            if session is None and send.must_exist:
                raise session_not_found()
            active = session.active_turn if session is not None else None
            if known := await find_base(self._store, send, session_id, active):
                return await self._refused(Begun("KNOWN", known), ref, send)
        model = self._catalogue.resolve(send.model or (session.model if session else None))
        model = self._pictures.model_for(send, model, await asked_again(self._store, send, session_id, seen))
        kept = send.system or (session.system_prompt if session else None)
        system = "\n\n".join(text for text in (send.instructions, kept) if text) or DEFAULT_SYSTEM_PROMPT
        model.check(send.params)
        candidate = await self._fitting(send, ref, seen, model, system)
        if send.charging is not None and self._admission.full:
            # Who is over the limit does not stand in the line of those who are not.
            await send.charging.charge_now()
        async with self._admission.place(), self._pictures.keeping(ref) as kept_images:
            if send.params.get("images") or send.seeds_from:
                await self._pictures.keep_all(send, ref, kept_images, there=session is not None)
            begin, begun = await self._enter(candidate)
            begun = begun or await self._store.turns.begin(begin, self._store.worker)
            busy = TurnRef(ref.principal, session_id, begun.turn_id)
            if begun.outcome == "BUSY" and send.results and await answers(self._store, busy, send):
                begun = replace(begun, outcome="KNOWN")
            elif begun.outcome == "BUSY" and send.on_busy == "interrupt":
                begin, begun = await self._interrupt(begun, _unread(candidate))
            elif begun.outcome == "BUSY":
                begun = await self._freed(begin, begun)
            if begun.outcome == "BEGUN":
                kept_images.begun = True
                return await self._start(begin, begun, candidate)
        await self._budgets.cancel(ref)
        if send.results and begun.outcome in ("NO_MESSAGE", "MESSAGE_EXISTS"):
            known = await answered_meanwhile(self._store, send, session_id)
            begun = Begun("KNOWN", known) if known else begun
        return await self._refused(begun, ref, send)

    async def _fitting(
        self, send: Send, ref: TurnRef, seen: SessionSnapshot, model: Model, system: str
    ) -> Candidate:
        """With what the model is to be asked. Raises context_too_long."""
        await send.breathe()
        if send.trims and send.messages is not None:
            send.messages = self._contexts.shortened(send, model)
        required = len(send.seeds) if send.seeds_required else 0
        self._contexts.check(send, model, system, required)
        candidate = Candidate(send, ref, seen, model, {**send.params, "system": system})
        if send.prior and send.base is None:
            candidate.params["prior"] = send.prior
        if send.messages is not None:
            candidate.params["messages"] = send.messages
        elif send.trims is False:
            candidate.params["whole"] = True
            await self._contexts.estimate(candidate)
        return candidate

    async def _enter(self, candidate: Candidate) -> tuple[Begin, Begun | None]:
        """What begins the turn and, where all that it needs was granted, what came of it."""
        session = candidate.seen.session
        try:
            return await self._reserved(candidate)
        except SlotsBusy:
            if candidate.send.on_busy != "interrupt" or session is None or session.active_turn is None:
                raise
        # What it interrupts may hold what it needs; but is that all that is in its way?
        trial = replace(draft(candidate, 0), on_busy="check")
        verdict = await self._store.turns.begin(trial, self._store.worker)
        if verdict.outcome not in ("BUSY", "FREE"):
            return trial, verdict
        if verdict.outcome == "BUSY":
            await self._stop(candidate, verdict.turn_id)
        return await self._reserved(_unread(candidate))

    async def _reserved(self, candidate: Candidate) -> tuple[Begin, Begun | None]:
        send = candidate.send
        need = await self._budgets.need(candidate)
        await send.breathe()
        begin = draft(candidate, need.tokens)
        await send.breathe()
        tokens, begun = await self._budgets.enter(begin, need, send.charging)
        if tokens < need.tokens:
            # It has not begun: the answer will be shorter.
            candidate.params["max_completion_tokens"] = tokens - need.prompt
            begin = draft(candidate, tokens)
        return begin, begun

    async def _interrupt(self, busy: Begun, candidate: Candidate) -> tuple[Begin, Begun]:
        """Stop what runs in the session, and whatever is next in its queue, until this turn begins.

        A stop may take longer than a place and tokens are held for a turn that has not begun, so both are
        reserved again with each try; where they are held still, that changes nothing.
        """
        for _ in range(self._stops.most):
            await self._stop(candidate, busy.turn_id)
            begin, begun = await self._reserved(candidate)
            busy = begun or await self._store.turns.begin(begin, self._store.worker)
            if busy.outcome != "BUSY":
                break
        return begin, busy

    async def _stop(self, candidate: Candidate, turn_id: str) -> None:
        """Stop what runs in the send's session. An answer that it goes on with may have grown by that."""
        send, ref = candidate.send, candidate.ref
        await self._stops.carry_out(TurnRef(ref.principal, ref.session_id, turn_id))
        if send.base is not None:
            await find_base(self._store, send, ref.session_id, None)

    async def _start(self, begin: Begin, begun: Begun, candidate: Candidate) -> Attached:
        """The turn is in the store: run it, unless it waits in a queue."""
        send, ref, model = candidate.send, candidate.ref, candidate.model.id
        metrics.turns_started.inc()
        turn = Turn(
            ref=ref,
            state=begun.state,
            epoch=1,
            attempt=0,
            model=model,
            user=begun.message_id,
            pos=begun.pos,
            last=1,
            created=begin.created,
            params=candidate.params,
            started=begin.started,
            claim=begin.claim,
            idem=self._store.turns.idempotency(ref, send.key),
            trace=send.traceparent,
            request=send.request_id,
            reserved=begin.fields["reserved"],
            hook=send.hook,
            shows=send.shows,
            question="" if send.parts or send.base is not None else send.content,
            goes_on=send.base.answer.id if send.base is not None else "",
            before=send.base.before if send.base is not None else None,
            history=_unchanged(candidate.seen, begun, send),
            drops=begun.drops,
        )
        if begun.state == "running":
            self._running.run(turn)
        try:
            await self._note(begin, begun, send)
        except StoreUnavailable:  # it runs all the same, and its sender is told so
            self._background.task("note", self._note_later(begin, begun, send))
        return Attached(ref, model, begin.created, fresh=True, state=begun.state)

    async def _note(self, begin: Begin, begun: Begun, send: Send) -> None:
        """What others are to know of a turn that has begun. All of it may be repeated."""
        ref = begin.ref
        if begun.state != "running":
            await self._budgets.hold_queued(ref)
        if send.key is not None and send.charging is not None:
            await send.charging.begun()
        if begin.named:
            await self._store.sessions.list_it(ref.principal, ref.session_id)

    async def _note_later(self, begin: Begin, begun: Begun, send: Send) -> None:
        give_up = time.monotonic() + self._store.settings.store_hold_seconds
        while time.monotonic() < give_up:
            await asyncio.sleep(_NOTE_SECONDS)
            with contextlib.suppress(StoreUnavailable):
                return await self._note(begin, begun, send)
        log.warning("begin.not_noted", turn=begin.ref.turn_id, session=begin.ref.session_id)

    async def _freed(self, begin: Begin, busy: Begun) -> Begun:
        """Begin once more, as often as what the session is busy with turns out to be gone."""
        for _ in range(self._stops.most):
            active = TurnRef(begin.ref.principal, begin.ref.session_id, busy.turn_id)
            if busy.outcome != "BUSY" or not await self._running.free(active):
                break
            busy = await self._store.turns.begin(begin, self._store.worker)
        return busy

    async def _refused(self, begun: Begun, ref: TurnRef, send: Send) -> Attached:
        if begun.outcome != "KNOWN":
            raise _refusal(begun, ref, send)
        attached = await self.repeats.attach(TurnRef(ref.principal, ref.session_id, begun.turn_id))
        if attached is None:
            raise turn_not_found()
        return attached


def _refusal(begun: Begun, ref: TurnRef, send: Send) -> ServiceError:
    if begun.outcome == "MESSAGE_EXISTS" and send.results:
        return no_results_of_newest()
    if begun.outcome in ("MISMATCH", "MESSAGE_EXISTS"):
        return mismatch()
    if begun.outcome == "BUSY":
        sentence = f"The session is answering already, in turn {begun.turn_id}."
        return answering(sentence, ref.session_id, begun.turn_id)
    if begun.outcome == "HAS_HISTORY":
        return ServiceError("session_has_history", "The session has messages already; send without history.")
    if begun.outcome == "NO_SESSION":
        return session_not_found()
    if send.base is not None:
        return gone_on_meanwhile()
    return ServiceError("message_not_found", "There is no user message of that id in this session.")


def _unread(candidate: Candidate) -> Candidate:
    """What was seen of its history may be another by now."""
    return replace(candidate, seen=replace(candidate.seen, page=None))


def _unchanged(seen: SessionSnapshot, begun: Begun, send: Send) -> HistoryPage | None:
    """What was seen of the history, where nothing has happened between the look and the begin."""
    turns = seen.session.turns if seen.session else 0
    busy = seen.session is not None and seen.session.active_turn is not None
    seeded = send.seeds and not (seen.page and seen.page.said)
    return None if busy or seeded or begun.cut or begun.turns != turns + 1 else seen.page
