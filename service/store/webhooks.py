"""Messages for webhooks: they wait in Redis until any worker has delivered them.

One queue for the service's webhook, and one for each API key that has its own. Invariants: an id waits once
in each; a queue has `MOST` messages and `MOST_BYTES` of bodies at most (of a key: less); what a worker has
taken that dies is given to another one after 30 s. What a message says, and when it is tried again, is
engine/webhooks.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.store.connection import lua
from service.store.part import StorePart

MOST: Final = 10_000
#: of all messages that wait: texts are of any length, and a receiver may be dead for days
MOST_BYTES: Final = 64 * 1_048_576
#: the same for one API key, so that none takes the room of others
MOST_OF_KEY: Final = 1_000
MOST_BYTES_OF_KEY: Final = 8 * 1_048_576
_TTL: Final = 7 * 86_400  # s, from the last message that was queued
_HOLD_MS: Final = 30_000  # longer than a try takes


@dataclass(frozen=True, slots=True)
class Told:
    id: str
    body: bytes
    tries: int  # with this one


class WebhookQueue(StorePart):
    """`of` is an API key with a webhook of its own, '' for the service's webhook."""

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
        """A random choice of API keys for whose webhooks messages wait, perhaps for a later time."""
        found = await self._client.run(
            "webhook_keys", self._redis.zrandmember(self._keys.webhook_keys, limit)
        )
        return [raw.decode() for raw in found or ()]

    async def tried(self, id: str, of: str, again: float | None) -> None:
        """A message was tried: it is due `again` in so many seconds, or leaves the queue (None)."""
        due, said, _ = self._names(of)
        again_ms = -1 if again is None else int(again * 1000)
        await self._scripts.call(lua.end_webhook(due=due, said=said, id=id, again_ms=again_ms))
