"""What is to be told to the webhook's receiver, in Redis until it is: by whichever worker is there.

Invariants: an id waits once; there are never more than `MOST`, nor than `MOST_BYTES` of bodies; what is taken
by a worker that dies is given to another one half a minute later. What is told, and when again, is
engine/webhooks.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.store.connection import lua
from service.store.part import Part, Shared

MOST: Final = 10_000
#: of all that wait together: texts are of any length, and a receiver may be dead for days
MOST_BYTES: Final = 64 * 1_048_576
_TTL: Final = 7 * 86_400  # s after the last that was queued
_HOLD_MS: Final = 30_000  # longer than a try takes


@dataclass(frozen=True, slots=True)
class Told:
    id: str
    body: bytes
    tries: int  # with this one


class WebhookQueue(Part):
    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._due, self._said = shared.keys.webhooks, shared.keys.webhooks_said

    async def put(self, id: str, body: bytes) -> bool:
        """False where there is no room."""
        call = lua.queue_webhook(
            due=self._due, said=self._said, id=id, body=body, most=MOST, most_bytes=MOST_BYTES, ttl=_TTL
        )
        return bool(await self._scripts.call(call) >= 0)

    async def take(self, limit: int) -> list[Told]:
        call = lua.take_webhooks(due=self._due, said=self._said, limit=limit, hold_ms=_HOLD_MS)
        found = await self._scripts.call(call)
        return [Told(found[i].decode(), found[i + 1], int(found[i + 2])) for i in range(0, len(found) - 2, 3)]

    async def done(self, id: str) -> None:
        await self._scripts.call(lua.end_webhook(due=self._due, said=self._said, id=id, again_ms=-1))

    async def again(self, id: str, seconds: float) -> None:
        call = lua.end_webhook(due=self._due, said=self._said, id=id, again_ms=int(seconds * 1000))
        await self._scripts.call(call)
