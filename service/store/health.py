"""What is known of the store: asked in the background once a second, by no request.

`known` is `ok`, `unavailable` (twice in a row no answer within the bound: one slow answer is no outage),
`refuses writes: <reason>` or `evicts: <policy>`. On a Cluster it is that of the worst primary. No send
is refused because of it: a begin proves its writes by itself.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from service.errors import StoreRefusesWrites, StoreUnavailable
from service.eventloop.aligned_sleep import aligned_sleep
from service.store.connection.client import Client
from service.telemetry import metrics
from service.telemetry.logs import get_logger

OK: Final = "ok"
_UNAVAILABLE: Final = "unavailable"
_LOOK_SECONDS: Final = 1.0
# Redis answers in less than 1 ms; when a large one forks, it stands still for some hundred ms.
_BOUND_SECONDS: Final = 1.0
_SILENT: Final = 2
# Every fifth look reads the eviction policy: it changes by hand only, and an INFO costs ten appends.
_POLICY_EVERY: Final = 5

log = get_logger(__name__)


class Health:
    def __init__(self, client: Client) -> None:
        self._client = client
        settings = client.settings
        # A reply waits for the replicas of those before it, then for its own.
        waits = 2 * settings.redis_wait_seconds if settings.redis_wait_replicas else 0.0
        self.bound = _BOUND_SECONDS + waits  # seconds that an answer may take
        self._reason = ""
        self._refusing_since = 0.0
        self._policy = ""  # one that evicts
        self._silent = 0
        self._refusals = 0
        self._looks = 0

    async def ping(self) -> None:
        """Raises StoreUnavailable."""
        await self._client.ping()

    @property
    def known(self) -> str:
        """See the module."""
        if self._silent >= _SILENT:
            return _UNAVAILABLE
        if self._reason:
            return f"refuses writes: {self._reason}"
        return f"evicts: {self._policy}" if self._policy else OK

    @property
    def refusal(self) -> tuple[str, float]:
        """Why the store refuses writes, and for how many seconds; ('', 0.0) while it does not."""
        return (self._reason, time.monotonic() - self._refusing_since) if self._reason else ("", 0.0)

    async def run(self) -> None:
        while True:
            await self.look()
            await aligned_sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """One look, for `bound` seconds at most."""
        try:
            async with asyncio.timeout(self.bound):
                await self._try_writes()
                if self._looks % _POLICY_EVERY == 0:
                    await self._read_policy()
                self._looks += 1
        except StoreRefusesWrites as error:
            self._silent = 0
            self._refused(error.reason)
        except (StoreUnavailable, TimeoutError):
            self._silent += 1
        else:
            self._silent = 0
            self._refused("")

    def silent(self) -> None:
        """A caller has waited for `bound` seconds, twice, without an answer."""
        self._silent = _SILENT

    async def _try_writes(self) -> None:
        # In earnest if a command was refused since the last look: the probe does not try all that turns do.
        await self._client.check(in_earnest=self._client.refusals != self._refusals)
        self._refusals = self._client.refusals

    async def _read_policy(self) -> None:
        policy = await self._client.evicting_policy()
        if policy and policy != self._policy:
            log.error("store.evicts", policy=policy, mend="set its maxmemory-policy to noeviction")
        self._policy = policy

    def _refused(self, reason: str) -> None:
        if reason == self._reason:
            return
        if reason and not self._reason:
            self._refusing_since = time.monotonic()
        if reason:
            log.error("store.refuses_writes", reason=reason, action="sends are 503, reads go on")
        else:
            log.info("store.writes_again", after=self._reason)
        for known in metrics.REFUSALS:
            metrics.store_refuses_writes.labels(reason=known).set(known == reason)
        self._reason = reason
