"""A pacer: this worker's calls to one model that wait for the provider's limits.

Invariants: waiting calls go in turns over principals, so that nobody's flood holds up anybody else; one pump
per pacer asks Redis for as many as may go, so that waiting costs a call per poll and not one per waiter.
What is known of the limits is learned_limits.py's. What to do when the wait is too long is governor.py's.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Final

from service.engine.background import Background
from service.engine.pacing.buckets import fitting, line
from service.engine.pacing.learned_limits import Grant, LearnedLimits, Waiter
from service.store.pacing import Pace, Pacing
from service.telemetry import metrics

# Seconds between two polls: room may come back early, when calls of other replicas end.
_POLL_SECONDS: Final = 0.1
# A principal without a call for so long goes before all others: in this time limits refill.
_REMEMBERED_SECONDS: Final = 60.0
# Asks per poll; one round trip costs the same for 1 and for 32.
_BATCH: Final = 32


class Pacer(LearnedLimits):
    def __init__(self, model: str, pacing: Pacing, background: Background) -> None:
        super().__init__(model, pacing, background)
        self._served: dict[str, float] = {}  # principal -> loop time of its last call, in that order
        self._pump: asyncio.Future[None] | None = None

    async def take(
        self, principal: str, prompt: int, completion: int, patience: float, *, fixed: bool = True
    ) -> Grant | float:
        """A grant, or the seconds after which it would make sense to ask again.

        A completion limit that is not `fixed` may be cut to what scarce tokens allow.
        """
        if self._open():
            return self._grant(Grant(prompt, completion))
        at_once = self._take_a_little(prompt, completion, fixed)
        if at_once is not None:
            return at_once
        now = self._loop.time()
        outcome: asyncio.Future[Grant | float] = self._loop.create_future()
        # Redis has to know of refusals first: the call is measured by them.
        if self._report.refusals:
            await self._ask([])
        elif self._telling is not None and not self._telling.done():
            await asyncio.wait([self._telling])
        waiter = Waiter(principal, prompt, completion, fixed, now, now + patience, outcome)
        self._waiting.setdefault(principal, deque()).append(waiter)
        self._wake.set()
        if self._pump is None or self._pump.done():
            self._pump = self._background.task("pace", self._run())
        try:
            return await outcome
        except asyncio.CancelledError:
            granted = outcome.result() if outcome.done() and not outcome.cancelled() else None
            if isinstance(granted, Grant):
                self.ended(granted, 0, 0, made=False)
            raise

    # The pump

    async def _run(self) -> None:
        """Let calls go until nobody waits any more."""
        while self._waiting:
            self._wake.clear()
            batch = self._in_turns()
            if not batch:
                break
            pace = await self._let_go(batch)
            held = batch[len(pace.granted) :]
            if held and not self._give_up(held[0], pace):
                await self._rest(pace.wait)

    async def _rest(self, wait: float) -> None:
        first = min(waiter.deadline for queue in self._waiting.values() for waiter in queue)
        pause = min(wait, _POLL_SECONDS * random.uniform(0.5, 1.0), max(0.0, first - self._loop.time()))
        try:
            async with asyncio.timeout(max(pause, 0.002)):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _in_turns(self) -> list[Waiter]:
        """The next calls: one of each principal, then a second of each, and so on; first the principal whose
        last call is longest ago. Calls that were cancelled are dropped."""
        queues = []
        for principal in sorted(self._waiting, key=lambda one: self._served_at(self._waiting[one][0])):
            queue = deque(waiter for waiter in self._waiting[principal] if not waiter.outcome.done())
            if queue:
                self._waiting[principal] = queue
                queues.append(queue)
            else:
                del self._waiting[principal]
        batch: list[Waiter] = []
        depth = 0
        while len(batch) < _BATCH:
            row = [queue[depth] for queue in queues if len(queue) > depth]
            if not row:
                break
            batch += row
            depth += 1
        return batch[:_BATCH]

    def _served_at(self, waiter: Waiter) -> float:
        """The time of its principal's last call here; of all workers' calls the earliest goes first."""
        return self._served.get(waiter.principal, waiter.since - _REMEMBERED_SECONDS)

    async def _let_go(self, batch: list[Waiter]) -> Pace:
        """Let the first calls go, as many as may."""
        now = self._loop.time()
        buckets = self._pace.buckets if self._pace else {}
        for waiter in batch:
            waiter.completion = fitting(buckets, waiter.prompt, waiter.completion, fixed=waiter.fixed)
        pace = await self._ask([(w.prompt, w.completion, now - self._served_at(w)) for w in batch])
        for waiter, (level, out) in zip(batch, pace.granted, strict=False):
            self._go(waiter, Grant(waiter.prompt, waiter.completion, pace.now, level, out))
        held = batch[len(pace.granted) :]
        if held and not held[0].held:
            held[0].held = True
            metrics.governor_waits.labels(model=self._model).inc()
        return pace

    def _go(self, waiter: Waiter, grant: Grant) -> None:
        self._grant(grant)
        self._waiting[waiter.principal].remove(waiter)
        if not self._waiting[waiter.principal]:
            del self._waiting[waiter.principal]
        now = self._loop.time()
        self._served.pop(waiter.principal, None)
        self._served[waiter.principal] = now
        while now - next(iter(self._served.values())) > _REMEMBERED_SECONDS:
            del self._served[next(iter(self._served))]
        if waiter.outcome.done():
            self.ended(grant, 0, 0, made=False)
        else:
            waiter.outcome.set_result(grant)

    def _give_up(self, first: Waiter, pace: Pace) -> bool:
        """Tell calls whose time is over how long they would wait. True when `first` is one of them."""
        now = self._loop.time()
        prompt = completion = calls = 0
        for queue in self._waiting.values():
            for waiter in queue:
                prompt, completion, calls = prompt + waiter.prompt, completion + waiter.completion, calls + 1
                as_much = waiter.prompt >= first.prompt and waiter.completion >= first.completion
                hopeless = as_much and now + pace.best > waiter.deadline
                if not waiter.outcome.done() and (hopeless or now >= waiter.deadline):
                    waiter.outcome.set_result(max(pace.wait, line(pace.buckets, calls, prompt, completion)))
        return first.outcome.done()
