"""Request limits per principal, else per client address: slowapi, with the decision in Redis.

slowapi parses the limits and counts in memory when Redis is silent. Its own access to Redis would
block the event loop (2 s for a stalled Redis) and needs two round trips; here one script decides for
all windows at once (store/windows.py), exactly, for all replicas. When Redis does not answer for a
quarter of a second, this worker counts alone for one second, and a metric says so. Which requests
are charged, and when, is decided by the routes. Why:
docs/decisions/0005-request-limits.md.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Literal

from fastapi import Request
from limits import RateLimitItem, parse_many
from slowapi import Limiter

from service import ids
from service.api.auth.authenticator import Principal
from service.api.auth.client_address import Proxies, customer
from service.api.over_limit import Decision, OverLimit
from service.api.request_state import request_state
from service.config.settings import Settings
from service.errors import ServiceError, StoreRefusesWrites, StoreUnavailable
from service.store.windows import Charge, Use, Window, Windows
from service.telemetry import metrics
from service.telemetry.logs import get_logger

# How long a worker counts alone before it asks Redis again.
_ALONE_SECONDS: Final = 1.0

Kind = Literal["sends", "reads"]

log = get_logger(__name__)


class Limits(Limiter):
    def __init__(self, settings: Settings, windows: Windows) -> None:
        super().__init__(
            key_func=lambda request: self._proxies.client_address(request.scope),
            strategy=f"{settings.limit_window}-window",
            storage_uri="memory://",
            key_style="endpoint",
        )
        self._settings = settings
        self.windows = windows
        self._proxies = Proxies(settings.trusted_proxies)
        self._alone_until = 0.0
        self.over = OverLimit()

    async def check(self, request: Request, principal: Principal, kind: Kind) -> None:
        """Charge the caller for one request. A caller known to be over its limit is refused without Redis.

        Raises rate_limited.
        """
        await self.charging(request, principal, kind).charge()

    def charging(
        self, request: Request, principal: Principal, kind: Kind, *, once: str = ""
    ) -> RequestCharge:
        """The charge for one request, not taken yet.

        Requests with the same `once` at the same time count as one: the first of them is charged.
        """
        sends, settings = kind == "sends", self._settings
        own = principal.limit_sends if sends else principal.limit_reads
        default = settings.limit_sends if sends else settings.limit_reads
        limits = _parse(default if own is None else own)
        who = self._who(request, principal) if limits else ""
        if who:
            request_state(request).caller = who
        windows = tuple(Window(limit.amount, limit.get_expiry()) for limit in limits)
        by = ids.new_claim() if once else ""
        charge = Charge(who, kind, windows, settings.limit_window, once, by)
        return RequestCharge(self, request, limits, charge)

    def _who(self, request: Request, principal: Principal) -> str:
        if not principal.anonymous:
            return principal.id
        return f"ip.{customer(self._proxies.client_address(request.scope))}"

    @property
    def counts_alone(self) -> bool:
        """Has Redis been silent within the last second?"""
        return asyncio.get_running_loop().time() < self._alone_until

    def silent(self) -> None:
        """Redis did not answer, or refused to count: count alone for a second."""
        self._alone_until = asyncio.get_running_loop().time() + _ALONE_SECONDS
        log.warning("limits.alone", seconds=_ALONE_SECONDS, note="the store is silent")

    def decide_alone(self, limits: tuple[RateLimitItem, ...], who: str, kind: str) -> Decision:
        """Decide by what this worker alone has counted since Redis fell silent."""
        metrics.bypassed.labels(control="limits").inc()
        taken = all(self.limiter.test(limit, who, kind) for limit in limits)
        uses = []
        for limit in limits:
            if taken:
                self.limiter.hit(limit, who, kind)
            reset, left = self.limiter.get_window_stats(limit, who, kind)
            uses.append(Use(limit.amount - left, max(0.0, reset - time.time())))
        return _binding(limits, taken, uses)


class RequestCharge:
    """The charge for a request, taken once: by itself, or with the begin of a turn (engine/charging.py)."""

    def __init__(
        self, limits: Limits, request: Request, windows: tuple[RateLimitItem, ...], charge: Charge
    ) -> None:
        self._limits = limits
        self._request = request
        self._windows = windows
        self._charge = charge
        self._due = bool(windows)

    def once(self, once: str) -> None:
        """Set another `once`, before it is charged."""
        self._charge = replace(self._charge, once=once)

    @property
    def limited(self) -> bool:
        return bool(self._windows)

    def known_over(self) -> Decision | None:
        """The refusal that this worker remembers."""
        if not self._due:
            return None
        return self._limits.over.find(self._charge.who, self._charge.kind, self._windows)

    def refuse_known(self) -> None:
        """Raises rate_limited from memory."""
        decision = self.known_over()
        if decision is not None:
            self._settle(decision)

    async def charge(self) -> None:
        """Charge now; a caller known to be over its limit is refused from memory. Raises rate_limited."""
        self.refuse_known()
        await self.charge_now()

    async def charge_now(self) -> None:
        """Charge, unless it was charged already. Raises rate_limited, and for a send StoreRefusesWrites."""
        due = self.due()
        if due is not None:
            try:
                answer = await self._limits.windows.take(due)
            except StoreUnavailable as error:
                if isinstance(error, StoreRefusesWrites) and self._charge.kind == "sends":
                    raise  # a turn could not begin either; reads go on, counted by this worker
                self.unanswered()
            else:
                self.charged(answer)

    def due(self) -> Charge | None:
        """The charge that Redis is still to take, None where there is none. Raises rate_limited."""
        if not self._due:
            return None
        if self._limits.counts_alone:
            self._settle(self._decide_alone())
            return None
        return self._charge

    def charged(self, answer: list[Any]) -> None:
        """Take the store's reply to the charge. Raises rate_limited."""
        decision = _binding(self._windows, *self._limits.windows.taken(answer))
        if not decision.passes:
            self._limits.over.note(self._charge.who, self._charge.kind, self._windows, decision)
        self._settle(decision)

    async def begun(self) -> None:
        """The turn has begun. If the same send begins another one later, it is charged again."""
        if self._charge.who and self._charge.once:
            with suppress(StoreUnavailable):  # the mark expires by itself, seconds later
                await self._limits.windows.forget(self._charge)

    async def refund(self) -> None:
        """No turn has begun: give the place back, unless another request with this `once` has taken it."""
        if self._windows and not self._due and self._charge.once:
            with suppress(StoreUnavailable):  # the place stays taken until its window ends
                await self._limits.windows.refund(self._charge)

    def unanswered(self) -> None:
        """Redis is silent: the worker counts by itself. Raises rate_limited."""
        self._limits.silent()
        self._settle(self._decide_alone())

    def _decide_alone(self) -> Decision:
        return self._limits.decide_alone(self._windows, self._charge.who, self._charge.kind)

    def _settle(self, decision: Decision) -> None:
        self._due = False
        request_state(self._request).limit_headers = _headers(decision)
        if not decision.passes:
            metrics.limit_rejections.labels(limit=self._charge.kind).inc()
            wait = max(1, math.ceil(decision.reset))
            raise ServiceError(
                "rate_limited",
                f"The limit of {decision.limit} is reached; try again in {wait} s.",
                retry_after=wait,
            )


@functools.lru_cache(maxsize=1024)  # distinct limits: the settings' two, and those of single keys
def _parse(grammar: str) -> tuple[RateLimitItem, ...]:
    """The windows of a limit; of two with the same length the one with the smaller amount counts."""
    found: dict[int, RateLimitItem] = {}
    for limit in parse_many(grammar) if grammar else ():
        length = limit.get_expiry()
        if length not in found or limit.amount < found[length].amount:
            found[length] = limit
    return tuple(found.values())


def _binding(limits: tuple[RateLimitItem, ...], taken: bool, uses: list[Use]) -> Decision:
    decisions = [
        Decision(taken, limit, max(0, limit.amount - use.used), use.reset)
        for limit, use in zip(limits, uses, strict=True)
    ]
    if not taken:
        return max((one for one in decisions if one.left == 0), key=lambda one: one.reset)
    return min(decisions, key=lambda one: (one.left, -one.reset))


def _headers(decision: Decision) -> list[tuple[bytes, bytes]]:
    """`RateLimit-Reset` counts seconds from now, `X-RateLimit-Reset` is a time, as in slowapi."""
    amount, left = str(decision.limit.amount), str(decision.left)
    reset = math.ceil(decision.reset)
    named = {
        "ratelimit-limit": amount,
        "ratelimit-remaining": left,
        "ratelimit-reset": str(reset),
        "x-ratelimit-limit": amount,
        "x-ratelimit-remaining": left,
        "x-ratelimit-reset": str(int(time.time()) + reset),
    }
    return [(name.encode(), value.encode()) for name, value in named.items()]
