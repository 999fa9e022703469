"""Sealing: how a turn ends. Completed, stopped, failed, or left to be taken over.

The terminal event, the assistant's message and the usage are written by one script, once, under
the epoch. With it the budget is settled and the turn leaves the index of deadlines; on a Cluster, and where a
webhook is told of the turn, right after it: a worker that dies between the two leaves that to the sweep, and
settling twice is settling once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from service import events, parts
from service.config.settings import Settings
from service.engine import billing
from service.engine.attempts import Ending, line_of
from service.engine.budgets import Budgets
from service.engine.exchanges import said_before
from service.engine.live import Answer, Live
from service.engine.tail_cache import TailCaches
from service.engine.webhooks import Webhooks
from service.errors import ServiceError, StoreMoving, StoreRefusesWrites, StoreUnavailable
from service.store import log as codes
from service.store.ledger import Booking
from service.store.log import Append
from service.store.messages import Message
from service.store.store import Store
from service.store.turn_records import Seal, Sealed, Turn
from service.telemetry import metrics
from service.telemetry.logs import get_logger

_RETRY_SECONDS: Final = 0.2

log = get_logger(__name__)


class Sealer:
    def __init__(
        self, settings: Settings, store: Store, tails: TailCaches, budgets: Budgets, webhooks: Webhooks
    ) -> None:
        self._settings = settings
        self._store = store
        self._tails = tails
        self._budgets = budgets
        self._webhooks = webhooks

    async def complete(self, live: Live, reason: str) -> str:
        usage = live.usage
        return await self._end(live, "completed", _ended(live, reason, usage), usage)

    async def stop(self, live: Live, *, orphan: bool = False) -> str:
        usage = live.usage
        if orphan:
            metrics.orphans.inc()
        reason = "abandoned" if orphan else "stop"
        return await self._end(live, "stopped", _ended(live, reason, usage), usage)

    async def fail(self, live: Live, error: ServiceError, *, new_life: bool = False) -> str:
        usage = live.usage
        body: dict[str, Any] = {
            "code": error.code,
            "message": error.message,
            "retryable": error.retryable,
            "usage": usage,
        }
        if error.retry_after is not None:
            body["retry_after"] = round(error.retry_after, 3)
        if error.param is not None:
            body["param"] = error.param
        body = events.with_provider(body, error.provider)
        return await self._end(live, "failed", body, usage, new_life=new_life)

    async def lose(self, live: Live) -> str:
        """End a turn of whose log the store has lost acknowledged events.

        Nothing is written but the terminal event, in a new life of the log: what this worker still
        holds belongs behind events that are not there.
        """
        live.forget_unwritten()
        metrics.logs_lost.inc()
        log.error("turn.log_lost", turn=live.turn.ref.turn_id, session=live.turn.ref.session_id)
        error = ServiceError("store_unavailable", "The store lost a part of this answer; send it again.")
        return await self.fail(live, error, new_life=True)

    async def gone(self, live: Live) -> str:
        """The store has lost the turn, or it was deleted: its session is free, what it used is booked."""
        turn = live.turn
        error = ServiceError("turn_not_found", "The store has lost this turn; send it again.")
        if live.tail is not None:
            live.tail.fail(error)
        try:
            _, following = await self._store.turns.free_session(turn.ref)
        except StoreUnavailable:
            following = ""  # the next begin, stop or delete frees it, or a sweep
        turn.cost = live.cost
        await self._ended(turn, Ending("failed", _model(live), live.usage, code=error.code))
        return following

    async def release(self, live: Live) -> None:
        """Write what is there, then let the lease lapse: somebody else goes on."""
        try:
            while live.has_pending and await self._append(live):
                live.acknowledge()
            await self._store.turns.release(live.turn)
            await self._store.leases.schedule([live.turn.ref], 0)
            await self._store.leases.disown(live.turn.ref)
            metrics.released.inc()
            log.info("turn.released", turn=live.turn.ref.turn_id, action="another worker takes it over")
        except StoreUnavailable:
            log.warning(
                "turn.release_failed", turn=live.turn.ref.turn_id, action="its lease lapses by itself"
            )

    async def _append(self, live: Live) -> bool:
        """Write what the turn holds, as the flusher does. False where it is ours no more, or lost."""
        while live.in_flight:  # the flusher repeats what failed
            await live.landed()
        turn = live.turn
        first, payloads, fields = live.take()
        append = Append(live.names, turn.epoch, turn.claim, first, payloads, fields)
        live.take_off()
        try:
            (result,) = await self._store.log.append([append])
        finally:
            live.land()
        if isinstance(result, BaseException):
            raise result
        return result in (codes.OK, codes.STOP)

    async def stop_from_log(self, turn: Turn) -> Sealed:
        """Seal a turn that was claimed by force: the answer so far is what its log says."""
        answer = Answer()
        answer.replay(await self._store.log.read_all(turn.ref))
        await said_before(self._store.sessions, turn)
        usage = billing.usage(turn, turn.tokens)
        turn.cost = billing.cost(turn, turn.tokens)
        payloads = [events.structured(events.STOPPED, {"finish_reason": "stop", "usage": usage})]
        if turn.state == "queued":
            payloads.insert(0, turn.started)
        seal = self._seal(
            turn, "stopped", payloads, answer, usage, {"finish": "stop"}, at=_now(), first_id=turn.last + 1
        )
        sealed = await self._store.turns.seal(turn, seal)
        if sealed.outcome == "LOST":
            sealed = await self._store.turns.seal(turn, replace(seal, first_id=0))
        if sealed.outcome == "SEALED":
            turn.stored = sealed.stored
            await self._ended(turn, Ending("stopped", turn.answered_by or turn.model, usage, "stop"))
        return sealed

    async def _end(
        self, live: Live, state: str, body: dict[str, Any], usage: dict[str, Any], *, new_life: bool = False
    ) -> str:
        turn = live.turn
        live.ending = True
        turn.cost = live.cost
        await live.landed()
        await said_before(self._store.sessions, turn)
        name = {"completed": events.COMPLETED, "stopped": events.STOPPED, "failed": events.FAILED}[state]
        at = _now()
        if state == "completed":  # for Responses, in each replay the same
            body = events.with_provider(body, {**live.said, "completed_at": at // 1000})
        payloads = [*live.unwritten(), events.structured(name, body)]
        fields: dict[str, Any] = {"attempt": turn.attempt}
        if live.model is not None:
            fields["answered_by"] = live.model.id
        if state == "failed":
            told = events.without_provider(body)
            fields["error"] = orjson.dumps({name: told[name] for name in told if name != "usage"})
        else:
            fields["finish"] = body["finish_reason"]
        seal = self._seal(
            turn,
            state,
            payloads,
            live.answer,
            usage,
            fields,
            at=at,
            first_id=0 if new_life else live.acknowledged + 1,
            frees_key=state == "failed" and not _shown(live),
        )
        ending = Ending(state, _model(live), usage, body.get("finish_reason"), body.get("code"))
        booking = None  # what is told of a turn is queued between its seal and its settlement
        if self._store.turn_ends.together and not self._webhooks.told_of(turn):
            booking = self._budgets.booking(turn, ending.model, usage)
        sealed = await self._write(live, seal, booking)
        if sealed.outcome == "LOST":
            return await self.lose(live)
        if sealed.outcome == "SEALED":
            turn.stored, live.outcome = sealed.stored, state
            if live.shown:
                live.is_shown()
            if live.tail is not None:
                first = sealed.last - len(payloads) + 1
                live.tail.push([events.Event(first + i, payload) for i, payload in enumerate(payloads)])
            await self._ended(turn, ending, live.first_shown, settled=booking is not None)
            live.span.set(
                {
                    "chat.turn.outcome": state,
                    "gen_ai.usage.input_tokens": usage["prompt_tokens"],
                    "gen_ai.usage.output_tokens": usage["completion_tokens"],
                }
            )
            if state == "failed":
                live.span.fail(body["code"])
        elif sealed.outcome == "GONE":
            return await self.gone(live)
        elif sealed.outcome == "FENCED":
            metrics.fenced.inc()
            log.warning(
                "seal.fenced", turn=turn.ref.turn_id, epoch=turn.epoch, action="left to its new owner"
            )
        return sealed.following

    async def _write(self, live: Live, seal: Seal, booking: Booking | None) -> Sealed:
        """Seal, with a booking settle too; while Redis is away, for as long as turns hold their deltas."""
        loop = asyncio.get_running_loop()
        since = live.failing_since or loop.time()
        while True:
            try:
                if booking is not None:
                    return await self._store.turn_ends.finish(live.turn, seal, booking)
                return await self._store.turns.seal(live.turn, seal)
            except StoreUnavailable as error:
                if isinstance(error, StoreRefusesWrites) and not live.ever_shown and live.tail is not None:
                    live.tail.fail(error)  # who has been shown nothing need not wait for the seal
                # The answer is whole, its turn still ours: a slot that is being moved is waited for.
                moving = isinstance(error, StoreMoving)
                hold = self._settings.turn_timeout_seconds if moving else self._settings.store_hold_seconds
                if loop.time() - since > hold:
                    log.error("seal.given_up", turn=live.turn.ref.turn_id, action="left for takeover")
                    if live.tail is not None:
                        live.tail.fail(error)
                    return Sealed("UNKNOWN")
                await asyncio.sleep(_RETRY_SECONDS)

    def _seal(
        self,
        turn: Turn,
        state: str,
        payloads: Sequence[bytes],
        answer: Answer,
        usage: dict[str, Any],
        fields: dict[str, Any],
        *,
        at: int,
        first_id: int,
        frees_key: bool = False,
    ) -> Seal:
        message = b""
        # What was shown is kept, thoughts alone too; where the key is free a repeat takes the answer's place.
        if not answer.empty or state == "completed" or (answer.reasoning and not frees_key):
            message = _message(turn, state, answer, usage, fields.get("finish", ""), at).dump()
        fields = {**fields, "usage": orjson.dumps(usage), "ended": at}
        if turn.cost is not None:
            fields["cost"] = str(turn.cost)
        return Seal(state, first_id, payloads, fields, turn.answer_id, message, frees_key)

    async def _ended(
        self, turn: Turn, ending: Ending, first_shown: float | None = None, *, settled: bool = False
    ) -> None:
        """Counted before anything is awaited: whoever reads the last event finds it counted."""
        seconds = max(0.0, time.time() - turn.created / 1000)
        metrics.turns_ended.labels(outcome=ending.state).inc()
        metrics.turn_duration.labels(outcome=ending.state).observe(seconds)
        billing.count(ending.model, ending.usage, turn.cost)
        told = {
            "code": ending.code,
            "finish_reason": ending.finish_reason,
            "first_token_seconds": None if first_shown is None else round(first_shown, 3),
        }
        log.info(
            "turn.ended",
            **line_of(turn, ending),
            seconds=round(seconds, 3),
            **{name: value for name, value in told.items() if value is not None},
        )
        if settled:
            return
        try:
            await self._webhooks.ended(turn, ending)
            await self._budgets.settle(turn, ending.model, ending.usage)
        except StoreUnavailable:
            log.warning("settle.postponed", turn=turn.ref.turn_id, action="the sweep settles it")


def _model(live: Live) -> str:
    """That of the last call, or of the turn where none was made."""
    return live.model.id if live.model else live.turn.model


def _now() -> int:
    """ms since 1970."""
    return int(time.time() * 1000)


def _ended(live: Live, reason: str, usage: dict[str, Any]) -> dict[str, Any]:
    return events.with_provider({"finish_reason": reason, "usage": usage}, live.said)


def _message(turn: Turn, state: str, answer: Answer, usage: dict[str, Any], finish: str, at: int) -> Message:
    """What the history keeps of an answer, with what had been said of it before the turn."""
    made = Message(
        id=turn.answer_id,
        role="assistant",
        content="".join(answer.text),
        turn_id=turn.ref.turn_id,
        state=state,
        created=at,
        reasoning="".join(answer.reasoning),
        tool_calls=tuple(answer.tool_calls),
        finish_reason=finish,
        model=turn.answered_by or turn.model,
        usage=usage,
        begun=_begun(turn),
    )
    return made.made_of(parts.gone_on(turn.before, made.whole)) if turn.before else made


def _begun(turn: Turn) -> int:
    """As `turn.started` says it, in ms: the store's own time of the begin may be another by then."""
    return int(events.Event(1, turn.started).data["created"]) if turn.started else turn.created


def _shown(live: Live) -> bool:
    """Has its sender been shown anything of the answer that failed?"""
    return {"all": live.shown, "text": not live.answer.empty, "end": False}[live.turn.shows]
