"""A governor: decides which calls to the provider go now with one API key, by its limits as learned so far.

A call is let go, held back for as long as its turn's retry budget lasts, moved to a fallback model
that has room, or refused with the time after which it would make sense. An invalid key or a
blocked account opens a circuit for all replicas with that key; a model that is refused to us is left out
for a while, where another can answer. Invariants: every permit is closed
and gives back what its call did not use; without Redis calls go on with what this worker knows.
The waiting itself is queue.py's, the shared state store/pacing.py's. Which of several keys is used is
provider_keys.py's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from service.config.provider_keys import ProviderKey
from service.engine.background import Background
from service.engine.pacing.learned_limits import Grant
from service.engine.pacing.queue import Pacer
from service.errors import StoreUnavailable, UpstreamError
from service.store.pacing import Circuit, Pacing
from service.telemetry import metrics
from service.telemetry.logs import get_logger
from service.upstream.base import Limits
from service.upstream.models import Model

# A model that is gone, or that we may not use, stays so until somebody acts.
_GONE_SECONDS: Final = 60.0
# A 403 without a reason may be over soon, so one call in 5 s tries again.
_FORBIDDEN_SECONDS: Final = 5.0
# Two 403s of different models within this time are about the key.
_TOGETHER_SECONDS: Final = 60.0
# Refusals that are about the call: the provider takes the key.
_KEY_TAKEN: Final = ("rejected", "too_large", "too_long", "bad_output", "streaming", "model_gone")
#: the end of a state whose reason still stands, but which may be tried again
MAY_BE_TRIED: Final = " (may be tried)"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ask:
    """Tokens of a call that wants to be made; a completion limit that is not `fixed` may be cut."""

    principal: str
    prompt: int
    completion: int
    fixed: bool


class Permit:
    """One call that may be made, to `model` with at most `completion` tokens. A context manager."""

    def __init__(self, governor: Governor, pacer: Pacer, model: Model, grant: Grant) -> None:
        self.model = model
        self.completion = grant.completion
        self.key = governor.key
        self._governor = governor
        self._pacer = pacer
        self._grant = grant
        self._used = (0, 0)
        self._head: dict[str, float] | None = None  # what was reported of the answer's head
        self._probes = bool(governor.reason)  # the circuit closes if this call succeeds

    def learned(self, limits: Limits) -> None:
        """The head of the answer has come: the provider has let the call in."""
        self._used = (self._grant.prompt, 0)
        self._head = self._pacer.head(self._grant, limits)

    def spent(self, prompt: int, completion: int) -> None:
        self._used = (prompt, completion)

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        made = True
        if isinstance(error, UpstreamError):
            made = bool(self._used[1])
            if error.window:
                self._count("limited")
            elif error.circuit:
                self._count("refused")
            self._governor.failed(self.model, self._pacer, self._grant, error)
        elif error is None:
            self._governor.answered(self.model)
            self._count("answered")
        if self._probes:
            self._governor.tried(error, shown=self._shows_good_key(error))
        self._pacer.ended(self._grant, *(self._used if made else (0, 0)), made=made, head=self._head)

    def _shows_good_key(self, error: BaseException | None) -> bool:
        """Has the provider answered, or refused for another reason than the key?"""
        if not isinstance(error, UpstreamError):
            return error is None or self._head is not None
        refused = bool(error.window) or error.kind in _KEY_TAKEN
        return error.circuit is None and (refused or self._head is not None)

    def _count(self, outcome: str) -> None:
        metrics.provider_key_calls.labels(key=self.key.name, outcome=outcome).inc()


class Governor:
    def __init__(
        self,
        pacing: Pacing,
        background: Background,
        key: ProviderKey = ProviderKey(),  # noqa: B008 - it is frozen: one for all is as good as one for each
    ) -> None:
        self.key = key
        self._pacing = pacing
        self._background = background
        self._pacers: dict[str, Pacer] = {}
        self._circuit = Circuit()
        self._show()
        self._circuit_at = 0.0
        self._unavailable: dict[str, float] = {}  # model -> loop time until which it is not asked for
        self._forbidden: dict[str, float] = {}  # model -> loop time of its last 403
        self._answered_at = float("-inf")  # by any model

    async def take(self, ask: Ask, model: Model, patience: float) -> Permit | float:
        """A permit, or the seconds after which it would make sense to ask again."""
        pacer = self._pacer(model)
        limit = min(ask.completion, model.max_completion_tokens)
        found = await pacer.take(ask.principal, ask.prompt, limit, patience, fixed=ask.fixed)
        return Permit(self, pacer, model, found) if isinstance(found, Grant) else found

    def _pacer(self, model: Model) -> Pacer:
        pacer = self._pacers.get(model.id)
        if pacer is None:
            pacer = self._pacers[model.id] = Pacer(model.id, self._pacing, self._background)
        return pacer

    # What calls have learned; called by permits

    def failed(self, model: Model, pacer: Pacer, grant: Grant, error: UpstreamError) -> None:
        if error.circuit is not None:
            self._beside(self._open_circuit, error.circuit)
        elif error.kind == "model_gone":
            self._note(model, _GONE_SECONDS)
        elif error.kind == "forbidden" and self._others_forbidden(model):
            self._beside(self._open_circuit, "auth")
        elif error.kind == "forbidden":
            self._note(model, _FORBIDDEN_SECONDS)
        elif error.kind.startswith("limit_"):
            pacer.refused(grant, error)
        elif error.kind == "too_large" and _plausible(grant, error):
            pacer.refused(grant, error)
            # The next attempt asks for less, if that can help.
            error.retryable = grant.prompt < (error.limit or 0) / 2

    def answered(self, model: Model) -> None:
        self._answered_at = asyncio.get_running_loop().time()
        if model.id in self._unavailable:
            self._note(model, 0)

    def _others_forbidden(self, model: Model) -> bool:
        """Has another model met a 403 as well, with no answer since? Then it is about the key."""
        now = asyncio.get_running_loop().time()
        since = max(self._answered_at, now - _TOGETHER_SECONDS)
        self._forbidden[model.id] = now
        return any(at > since for name, at in self._forbidden.items() if name != model.id)

    def tried(self, error: BaseException | None, *, shown: bool) -> None:
        """A call that tested whether the key works again has ended; `shown`: it works."""
        if shown:
            self._beside(self._close_circuit)
        elif not (isinstance(error, UpstreamError) and error.circuit):
            self.free_probe()

    def free_probe(self) -> None:
        """A test of the key has found out nothing: the next call may test at once."""
        self._beside(self._free_probe)

    def _beside(self, tell: Callable[..., Awaitable[None]], *what: Any) -> None:
        """Tell other replicas in a task of its own; while the store is away only this worker knows."""

        async def work() -> None:
            try:
                await tell(*what)
            except StoreUnavailable:
                metrics.bypassed.labels(control="governor").inc()

        self._background.task("circuit", work())

    # Models that the provider refuses to us

    def offers(self, model: Model) -> bool:
        """False for a while after the provider has refused this model to us."""
        return self._unavailable.get(model.id, 0.0) <= asyncio.get_running_loop().time()

    def _note(self, model: Model, seconds: float) -> None:
        if seconds:
            log.warning("model.unavailable", model=model.id, seconds=seconds, action="fallbacks answer")
        self._unavailable[model.id] = asyncio.get_running_loop().time() + seconds
        self._beside(self._tell, model.id, seconds)

    async def _tell(self, model: str, seconds: float) -> None:
        self._know(await self._pacing.refused(model, seconds))

    def _know(self, unavailable: dict[str, float]) -> None:
        now = asyncio.get_running_loop().time()
        self._unavailable = {model: now + left for model, left in unavailable.items()}

    # The circuit

    def circuit(self) -> str | None:
        """Why no call can succeed now; None again as soon as one may be tried."""
        return self._circuit.reason if self._open_for() > 0 else None

    @property
    def known(self) -> str:
        """`ok`, or the reason of the circuit, with MAY_BE_TRIED if a call may go again."""
        reason = self._circuit.reason
        return self.circuit() or (f"{reason}{MAY_BE_TRIED}" if reason else "ok")

    @property
    def reason(self) -> str:
        """The reason of the circuit, '' when it is closed."""
        return self._circuit.reason

    def _open_for(self) -> float:
        return self._circuit_at + self._circuit.wait - asyncio.get_running_loop().time()

    async def pass_circuit(self) -> bool:
        """Raises UpstreamError while the circuit is open. Half open, one call at a time gets True: a test."""
        if not self._circuit.refuses:
            return False
        if self._open_for() <= 0:
            try:
                verdict = await self._pacing.may_probe()
            except StoreUnavailable:
                metrics.bypassed.labels(control="governor").inc()
                return False
            if not verdict.refuses:
                return True
            self._saw(verdict)
        reason, wait = self._circuit.reason, max(1, math.ceil(self._open_for()))
        raise UpstreamError(
            "upstream_unavailable",
            "The provider refuses this service; its operators are told.",
            kind="circuit",
            retry_after=wait,
            circuit=reason,
            retryable=True,
        )

    def _saw(self, circuit: Circuit) -> None:
        before, self._circuit = self._circuit.reason, circuit
        self._circuit_at = asyncio.get_running_loop().time()
        if before != circuit.reason:
            self._show()
            name = self.key.name
            if circuit.reason:
                log.error("circuit.opened", key=name, reason=circuit.reason, seconds=round(circuit.wait, 1))
            else:
                log.info("circuit.closed", key=name, reason=before)

    def _show(self) -> None:
        metrics.provider_key_up.labels(key=self.key.name).set(int(not self._circuit.reason))

    async def look(self) -> None:
        """Learn what other replicas have found out about the key."""
        self._saw(await self._pacing.circuit())
        self._know(await self._pacing.unavailable())

    async def _open_circuit(self, reason: str) -> None:
        self._saw(await self._pacing.open_circuit(reason))

    async def _free_probe(self) -> None:
        self._saw(await self._pacing.free_probe())

    async def _close_circuit(self) -> None:
        await self._pacing.close_circuit()
        self._saw(Circuit())


def failed_over(model: Model, to: Model) -> None:
    metrics.governor_failovers.labels(model=model.id).inc()
    log.info("upstream.failed_over", model=model.id, to=to.id)


def held(soonest: float) -> UpstreamError:
    wait = max(1, math.ceil(soonest))
    return UpstreamError(
        "upstream_rate_limited",
        f"The model is at its rate limit; try again in {wait} s.",
        kind="held",
        retry_after=wait,
        retryable=True,
    )


def _plausible(grant: Grant, error: UpstreamError) -> bool:
    """Does the refusal name about the size that this call had?"""
    asked = {"itpm": grant.prompt, "otpm": grant.completion}.get(
        error.window, grant.prompt + grant.completion
    )
    return (
        error.limit is not None
        and error.requested is not None
        and abs(error.requested - asked) <= max(50, asked / 4)
    )
