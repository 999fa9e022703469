"""All that a principal has in Redis, whether an index names it or not: for an export or an erasure.

The indexes (the list of sessions, the account) are read first, for they are short. What they do not name is
found by a scan of all keys: sessions without a name where nothing is counted, turns and logs that outlive a
session without a name, and what a lost index named. Invariants: each step is one bounded command; a worker
scans one step at a time, with pauses, so that Redis is free for others. Nothing is changed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Final

from service.store.account import Account, sessions_among
from service.store.part import Shared, StorePart

# Members of an index per step: a session each, which is read or deleted before the next step.
_MEMBERS: Final = 256
# Names of keys per step, 0.3 ms of Redis, and the pause after it: a worker takes a tenth of Redis at most,
# and 10 million keys take 20 s.
_NAMES: Final = 2_000
_PAUSE_SECONDS: Final = 0.003


class Inventory(StorePart):
    def __init__(self, shared: Shared, account: Account) -> None:
        super().__init__(shared)
        self._account = account
        self._step = asyncio.Lock()

    async def sessions(self, principal: str, *, everywhere: bool = False) -> AsyncGenerator[list[str], None]:
        """The ids of a principal's sessions, page by page; some may be gone.

        `everywhere`: also those that no index names, which takes a scan of all keys.
        """
        keys = self._keys.principal(principal)
        listed, counted = keys.listed, keys.ends
        async for ids in self._members(listed):
            yield ids
        async for ids in self._members(counted):
            yield await self._in_none_of([listed], ids)
        if everywhere or not self._account.bounded:
            async for found in self.names(principal, "session"):
                yield await self._in_none_of([listed, counted], found)

    async def names(self, principal: str, kind: str = "*") -> AsyncGenerator[dict[str, list[str]], None]:
        """The keys of a principal's sessions, page by page: session id -> the ends of their names.

        A key that exists from the first step to the last is found, perhaps twice.
        """
        pattern = self._keys.session(principal, "*").base + f":{kind}"
        before = pattern.index("*")
        async for keys in self._scan(pattern):
            found: dict[str, list[str]] = {}
            for key in keys:
                session_id, _, rest = key.decode()[before:].partition("}:")
                found.setdefault(session_id, []).append(rest)
            if found:
                yield found

    async def _members(self, index: str) -> AsyncGenerator[list[str], None]:
        """The sessions that an index names; an account names other items too."""
        cursor = 0
        while True:
            cursor, found = await self._client.run("list", self._redis.zscan(index, cursor, _MEMBERS))
            if ids := sessions_among(raw for raw, _ in found):
                yield ids
            if cursor == 0:
                return

    async def _in_none_of(self, indexes: list[str], ids: Iterable[str]) -> list[str]:
        """The ids that none of these indexes names."""
        left = list(ids)
        for index in indexes:
            if left:
                scores = await self._client.run("list", self._redis.zmscore(index, left))
                left = [name for name, score in zip(left, scores, strict=True) if score is None]
        return left

    async def _scan(self, pattern: str) -> AsyncGenerator[list[bytes], None]:
        """All keys that fit the pattern; on a Cluster from one primary after the other."""
        for node in await self._client.run("scan", self._redis.primaries()):
            cursor = 0
            while True:
                async with self._step:
                    cursor, found = await self._client.run(
                        "scan", self._redis.scan(pattern, cursor, _NAMES, node)
                    )
                    await asyncio.sleep(_PAUSE_SECONDS)
                yield found
                if cursor == 0:
                    break
