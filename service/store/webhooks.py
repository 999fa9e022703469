"""What is to be told to webhooks' receivers, in Redis until it is: by whichever worker is there.

One queue for the webhook of all, and one for each API key that has its own. Invariants: an id waits once in
each; none has more than `MOST`, nor than `MOST_BYTES` of bodies; what is taken by a worker that dies is given
to another one half a minute later. What is told, and when again, is engine/webhooks.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.store.connection import lua
from service.store.part import StorePart

MOST: Final = 10_000
#: of all that wait together: texts are of any length, and a receiver may be dead for days
MOST_BYTES: Final = 64 * 1_048_576
#: the same of one API key: none fills the room of others
MOST_OF_KEY: Final = 1_000
MOST_BYTES_OF_KEY: Final = 8 * 1_048_576
_TTL: Final = 7 * 86_400  # s after the last that was queued
_HOLD_MS: Final = 30_000  # longer than a try takes


@dataclass(frozen=True, slots=True)
class Told:
    id: str
    body: bytes
    tries: int  # with this one


class WebhookQueue(StorePart):
    """`of` is an API key with a webhook of its own, '' for the webhook of all."""

    def _names(self, of: str) -> tuple[str, str, list[str]]:
        keys = self._keys
        if not of:
            return keys.webhooks, keys.webhooks_said, []
        return keys.webhooks_of(of), keys.webhooks_said_of(of), [keys.webhook_keys]

    async def put(self, id: str, body: bytes, of: str = "") -> bool:
        """False where there is no room."""
        due, said, index = self._names(of)
        most, size = (MOST_OF_KEY, MOST_BYTES_OF_KEY) if of else (MOST, MOST_BYTES)
        call = lua.queue_webhook(
            due=due, said=said, index=index, id=id, body=body, most=most, most_bytes=size, ttl=_TTL, of=of
        )
        return bool(await self._scripts.call(call) >= 0)

    async def take(self, limit: int, of: str = "") -> list[Told]:
        due, said, index = self._names(of)
        call = lua.take_webhooks(due=due, said=said, index=index, limit=limit, hold_ms=_HOLD_MS, of=of)
        found = await self._scripts.call(call)
        return [Told(found[i].decode(), found[i + 1], int(found[i + 2])) for i in range(0, len(found) - 2, 3)]

    async def waiting(self, limit: int) -> list[str]:
        """Some API keys, by chance, whose webhooks have something to be told, if not now."""
        found = await self._client.run(
            "webhook_keys", self._redis.zrandmember(self._keys.webhook_keys, limit)
        )
        return [raw.decode() for raw in found or ()]

    async def tried(self, id: str, of: str, again: float | None) -> None:
        """It is to be sent again in so many seconds; None: it is done with."""
        due, said, _ = self._names(of)
        again_ms = -1 if again is None else int(again * 1000)
        await self._scripts.call(lua.end_webhook(due=due, said=said, id=id, again_ms=again_ms))
