"""Images of sessions: each once, by the SHA-256 of its bytes, beside the messages that name it.

They lie in the messages' key, so that they live as long as these, count with them and go with them. They
travel on a connection of their own: on the one that all turns of a worker share, 5 MiB would be a pause for
everybody.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from service.store.connection import lua
from service.store.connection.client import Client
from service.store.connection.scripts import Scripts
from service.store.part import Shared, StorePart, now_ms
from service.store.turn_records import TurnRef

#: bytes that Redis uses for an image besides its data, as put_image.lua counts them
IMAGE_BYTES: Final = 2 * 65 + 160
# How a message names an image (parts.py).
_REF: Final = re.compile(rb'"(?:ref":"|url":"image:)([0-9a-f]{64})"')
# Bodies that are read and searched at once.
_NAMED: Final = 64


class Images(StorePart):
    def __init__(self, shared: Shared) -> None:
        client = Client(shared.settings)  # connects when it is first asked
        super().__init__(replace(shared, client=client, scripts=Scripts(client)))
        self.call = self._scripts.call

    async def put(self, turn: TurnRef, ref: str, data: bytes) -> bool:
        """Store an image. False where the session has it already; a session that is not there is made.

        The turn is about to name the image, and holds it until `release`.
        """
        return await self._hold(turn, ref, data) == 1

    async def hold(self, turn: TurnRef, ref: str) -> bool:
        """Hold an image that the session has already. False where it has not."""
        return await self._hold(turn, ref, b"") == 0

    async def release(self, turn: TurnRef, ref: str, *, begun: bool, unnamed: str = "") -> int:
        """A turn holds the image no more. Returns the bytes that are freed, -1 where the session is gone.

        `begun`: whether the turn has begun, and so names it. `unnamed`: the state that `unnamed` returned;
        then no turn holds it.
        """
        call = lua.release_image(
            self._session(turn), digest=ref, turn_id=turn.turn_id, begun=begun, unnamed=unnamed
        )
        return int(await self.call(call))

    async def unnamed(self, principal: str, session_id: str) -> tuple[set[str], str]:
        """Images that no message, version or running turn names; and the state of the session then."""
        keys, redis = self._keys.session(principal, session_id), self._redis
        read = redis.hmget(keys.session, ("images", "active", "turns", "seq", "versions_made"))
        refs, active, *state = [(raw or b"").decode() for raw in await self._client.run("image", read)]
        left = set(refs.split())
        if not left:
            return left, ""
        waiting = await self._client.run("image", redis.lrange(keys.queue, 0, -1)) if active else []
        for turn_id in (active, *(raw.decode() for raw in waiting)) if active else ():
            asked = await self._client.run("image", redis.hget(keys.turn(turn_id), "params"))
            left -= named_in(
                asked or b""
            )  # a whole context may name images that no message of the session has
        names = [
            raw for raw in await self._client.run("image", redis.hkeys(keys.messages)) if raw[:1] != b"\x02"
        ]
        for i in range(0, len(names), _NAMED):
            bodies = await self._client.run("image", redis.hmget(keys.messages, names[i : i + _NAMED]))
            for body in bodies:
                left -= named_in(body or b"")
        return left, " ".join(state)

    async def _hold(self, turn: TurnRef, ref: str, data: bytes) -> int:
        call = lua.put_image(
            self._session(turn),
            digest=ref,
            data=data,
            now_ms=now_ms(),
            ephemeral_ttl=self._settings.ephemeral_ttl_seconds,
            session_id=turn.session_id,
            turn_id=turn.turn_id,
        )
        return int(await self.call(call))

    async def get(self, principal: str, session_id: str, ref: str) -> bytes | None:
        name = self._keys.session(principal, session_id).messages
        found: bytes | None = await self._client.run("image", self._redis.hget(name, field(ref)))
        return found

    async def has(self, principal: str, session_id: str, ref: str) -> bool:
        name = self._keys.session(principal, session_id).messages
        return bool(await self._client.run("image", self._redis.hstrlen(name, field(ref))))

    async def close(self) -> None:
        await self._client.close()


def named_in(body: bytes) -> set[str]:
    """The images that a message's JSON names, or a version with many of them."""
    return {ref.decode() for ref in _REF.findall(body)}


def field(ref: str) -> bytes:
    return b"\x02" + ref.encode()
