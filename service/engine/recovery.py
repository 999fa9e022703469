"""Recovery: renews leases, ends slow attempts, finds turns whose lease has expired.

Three loops of every worker. `renew` keeps the leases of this worker's quiet turns (appends keep
those of the others) and hears of stops and orphans; `tick` ends attempts that are too slow;
`sweep` finds every turn whose deadline has passed, by Redis's clock. What that means, and the
taking over, is running.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from service.config.settings import Settings
from service.engine.admission import Admission
from service.engine.background import Apart, Background
from service.engine.budgets import Budgets
from service.engine.live import Live
from service.engine.running import Running
from service.engine.tail_cache import TailCaches
from service.errors import StoreUnavailable
from service.eventloop.aligned_sleep import aligned_sleep
from service.store import log as codes
from service.store.store import Store
from service.store.turn_records import TurnRef
from service.telemetry import metrics

_TICK_SECONDS: Final = 0.2
# A turn whose lease has expired waits half of this on average; a sweep is one script per worker.
_SWEEP_SECONDS: Final = 0.2
# Leases in one round trip. 2,000 at once would keep the event loop for 8 ms and Redis for 16, while all
# appends wait; one at a time, over a slow network, they would expire meanwhile.
_RENEWED_TOGETHER: Final = 128
# From when the only possible reader leaves to the end of its answer. A proxy that has lost its connection to
# one replica asks the next within milliseconds, and its client does not notice.
_LEFT_SECONDS: Final = 1.0
_SIGNALS: Final = {codes.STOP: "stop", codes.FENCED: "fenced", codes.GONE: "gone", codes.ORPHAN: "orphan"}

T = TypeVar("T")


class Recovery:
    def __init__(
        self,
        settings: Settings,
        store: Store,
        running: Running,
        tails: TailCaches,
        budgets: Budgets,
        admission: Admission,
    ) -> None:
        self._settings = settings
        self._store = store
        self._running = running
        self._tails = tails
        self._budgets = budgets
        self._admission = admission

    def start(self, background: Background) -> None:
        background.loop("renew", partial(self._renew, Apart(background, "renew")))
        background.loop("tick", self._tick)
        background.loop("sweep", partial(self._sweep, Apart(background, "sweep")))

    async def _renew(self, apart: Apart) -> None:
        """Every third of a lease, or more often if orphans have to be noticed sooner; each server apart."""
        by_server = self._store.log.by_server
        while True:
            await aligned_sleep(min(self._settings.lease_seconds / 3, self._settings.orphan_seconds / 4))
            apart.collect()
            for server, lives in by_server(self._running.lives(), lambda live: live.names[1]).items():
                turns = [live.turn for live in lives]
                apart.start(("renew", server), partial(_in_groups, self._renew_leases, lives))
                # These two go to the servers of the principals and of the index.
                apart.start(("hold", server), partial(_in_groups, self._budgets.hold, turns))
                apart.start(("schedule", server), partial(_in_groups, self._schedule, lives))
            remote = [tail for tail in self._tails.all() if tail.readers and not self._running.find(tail.ref)]
            for server, tails in by_server(remote, lambda tail: tail.channel).items():
                apart.start(("attend", server), partial(self._attend, [tail.ref for tail in tails]))

    async def _schedule(self, lives: Sequence[Live]) -> None:
        """Put turns into the index again, except those that end: a seal under way takes its turn out of it.

        With 16 callers of short turns there were seven such turns at each renewal.
        """
        await self._store.leases.schedule([live.turn.ref for live in lives if not live.ending])

    async def _attend(self, refs: Sequence[TurnRef]) -> None:
        # After a failover a shard may be as before a seal, with turns that the index does not name any more.
        for ref in await self._store.leases.attend(refs):
            await self._running.claim_due(ref)

    async def end_unread(self, ref: TurnRef) -> None:
        """In a moment end a turn of a session without a name, if it runs here and has no reader then.

        If another reader has ever attached to it, at any worker, attend.lua has noted that, and it goes on.
        """
        grace = min(_LEFT_SECONDS, self._settings.orphan_seconds)
        await asyncio.sleep(grace + 0.01)
        live = self._running.find(ref)
        with contextlib.suppress(StoreUnavailable):  # then a later renewal finds it
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
            if signal and self._running.find(live.turn.ref) is live:
                live.interrupt(signal)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            late = await aligned_sleep(_TICK_SECONDS)
            now = loop.time()
            metrics.loop_lag.observe(late)
            self._admission.note_lag(late)
            for live in self._running.lives():
                # While Redis fails, a silence is not the model's.
                if live.deadline is None or live.failing_since is not None or live.signal is not None:
                    continue
                if now > live.deadline[0]:
                    live.interrupt(live.deadline[1])

    async def _sweep(self, apart: Apart) -> None:
        while True:
            await aligned_sleep(min(_SWEEP_SECONDS, self._settings.lease_seconds / 4))
            if self._running.closed:
                continue  # asking would hide due turns from other workers for a second
            apart.collect()
            for index in self._store.leases.indexes:
                apart.start(("due", index), partial(self._sweep_index, apart, index))

    async def _sweep_index(self, apart: Apart, index: str) -> None:
        for ref in await self._store.leases.due(index):
            if not self._running.find(ref):  # one that fails, or waits for its server, is due again in 1 s
                apart.start(("look", ref), partial(self._running.claim_due, ref))


async def _in_groups(work: Callable[[Sequence[T]], Awaitable[None]], items: Sequence[T]) -> None:
    for i in range(0, len(items), _RENEWED_TOGETHER):
        await work(items[i : i + _RENEWED_TOGETHER])
