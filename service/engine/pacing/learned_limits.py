"""What this worker knows of a model's limits, and what it has learned and reports to others.

lua/pace.lua keeps the books of all replicas. Its last reply is used for a moment, and while Redis is away
calls are paced by it (buckets.py), and counted. Invariants: a call that was let go and never made, or used
less than it reserved, is reported; the newest refusals are kept until Redis has heard of them. Which call is
let go first is queue.py's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from service.engine.background import Background
from service.engine.pacing.buckets import fitting, lowered, reckoned
from service.errors import StoreUnavailable, UpstreamError
from service.store.pacing import NEAR, PERIODS, Pace, Pacing, Report
from service.telemetry import metrics
from service.telemetry.logs import get_logger
from service.upstream.base import Limits

# If nothing limits calls, Redis's reply is used for this long; after it a call still goes at once, and Redis
# is asked beside it: at 100 calls a second two or three more go before this worker hears of a limit that
# another has met. When the reply is older than 1 s, Redis is asked first.
_FRESH_SECONDS: Final = 0.025
_STALE_SECONDS: Final = 1.0
# If half of each limit is left, a worker may take up to 1/32 of it before it asks: 16 workers take half at
# most.
_UNASKED: Final = 1 / 32
# What was learned is reported after this time, unless a poll does it before.
_TELL_SECONDS: Final = 0.1
# The provider needs a moment to count what a call has not used; asking sooner would be refused.
_SETTLE_SECONDS: Final = 0.05
# Seconds until the store is asked again after it has not answered.
_ALONE_SECONDS: Final = 1.0
# Refusals that are kept to be reported when Redis is back, the newest.
_UNTOLD: Final = 32

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """A call that may go, `at` ms of Redis's clock; the minute's tokens left then, and others' reserves."""

    prompt: int
    completion: int
    at: int = 0
    level: float = -1.0
    out: float = 0.0


@dataclass(slots=True, eq=False)
class Waiter:
    principal: str
    prompt: int
    completion: int
    fixed: bool
    since: float
    deadline: float
    outcome: asyncio.Future[Grant | float]
    held: bool = False


def _says_nothing(limits: Limits) -> bool:
    """Are there no headers of limits, or only those of an account whose calls are not counted?"""
    if limits.remaining_tokens is not None and limits.remaining_tokens < (limits.limit_tokens or 0):
        return False
    return limits.remaining_requests is None or limits.remaining_requests >= NEAR


class LearnedLimits:
    def __init__(self, model: str, pacing: Pacing, background: Background) -> None:
        self._model = model
        self._pacing = pacing
        self._background = background
        self._report = Report()
        self._pace: Pace | None = None
        self._paced_at = self._stale_at = float("-inf")
        self._unasked = (0, 0)  # calls, and tokens, that went since Redis was asked
        self._looking: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Future[Any] | None = None  # of a refusal
        self._alone_until = float("-inf")
        self._blocked_until = float("-inf")  # by refusals that Redis may not know of
        self._waiting: dict[str, deque[Waiter]] = {}  # principal -> its waiting calls
        self._wake = asyncio.Event()  # something was learned by which they may go
        self._loop = asyncio.get_running_loop()

    def _grant(self, grant: Grant) -> Grant:
        self._report.calls += 1
        return grant

    def _known(self) -> Pace | None:
        """Redis's last reply, if it is fresh, nobody waits, and nothing was refused since."""
        stale = self._waiting or self._report.refusals or self._loop.time() >= self._stale_at
        return None if stale else self._pace

    def _open(self) -> bool:
        """May calls go without asking, because no limit was near a moment ago?"""
        pace = self._known()
        if pace is None or not pace.free:
            return False
        if self._loop.time() - self._paced_at >= _FRESH_SECONDS and (
            self._looking is None or self._looking.done()
        ):
            self._looking = self._background.task("pace", self._ask([]))
        return True

    def _take_a_little(self, prompt: int, completion: int, fixed: bool) -> Grant | None:
        """A grant without asking, if much of each limit is left; the next report tells Redis."""
        pace = self._known()
        if pace is None or not pace.roomy:
            return None
        completion = fitting(pace.buckets, prompt, completion, fixed=fixed)
        cost = prompt + completion
        calls, tokens = self._unasked[0] + 1, self._unasked[1] + cost
        for kind, bucket in pace.buckets.items():
            if (calls if kind in ("rpm", "rpd") else tokens) > bucket.limit * _UNASKED:
                return None
        self._unasked = calls, tokens
        self._take(prompt, completion)
        return self._grant(Grant(prompt, completion))

    def _take(self, prompt: int, completion: int) -> None:
        """Count a call that goes before Redis was asked; the next report tells Redis."""
        self._tell_soon()
        self._report.requests -= 1
        self._report.prompt -= prompt
        self._report.completion -= completion
        self._report.ended -= prompt + completion
        self._report.heard -= 1

    # What calls have learned

    def head(self, grant: Grant, limits: Limits) -> dict[str, float]:
        """The head of an answer has come. Returns its entry in the report, for `ended`."""
        self._tell_soon()
        self._report.heard += 1
        entry: dict[str, float] = {
            "at": grant.at,
            "level": grant.level,
            "out": grant.out,
            "cost": grant.prompt + grant.completion,
        }
        if self._pace is not None and self._pace.free and _says_nothing(limits):
            return entry
        if limits.limit_tokens is not None and limits.remaining_tokens is not None:
            entry["limit"], entry["left"] = limits.limit_tokens, limits.remaining_tokens
        if limits.limit_requests is not None and limits.remaining_requests is not None:
            entry["requests_limit"] = limits.limit_requests
            entry["requests_left"] = limits.remaining_requests
        self._report.heads.append(entry)
        if self._pace is None or not self._pace.known:
            self._wake.set()
        return entry

    def refused(self, grant: Grant, error: UpstreamError) -> None:
        """A limit of the provider has refused the call."""
        entry: dict[str, Any] = {
            "kind": error.window,
            "wait": (error.retry_after or 0) * 1000,
            "prompt": grant.prompt,
            "completion": grant.completion,
        }
        if error.limit is not None:
            entry["limit"] = error.limit
        if error.requested is not None:
            entry["requested"] = error.requested
        self._report.refusals.append(entry)
        self._wake.set()
        self._note(error)
        self._telling = self._background.task("pace", self.flush())

    def _note(self, error: UpstreamError) -> None:
        """Apply a refusal in this worker at once, whether or not Redis can be told."""
        self._stale_at = now = self._loop.time()
        wait = error.retry_after or 0.0
        if error.limit is None or error.window not in PERIODS:
            self._blocked_until = max(self._blocked_until, now + wait)
        elif wait:
            if self._pace is None:
                self._paced_at = now
            age = now - self._paced_at
            self._pace = lowered(self._pace, age, self._report, error.window, error.limit, wait)

    def ended(
        self,
        grant: Grant,
        prompt: int,
        completion: int,
        *,
        made: bool = True,
        head: dict[str, float] | None = None,
    ) -> None:
        """The call is over and has used this much.

        `made` is False if the provider has not let it in; `head` is the entry of its head.
        """
        self._tell_soon()
        self._report.heard += head is None
        if made:
            self._loop.call_later(_SETTLE_SECONDS, self._give_back, grant, prompt, completion, made, head)
        else:
            self._give_back(grant, prompt, completion, made, head)

    def _give_back(
        self, grant: Grant, prompt: int, completion: int, made: bool, head: dict[str, float] | None
    ) -> None:
        self._tell_soon()
        if head is not None:
            # Reported with the head, if that was not sent yet.
            head["unused"] = grant.prompt - prompt + grant.completion - completion
        self._report.ended += grant.prompt + grant.completion
        self._report.prompt += grant.prompt - prompt
        self._report.completion += grant.completion - completion
        self._report.requests += not made
        if self._waiting:
            self._wake.set()

    def _tell_soon(self) -> None:
        if self._timer is None:
            at = max(self._loop.time() + _TELL_SECONDS, self._alone_until)
            self._timer = self._loop.call_at(at, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._background.task("pace", self.flush())

    async def flush(self) -> None:
        """Report what was learned, unless a poll is about to."""
        if not self._report.news or self._waiting:
            return
        if self._pace is not None and self._pace.free and not (self._report.heads or self._report.refusals):
            self._report = Report(calls=self._report.calls, heard=self._report.heard)  # nobody counts tokens
            return
        await self._ask([])

    # What Redis is told, and says

    async def _ask(self, asks: list[tuple[int, int, float]]) -> Pace:
        """Report and ask, in one round trip; while Redis is away, estimate."""
        if self._loop.time() >= self._alone_until:
            report, self._report = self._report, Report()
            self._unasked = (0, 0)
            try:
                self._pace = await self._pacing.pace(self._model, report, asks)
            except StoreUnavailable:
                self._alone_until = self._loop.time() + _ALONE_SECONDS
                self._reckon(report)
                self._report.refusals = (report.refusals + self._report.refusals)[-_UNTOLD:]
                log.warning(
                    "governor.alone", model=self._model, seconds=_ALONE_SECONDS, note="the store is away"
                )
            else:
                self._paced_at = self._loop.time()
                self._stale_at = self._paced_at + _STALE_SECONDS
                return self._pace
        now = self._loop.time()
        pace = reckoned(self._pace, now - self._paced_at, self._report, asks, self._blocked_until - now)
        for prompt, completion, _ in asks[: len(pace.granted)]:
            metrics.bypassed.labels(control="governor").inc()
            self._take(prompt, completion)
        if self._report.news:
            self._tell_soon()
        return pace

    def _reckon(self, report: Report) -> None:
        """Apply a report that Redis may not have got to this worker's own figures."""
        if self._pace is not None:
            now = self._loop.time()
            self._pace = reckoned(self._pace, now - self._paced_at, report, [], 0.0)
            self._paced_at = now
