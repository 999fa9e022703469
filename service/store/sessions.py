"""Sessions and messages in Redis: read, create, change, list, delete.

A session's messages are a sorted set of ids by position and a hash of bodies: pages and context
windows cost the same whatever the length of the history. Messages are written by begin.lua and
seal.lua only; the index of a principal's sessions is a hint that heals when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from service.errors import ServiceError, StoreRefusesWrites
from service.store.account import Account
from service.store.connection import lua
from service.store.connection.typed_scripts import Call, flat
from service.store.keys import SessionKeys
from service.store.messages import HistoryPage, Message, Session, page_of, session_of
from service.store.part import Shared, StorePart, now_ms
from service.store.turn_records import TurnRef

_TIME: Final = re.compile(r"[0-9]{1,15}")  # ms
# Characters of system prompts in a page of the list: what a worker reads and writes without a pause
# that others would notice.
_PAGE_CHARACTERS: Final = 1_048_576
# Sessions of a list that are read in one round trip: with the longest prompts 2 MiB.
_BATCH: Final = 16
# A page of n sessions looks at up to 2 n + 200 entries: a few deleted ones do not make it shorter.
_EXTRA_ENTRIES: Final = 200
# Bytes of a page of messages beyond which it ends, and how many are read at once, at first and at most: long
# messages come a few at a time, short ones in few round trips.
_PAGE_BYTES: Final = 1_048_576
_FIRST_BODIES: Final = 8
_MOST_BODIES: Final = 256
# Turns whose keys are removed in one round trip: 1 ms of Redis.
_TURNS_AT_ONCE: Final = 250


class Sessions(StorePart):
    def __init__(self, shared: Shared, account: Account) -> None:
        super().__init__(shared)
        self._account = account
        self._ttl = shared.settings.session_ttl_seconds

    def _of(self, principal: str, session_id: str) -> SessionKeys:
        return self._keys.session(principal, session_id)

    async def get(self, principal: str, session_id: str) -> Session | None:
        name = self._of(principal, session_id).session
        fields = await self._client.run("get_session", self._redis.hgetall(name))
        return session_of(session_id, fields)

    async def create(self, principal: str, session_id: str, fields: dict[str, str]) -> bool:
        """True when it is new. Either way it is named and listed from now on."""
        keys = self._of(principal, session_id)
        given = flat({"id": session_id, **fields})
        creating = lua.create_session(keys, now_ms=now_ms(), ttl=self._ttl, fields=given)
        created = await self._scripts.call(creating)
        await self.list_it(principal, session_id)
        return bool(created)

    async def update(self, principal: str, session_id: str, fields: dict[str, str]) -> bool:
        """Name the session and set fields ('' removes one). False when there is none."""
        given = flat({"updated": now_ms(), **fields}) if fields else []
        keys = self._of(principal, session_id)
        done = await self._scripts.call(lua.update_session(keys, ttl=self._ttl, fields=given))
        if done:
            await self.list_it(principal, session_id)
        return bool(done)

    async def list_it(self, principal: str, session_id: str) -> None:
        """Put the session on its principal's list, at the top, and take expired ones off.

        Its entry in the account expires at the same time as that on the list.
        """
        name = self._keys.principal(principal).listed
        now = now_ms()
        pipeline = self._redis.pipeline()
        pipeline.zadd(name, {session_id: now})
        pipeline.zremrangebyscore(name, "-inf", f"({now - 1000 * self._ttl}")
        pipeline.expire(name, self._ttl)
        pipeline.zadd(self._keys.principal(principal).ends, {session_id: now + 1000 * self._ttl}, xx=True)
        await self._client.run("list", pipeline.execute(), commands=4)

    async def page(self, principal: str, limit: int, cursor: str | None) -> tuple[list[Session], str | None]:
        """Newest first; fewer than `limit` where system prompts are long, or where most sessions are gone.

        The cursor is `<updated>:<id>` of the last entry that was looked at. A page costs O(limit) commands,
        however many entries of the list are stale: expired ones are removed by one command, and of the others
        (whose worker died between the delete and the list) a page looks at a bounded number.
        """
        name = self._keys.principal(principal).listed
        top, last = "+inf", None
        if cursor:
            top, _, last = cursor.partition(":")
            if not _TIME.fullmatch(top):
                raise ServiceError("invalid_request", "The cursor is not one that this list gave.")
        expired = f"({now_ms() - 1000 * self._ttl}"
        with suppress(StoreRefusesWrites):  # a list is read all the same
            await self._client.run("list", self._redis.zremrangebyscore(name, "-inf", expired))
        found: list[Session] = []
        following: str | None = None
        offset = carried = 0
        entries_left = 2 * limit + _EXTRA_ENTRIES
        while entries_left > 0:
            entries = await self._client.run(
                "list",
                self._redis.zscored(name, top, "-inf", newest_first=True, limit=(offset, _BATCH)),
            )
            if not entries:
                return found, None
            named = [(raw.decode(), int(score)) for raw, score in entries]
            if last is not None:  # ids descend among equal scores
                named = [one for one in named if one[1] < int(top) or one[0] < last]
            sessions, removed = await self._listed(principal, [session_id for session_id, _ in named])
            offset += len(entries) - removed
            entries_left -= len(entries)
            for (session_id, score), session in zip(named, sessions, strict=True):
                if session is not None:
                    carried += len(session.system_prompt or "")
                    if len(found) == limit or (found and carried > _PAGE_CHARACTERS):
                        return found, following
                    found.append(session)
                following = f"{score}:{session_id}"
        return found, following

    async def _listed(self, principal: str, ids: list[str]) -> tuple[list[Session | None], int]:
        """The sessions of some entries, None for one that is gone; and how many were taken off the list."""
        if not ids:
            return [], 0
        pipeline = self._redis.pipeline()
        for session_id in ids:
            pipeline.hgetall(self._of(principal, session_id).session)
        raws = await self._client.run("list", pipeline.execute(), commands=len(ids))
        # Nor is one listed that has expired and begun again without a name.
        read = map(session_of, ids, raws)
        found = [session if session and session.named else None for session in read]
        gone = [name for name, session in zip(ids, found, strict=True) if session is None]
        if gone:
            name = self._keys.principal(principal).listed
            try:
                await self._client.run("list", self._redis.zrem(name, *gone))
            except StoreRefusesWrites:
                return found, 0
        return found, len(gone)

    async def messages(
        self,
        principal: str,
        session_id: str,
        limit: int,
        after: int | None,
        *,
        newest_first: bool = False,
    ) -> tuple[list[Message], int | None]:
        """A page from one end, or from behind the position `after`; and the next page's `after`, or None.

        Fewer than `limit` where the messages are long.
        """
        keys = self._of(principal, session_id)
        start, end = ("+inf", "-inf") if newest_first else ("-inf", "+inf")
        entries = await self._client.run(
            "messages",
            self._redis.zscored(
                keys.order,
                start if after is None else f"({after}",
                end,
                newest_first=newest_first,
                limit=(0, limit + 1),
            ),
        )
        page = entries[:limit]
        bodies, read = await self._bodies(keys, [raw for raw, _ in page])
        return bodies, int(page[read - 1][1]) if len(entries) > read else None

    async def newest(self, principal: str, session_id: str, limit: int) -> list[Message]:
        """The newest messages, newest first."""
        return (await self.messages(principal, session_id, limit, None, newest_first=True))[0]

    async def window(
        self, principal: str, session_id: str, position: int, count: int, size: int
    ) -> HistoryPage:
        """The newest messages below a position: `count` at most, up to the one that passes `size` bytes."""
        reading = self.reading(principal, session_id, count, size, str(position))
        return page_of(await self._scripts.call(reading))

    def reading(self, principal: str, session_id: str, count: int, size: int, below: str = "+inf") -> Call:
        """The call that reads a window."""
        keys = self._of(principal, session_id)
        return lua.window(keys, below=below, most=count, most_bytes=size)

    async def message(self, principal: str, session_id: str, message_id: str) -> Message | None:
        name = self._of(principal, session_id).messages
        raw = await self._client.run("message", self._redis.hget(name, message_id))
        return Message.load(message_id, raw) if raw else None

    async def place(self, principal: str, session_id: str, message_id: str) -> int | None:
        """The position of a message, None where there is none of that id."""
        name = self._of(principal, session_id).order
        score = await self._client.run("messages", self._redis.zscore(name, message_id))
        return None if score is None else int(score)

    async def count(self, principal: str, session_id: str) -> int:
        name = self._of(principal, session_id).order
        return int(await self._client.run("messages", self._redis.zcard(name)))

    async def _bodies(self, keys: SessionKeys, ids: list[bytes]) -> tuple[list[Message], int]:
        """The messages of the first ids, until a page is full; and how many ids that took."""
        found: list[Message] = []
        read, size, count = 0, 0, _FIRST_BODIES
        while read < len(ids) and size < _PAGE_BYTES:
            names = ids[read : read + count]
            raws = await self._client.run("messages", self._redis.hmget(keys.messages, names))
            found += [Message.load(name.decode(), raw) for name, raw in zip(names, raws, strict=True) if raw]
            size += sum(len(raw) for raw in raws if raw)
            read += len(names)
            count = min(2 * count, _MOST_BODIES)
        return found, read

    async def newest_turn(self, principal: str, session_id: str) -> str | None:
        name = self._of(principal, session_id).turns
        raw = await self._client.run("turns", self._redis.lindex(name, -1))
        return raw.decode() if raw else None

    async def turns(self, principal: str, session_id: str) -> list[str]:
        """The ids of all turns of a session, oldest first."""
        name = self._of(principal, session_id).turns
        found = await self._client.run("turns", self._redis.lrange(name, 0, -1))
        return [raw.decode() for raw in found]

    async def wants_title(self, ref: TurnRef) -> bool:
        """Has the session a name and no title? True for one turn only, which is then to find a title."""
        return await self.give_title(ref, "")

    async def give_title(self, ref: TurnRef, title: str) -> bool:
        """Set the title. False where somebody has set one already, or the session is gone."""
        titling = lua.title_session(self._session(ref), turn_id=ref.turn_id, title=title)
        return bool(await self._scripts.call(titling))

    async def delete(self, principal: str, session_id: str, turns: Sequence[str]) -> bool:
        """Remove every key of the session. False when it has other turns than these, or one is running.

        The turns' keys go first, many in a round trip, and the session last: when the worker is killed in
        between, the session is still there, and the next delete removes the rest.
        """
        keys = self._of(principal, session_id)
        keyed = await self._client.run("get_session", self._redis.hget(keys.session, "keyed"))
        if keyed:  # idempotency entries of messages that no turn brought
            unlinking = self._redis.pipeline()
            for name in keyed.decode().split():
                unlinking.unlink(name)
            await self._client.run("turns", unlinking.execute())
        for i in range(0, len(turns), _TURNS_AT_ONCE):
            batch = turns[i : i + _TURNS_AT_ONCE]
            reading = self._redis.pipeline()
            for turn_id in batch:
                reading.hmget(keys.turn(turn_id), ("idem", "stored", "state"))
            records = await self._client.run("turns", reading.execute(), commands=len(batch))
            if any(state in (b"running", b"queued") for _, _, state in records):
                return False
            removing = self._redis.pipeline()
            for turn_id, (idem, _, _) in zip(batch, records, strict=True):
                # A command for each: while a Cluster moves their slot, they may be at two nodes.
                for name in (keys.turn(turn_id), keys.log(turn_id), *([idem.decode()] if idem else ())):
                    removing.unlink(name)
            await self._client.run("turns", removing.execute(), commands=len(batch))
            stored = [size.decode() for _, size, _ in records if size]
            await self._account.free(principal, [], stored)
        deleted = await self._scripts.call(lua.delete_session(keys, known=len(turns)))
        if deleted:
            await self._account.free(principal, [session_id], [])
        return bool(deleted)

    async def delete_left(self, principal: str, session_id: str, names: Sequence[str]) -> None:
        """Remove the keys that a session has left behind; `names` come from Inventory.names.

        Logs outlive a session without a name by a day. A new session of the same id stays.
        """
        turns = {name.partition(":")[2] for name in names if name.startswith(("turn:", "log:"))}
        if turns:
            await self.delete(principal, session_id, sorted(turns))
        base = self._of(principal, session_id).base
        for name in names:
            if name.startswith("idem:"):
                await self._client.run("turns", self._redis.unlink(f"{base}:{name}"))
        await self.delete(principal, session_id, [])
