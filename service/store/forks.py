"""Forks: the beginning of a session copied into a new one.

A fork goes from one slot of a Cluster to another, so it is read first and then written, a part at a time
(lua/fork.lua): what a script writes takes Redis 2 ms at most. Bodies are copied as they are. Invariants: no
session is seen before it is whole, and a fork that is cut short ends by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from service.store.connection import lua
from service.store.connection.typed_scripts import flat
from service.store.images import IMAGE_BYTES, Images, field
from service.store.part import Shared, StorePart

# Bounds of one part: a message takes Redis 3 us, and a MiB 2 ms.
_PART_MESSAGES: Final = 500
_PART_BYTES: Final = 524_288
#: what Redis keeps of a message besides its JSON and, twice, its id; begin.lua has the same number.
MESSAGE_BYTES: Final = 160
# Bodies per command, at first and at most, as for a page of messages.
_FIRST_BODIES: Final = 8
# A fork that is not finished expires after so long; two parts are some ms apart.
_UNFINISHED_SECONDS: Final = 60

Outcome = Literal["COPIED", "EXISTS", "LOST"]


class Copied(NamedTuple):
    place: int
    message_id: bytes
    body: bytes


class Forks(StorePart):
    def __init__(self, shared: Shared, images: Images) -> None:
        super().__init__(shared)
        self._images = images

    async def part(self, principal: str, session_id: str, after: int, upto: int) -> list[Copied] | None:
        """The next messages of a session up to a place; None where one was removed in between."""
        keys = self._keys.session(principal, session_id)
        entries = await self._client.run(
            "messages",
            self._redis.zscored(keys.order, f"({after}", upto, limit=(0, _PART_MESSAGES)),
        )
        found: list[Copied] = []
        size, count = 0, _FIRST_BODIES
        while len(found) < len(entries) and size < _PART_BYTES:
            batch = entries[len(found) : len(found) + count]
            raws = await self._client.run(
                "messages", self._redis.hmget(keys.messages, [name for name, _ in batch])
            )
            bodies = [raw for raw in raws if raw is not None]
            if len(bodies) < len(batch):
                return None
            found += [Copied(int(at), name, body) for (name, at), body in zip(batch, bodies, strict=True)]
            size += sum(len(body) for body in bodies)
            count *= 2
        return found

    async def weigh(self, principal: str, session_id: str, upto: int) -> tuple[int, int]:
        """How many messages there are up to a place, and their bytes as begin.lua counts them."""
        keys = self._keys.session(principal, session_id)
        count = size = offset = 0
        while True:
            entries = await self._client.run(
                "messages", self._redis.zscored(keys.order, "-inf", upto, limit=(offset, _PART_MESSAGES))
            )
            names = [name for name, _ in entries]
            pipeline = self._redis.pipeline()
            for name in names:
                pipeline.hstrlen(keys.messages, name)
            if names:
                lengths = await self._client.run("messages", pipeline.execute(), commands=len(names))
                size += sum(lengths) + sum(2 * len(name) + MESSAGE_BYTES for name in names)
            count += len(names)
            if len(names) < _PART_MESSAGES:
                return count, size
            offset += len(names)

    async def images(self, principal: str, session_id: str, named: set[str]) -> dict[str, int]:
        """Which of the named images (digests) a session has, and the bytes of each."""
        keys, redis = self._keys.session(principal, session_id), self._redis
        found = {}
        for ref in sorted(named):
            length = await self._client.run("image", redis.hstrlen(keys.messages, field(ref)))
            if length:
                found[ref] = length + IMAGE_BYTES
        return found

    async def copy_image(self, principal: str, source: str, target: str, ref: str, before: int) -> None:
        """Copy one image, while the copy has `before` messages."""
        data, keys = await self._images.get(principal, source, ref), self._keys.session(principal, target)
        if data is not None:
            call = lua.fork(
                keys, before=before, ttl=_UNFINISHED_SECONDS, copied=("", field(ref), data), fields=()
            )
            await self._images.call(call)

    async def write(
        self,
        principal: str,
        session_id: str,
        before: int,
        part: Sequence[Copied],
        fields: dict[str, Any] | None = None,
    ) -> Outcome:
        """Write a part of the copy behind `before` messages; with the session's `fields` the last one."""
        keys = self._keys.session(principal, session_id)
        answer = await self._scripts.call(
            lua.fork(
                keys,
                before=before,
                ttl=self._settings.session_ttl_seconds if fields else _UNFINISHED_SECONDS,
                copied=[value for one in part for value in one],
                fields=flat(fields or {}),
            )
        )
        outcomes: dict[bytes, Outcome] = {b"COPIED": "COPIED", b"EXISTS": "EXISTS"}
        return outcomes.get(answer, "LOST")

    async def discard(self, principal: str, session_id: str) -> None:
        """Remove what was written of a copy that is given up. A finished session of that id stays."""
        keys = self._keys.session(principal, session_id)
        await self._scripts.call(lua.fork(keys, before=-1, ttl=0, copied=(), fields=()))
