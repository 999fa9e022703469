"""Messages for webhooks: they wait in Redis until any worker has delivered them.

One queue for the service's webhook, and one for each API key that has its own. Invariants: an id waits once
in each; a queue has `MOST` messages and `MOST_BYTES` of bodies at most (of a key: less); what a worker has
taken that dies is given to another one after 30 s. What a message says, and when it is tried again, is
engine/webhooks.py's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
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
_PAGE: Final = 32  # bodies in one round trip, of 64 KiB each where they have a text


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

    async def all(self) -> AsyncGenerator[tuple[str, dict[str, bytes]], None]:
        """Everything that waits, some at a time: (`of`, bodies by id)."""
        keys = await self._client.run("webhook_keys", self._redis.zrange(self._keys.webhook_keys, 0, -1))
        for of in ("", *map(bytes.decode, keys)):
            due, said, _ = self._names(of)
            cursor = 0
            while True:
                cursor, members = await self._client.run("list", self._redis.zscan(due, cursor, _PAGE))
                for first in range(0, len(members), _PAGE):
                    ids = [raw for raw, _ in members[first : first + _PAGE]]
                    bodies = await self._client.run("list", self._redis.hmget(said, ids))
                    pairs = zip(ids, bodies, strict=True)
                    yield of, {raw.decode(): body for raw, body in pairs if body is not None}
                if cursor == 0:
                    break

    async def redact(self, id: str, of: str, body: bytes) -> None:
        """What waits is to be told with this body."""
        await self._scripts.call(lua.redact_webhook(said=self._names(of)[1], id=id, body=body))

    async def tried(self, id: str, of: str, again: float | None) -> None:
        """A message was tried: it is due `again` in so many seconds, or leaves the queue (None)."""
        due, said, _ = self._names(of)
        again_ms = -1 if again is None else int(again * 1000)
        await self._scripts.call(lua.end_webhook(due=due, said=said, id=id, again_ms=again_ms))
