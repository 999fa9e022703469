"""The runner: one turn from its claim to its seal, owned by the worker and not by a request.

context -> upstream -> append(epoch) ... -> seal. Retries happen only while nothing was shown,
within one budget of time and attempts, then along the model's fallbacks; every attempt is an
event. A fenced runner ends without a trace. Nothing here knows HTTP, Redis commands or Groq.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from typing import Any, Final

from service import events
from service.config.settings import Settings
from service.engine.attempts import Attempt
from service.engine.context import Context, Contexts
from service.engine.flusher import Flusher
from service.engine.live import Interrupted, Live
from service.engine.pacing.governor import Permit
from service.engine.pacing.provider_keys import ProviderKeys
from service.engine.pictures import Pictures
from service.engine.relay import Relay
from service.engine.sealing import Sealer
from service.errors import ServiceError, StoreUnavailable, UpstreamError
from service.store.turn_records import Turn
from service.telemetry import metrics
from service.telemetry.logs import get_logger
from service.upstream.base import Batch, Request, Upstream
from service.upstream.models import Catalogue, Model

# First pause before the same model is asked again; doubled per attempt, with full jitter.
_BACKOFF_SECONDS: Final = 0.25
# The same where the connection ended before any byte of an answer, which is over at once or takes a while:
# the mean of the first pause and of the second. Another model is behind the same connection.
_LOST_SECONDS: Final = (0.05, 0.4)
_STORE_RETRY_SECONDS: Final = 0.2

log = get_logger(__name__)


class Runner:
    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        upstream: Upstream,
        contexts: Contexts,
        pictures: Pictures,
        flusher: Flusher,
        governor: ProviderKeys,
        sealer: Sealer,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._upstream = upstream
        self._contexts = contexts
        self._pictures = pictures
        self._flusher = flusher
        self._governor = governor
        self._sealer = sealer

    async def run(self, live: Live) -> str:
        """Run the turn to its end. Returns the id of the queued turn whose time has come, or ''."""
        turn = live.turn
        try:
            return await self._run(live)
        except ServiceError as error:
            # Foreseen, though by no attempt: the model has left the catalogue since the turn began.
            return await self._sealer.fail(live, error)
        except Exception:
            # One of the three tops: a fault of ours ends this turn visibly and no other.
            metrics.internal_errors.labels(where="runner").inc()
            log.exception("turn.broke", turn=turn.ref.turn_id, action="sealed as failed")
            return await self._sealer.fail(
                live, ServiceError("internal", "Something went wrong on our side.")
            )

    async def _run(self, live: Live) -> str:
        turn = live.turn
        if turn.stop:
            return await self._sealer.stop(live)
        if turn.attempt >= self._settings.max_attempts:
            return await self._sealer.fail(live, _given_up())
        model = self._catalogue.resolve(turn.model)
        if turn.shown or turn.opens_life:
            _resume_shown(live, model)
        chain = self._pictures.chain(model, turn.params)
        since = time.monotonic()
        live.end = (asyncio.get_running_loop().time() + self._settings.turn_timeout_seconds, "turn_timeout")
        pause = _BACKOFF_SECONDS
        lost = iter(_LOST_SECONDS)
        while True:
            live.deadline = live.end
            failure = await self._try(live, chain, model, since)
            if failure is None:
                return live.followed_by
            model = live.model or model
            others = self._governor.others(live.refused_keys)
            following = _next(chain, model, failure, turn.attempt, other_key=others)
            if live.shown or turn.attempt >= self._settings.max_attempts or following is None:
                break
            wait = 0.0
            if following is model and not (failure.window or failure.circuit):  # the governor holds it back
                if failure.kind == "connect":
                    wait = next(lost, _LOST_SECONDS[-1]) * random.uniform(0.5, 1.5)
                elif failure.retry_after is not None:
                    wait = failure.retry_after
                else:
                    wait = random.uniform(0, pause)
                    pause *= 2
            if wait > self._left(since):
                break
            model = following
            # What the attempt has cost is in the store before the next one, for whoever takes over.
            self._flusher.put(live, urgent=True)
            if wait and await _interrupted_within(live, wait):
                return await self._interrupted(live)
        return await self._sealer.fail(live, failure)

    async def _try(self, live: Live, chain: list[Model], model: Model, since: float) -> UpstreamError | None:
        """One attempt. None when the turn has ended, else why the attempt failed."""
        turn = live.turn
        live.model = model
        try:
            if live.signal is not None:
                live.followed_by = await self._interrupted(live)
                return None
            with live.interruptible():
                reason = await self._attempt(live, chain, model, since)
            live.followed_by = await self._sealer.complete(live, reason)
            return None
        except Interrupted:
            if live.signal not in ("first_token_timeout", "idle_timeout"):
                live.followed_by = await self._interrupted(live)
                return None
            failure: UpstreamError = _timed_out(live.signal)
            live.resume()
        except UpstreamError as error:
            failure = _without_frames(error)
        except ServiceError as error:
            live.followed_by = await self._sealer.fail(live, error)
            return None
        metrics.upstream_errors.labels(kind=failure.kind).inc()
        log.warning(
            "attempt.failed",
            turn=turn.ref.turn_id,
            session=turn.ref.session_id,
            attempt=turn.attempt,
            model=(live.model or model).id,
            kind=failure.kind,
        )
        return failure

    def _left(self, since: float) -> float:
        return self._settings.retry_budget_seconds - (time.monotonic() - since)

    async def _context(self, turn: Turn, chain: list[Model], model: Model) -> Context:
        """Read the history; while Redis is away, for as long as turns hold their deltas."""
        give_up = time.monotonic() + self._settings.store_hold_seconds
        while True:
            try:
                context = await self._contexts.build(turn, model)
                self._pictures.prefer(chain, model, context.messages)
                return replace(
                    context, messages=await self._pictures.shown(turn.ref, context.messages, model)
                )
            except StoreUnavailable:
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(_STORE_RETRY_SECONDS)

    async def _attempt(self, live: Live, chain: list[Model], model: Model, since: float) -> str:
        """One upstream call. Returns its finish_reason."""
        turn = live.turn
        live.model = model
        context = await self._context(turn, chain, model)
        permit = await self._governor.admit(
            turn.ref.principal,
            chain[chain.index(model) :],
            context.prompt_tokens,
            self._contexts.completion_of(model, turn.params),
            max(0.0, self._left(since)),
            asked="max_completion_tokens" in turn.params,
            refused=live.refused_keys,
        )
        with permit:
            if permit.model is not model:
                live.model = permit.model
                context = await self._context(turn, chain, permit.model)
            try:
                return await self._call(live, permit, context, since)
            except UpstreamError as error:
                if error.circuit:
                    live.refused_keys.add(permit.key)
                raise

    async def _call(self, live: Live, permit: Permit, context: Context, since: float) -> str:
        """The call itself, once it may be made."""
        turn, model = live.turn, permit.model
        messages = context.messages
        if live.shown and live.answer.text:
            messages = _prefilled(messages, "".join(live.answer.text))
        await live.landed()
        live.ask(model, context.prompt_tokens)
        # The provider is paid for a call whose attempt is in the log, and for no other: a store that
        # refuses to write, or a worker that was fenced or stopped, is noticed here. Costs a round trip.
        self._flusher.put(live, urgent=True)
        try:
            await live.flushed()
        except asyncio.CancelledError:
            live.asked(billable=False)  # it was not
            raise
        params = _params(model, turn.params)
        request = Request(
            model,
            messages,
            permit.completion,
            params,
            turn.ref.turn_id,
            permit.key.secret,
            patience=self._left(since),
            whole=not self._upstream.streams(model, params),
        )
        if request.whole:
            log.info(
                "attempt.whole",
                turn=turn.ref.turn_id,
                session=turn.ref.session_id,
                attempt=turn.attempt,
                model=model.id,
                note="the format of the answer is not streamed",
            )
        else:
            first = asyncio.get_running_loop().time() + self._settings.first_token_timeout_seconds
            live.deadline = min((first, "first_token_timeout"), live.end)
        try:
            with Attempt(live.span, request, turn.attempt) as attempt:
                last = await self._relay(live, permit, request, attempt)
        finally:
            live.deadline = live.end
            live.gate = None
            if live.reported or live.tokens:
                counted = {"prompt_tokens": context.prompt_tokens, "completion_tokens": live.tokens}
                spent = {**counted, **(live.reported or {})}
                permit.spent(spent["prompt_tokens"], spent["completion_tokens"])
            live.asked(billable=request.billable)
        if live.answer.empty and live.answer.reasoning and last.finish_reason != "length":
            raise UpstreamError(
                "upstream_rejected",
                "The model ended with its reasoning and gave no answer.",
                kind="empty",
                retryable=True,
            )
        if last.usage and "prompt_tokens" in last.usage:
            self._contexts.learn(turn.ref.principal, context, last.usage["prompt_tokens"])
        return last.finish_reason or "stop"

    async def _relay(self, live: Live, permit: Permit, request: Request, attempt: Attempt) -> Batch:
        """From upstream into the log. Returns finish_reason and usage."""
        relay = Relay(live, attempt, self._flusher, self._settings.idle_timeout_seconds)
        async with self._upstream.call(request) as answer:
            permit.learned(answer.limits)
            live.gate, live.said = answer.gate, answer.said
            await answer.read_into(relay.on_batch)
            attempt.ended(answer.said, relay.last)
        return relay.last

    async def _interrupted(self, live: Live) -> str:
        signal = live.signal or "stop"
        if signal in ("stop", "orphan"):
            return await self._sealer.stop(live, orphan=signal == "orphan")
        if signal == "drain":
            await self._sealer.release(live)
            return ""
        if signal == "lost":
            return await self._sealer.lose(live)
        if signal == "store":
            return await self._sealer.fail(live, StoreUnavailable())
        if signal.endswith("timeout"):
            return await self._sealer.fail(live, _timed_out(signal))
        if signal == "gone":
            return await self._sealer.gone(live)
        log.warning("turn.left", turn=live.turn.ref.turn_id, epoch=live.turn.epoch, reason=signal)
        return ""


def _next(
    chain: list[Model], model: Model, error: UpstreamError, attempt: int, *, other_key: bool
) -> Model | None:
    """The model to ask next, None to give up. The last attempts go along the fallbacks.

    `other_key`: there is one that may work beside those that have refused the turn.
    """
    if error.kind in ("circuit", "held"):
        return None
    if error.circuit:  # of this key
        return model if other_key else None
    if error.kind.startswith("limit_"):
        return model  # the governor waits or fails over
    rest = chain[chain.index(model) + 1 :]
    if error.fail_over:
        if rest:
            return rest[0]
        return model if error.retryable else None
    if not error.retryable:
        return None
    if error.kind == "streaming":
        return model  # asked the other way
    return rest[0] if rest and attempt >= 2 and error.kind != "connect" else model


async def _interrupted_within(live: Live, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await live.changed.wait()
    except TimeoutError:
        return False
    return True


def _resume_shown(live: Live, model: Model) -> None:
    """After a takeover with something shown: continue it or say that it begins again.

    Where the store has lost events nobody knows what was shown: then it always begins again.
    """
    turn = live.turn
    continues = model.on_takeover == "continue" and live.answer.text and not live.answer.tool_calls
    if turn.opens_life or not continues:
        live.answer.clear()
        live.shown = False
        # Nothing is pending here, so this is the id that the event will have.
        turn.void = live.acknowledged + 1
        live.add_event(events.RESTARTED, {"attempt": turn.attempt + 1}, shown=0, void=turn.void)
        metrics.restarts.inc()


def _prefilled(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The context with what the model has said of its answer already."""
    last = messages[-1]
    if last["role"] == "assistant" and not last.get("tool_calls"):
        return [*messages[:-1], {**last, "content": (last["content"] or "") + text}]
    return [*messages, {"role": "assistant", "content": text}]


def _params(model: Model, params: dict[str, Any]) -> dict[str, Any]:
    """What the caller asked for, and the effort that this model takes."""
    chosen = dict(params)
    effort = chosen.get("reasoning_effort")
    if model.reasoning_efforts and effort not in model.reasoning_efforts:
        chosen["reasoning_effort"] = model.reasoning_efforts[0]
    elif not model.reasoning_efforts:
        chosen.pop("reasoning_effort", None)
    return chosen


def _without_frames(error: UpstreamError) -> UpstreamError:
    """Its frames know it and the messages: only the garbage collector could free them together."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _given_up() -> ServiceError:
    return ServiceError("upstream_unavailable", "The answer could not be finished; every attempt failed.")


def _timed_out(signal: str) -> UpstreamError:
    what = {
        "first_token_timeout": "The model did not begin to answer in time.",
        "idle_timeout": "The model stopped in the middle of its answer.",
        "turn_timeout": "The answer took too long.",
    }
    return UpstreamError("upstream_timeout", what[signal], kind=signal, retryable=True)
