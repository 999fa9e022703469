"""Redis's clock, as this worker reckons it: for calls that make no sense any more after a moment.

A Redis that stood still carries out what waits in its sockets, also for callers who have long been
told that it did not answer. What must not happen then says until when it may. Not for Cluster,
whose nodes have a clock each.
"""

from __future__ import annotations

import time
from typing import Final

from service.eventloop.aligned_sleep import aligned_sleep
from service.store.connection.client import Client

# A clock that is set anew is noticed after this time.
_LOOK_SECONDS: Final = 1.0
# An answer that took longer says too little about when it was given, unless what was known must be wrong.
_SOUND_SECONDS: Final = 0.02


class Clock:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._ahead: float | None = None  # of this process's clock, seconds

    def after(self, seconds: float) -> int:
        """The moment in so many seconds, or just before it, in Redis's ms; 0 while its clock is not known."""
        return 0 if self._ahead is None else int((time.monotonic() + self._ahead + seconds) * 1000)

    async def run(self) -> None:
        while True:
            if not self._client.cluster:
                await self.look()
            await aligned_sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Raises StoreUnavailable."""
        begin = time.monotonic()
        seconds, microseconds = await self._client.run("time", self._client.redis.time())
        end, now = time.monotonic(), seconds + microseconds / 1e6
        if end - begin < _SOUND_SECONDS:
            self._ahead = now - end
        elif self._ahead is None or not begin <= now - self._ahead <= end + _SOUND_SECONDS:
            self._ahead = now - begin
