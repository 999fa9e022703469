"""Limits of single subjects of JWTs and of groups, as a worker knows them: read from the store, kept for two
seconds.

Most have no entry, so that is remembered too, and that there is none at all: then a worker asks the store
once every two seconds, whoever calls. While the store is silent what was known holds for five minutes;
who was not known is 503. Invariant: at most _MOST ids are remembered. What an entry holds is
store/principals.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from limits import parse_many

from service.api.auth.shared_reads import SharedReads
from service.errors import StoreUnavailable
from service.store.connection.client import Client
from service.store.credentials import OwnLimits
from service.store.principals import Entry, Principals

_FRESH_SECONDS: Final = 2.0
_STALE_SECONDS: Final = 300.0
_RETRY_SECONDS: Final = 1.0  # between tries while the store is silent
_MOST: Final = 10_000  # 5 MB; beyond it what was read first is read again


@dataclass(slots=True)
class _Held:
    entry: Entry | None
    read: float
    again: float


class PrincipalCache:
    def __init__(self, client: Client, store: Principals) -> None:
        self._client = client
        self._store = store
        self._held: dict[str, _Held] = {}
        self._none = _Held(None, float("-inf"), float("-inf"))  # when there was no entry at all
        self._reads = SharedReads("read-own-limits", self._fetch)

    async def limits(self, subject: str, groups: Sequence[str]) -> dict[str, Any]:
        """What holds for somebody of these groups, by ids of entries. Raises StoreUnavailable.

        A limit of the person's own goes before that of a group, of several groups the most generous counts.
        """
        found = await self._find((subject, *groups))
        own = found.pop(subject, None)
        of_groups = most_generous(entry for entry in found.values() if entry is not None)
        return of_groups | own.own() if own else of_groups

    async def _find(self, ids: tuple[str, ...]) -> dict[str, Entry | None]:
        now = asyncio.get_running_loop().time()
        if now < self._none.again:
            return {}
        known = {id: held.entry for id in ids if (held := self._held.get(id)) and now < held.again}
        missing = tuple(id for id in ids if id not in known)
        return known | await self._read(missing) if missing else known

    async def _read(self, ids: tuple[str, ...]) -> dict[str, Entry | None]:
        try:
            return await self._reads.read(ids)
        except StoreUnavailable:
            return self._bridged(ids)

    async def _fetch(self, ids: tuple[str, ...]) -> dict[str, Entry | None]:
        found, any_at_all = await self._client.unless_silent(self._store.find(ids))
        now = asyncio.get_running_loop().time()
        if not any_at_all:
            self._held.clear()
            self._none = _Held(None, now, now + _FRESH_SECONDS)
            return found
        self._none.read = float("-inf")
        for id, entry in found.items():
            self._held.pop(id, None)
            if len(self._held) >= _MOST:
                del self._held[next(iter(self._held))]
            self._held[id] = _Held(entry, now, now + _FRESH_SECONDS)
        return found

    def _bridged(self, ids: tuple[str, ...]) -> dict[str, Entry | None]:
        """What was known of them before the store fell silent. Raises StoreUnavailable."""
        now = asyncio.get_running_loop().time()
        held = [self._none if now - self._none.read <= _STALE_SECONDS else self._held.get(id) for id in ids]
        for one in held:
            if one is None or now - one.read > _STALE_SECONDS:
                raise StoreUnavailable
            one.again = now + _RETRY_SECONDS
        return {id: one.entry for id, one in zip(ids, held, strict=True) if one is not None}


def most_generous(several: Iterable[OwnLimits]) -> dict[str, Any]:
    """Of each limit the one that allows most; what none of them names is left out."""
    found: dict[str, Any] = {}
    for limits in several:
        for name, value in limits.own().items():
            if name not in found or _allows(value) > _allows(found[name]):
                found[name] = value
    return found


def _allows(limit: int | str) -> float:
    if not limit:
        return float("inf")
    return _per_second(limit) if isinstance(limit, str) else limit


@lru_cache(maxsize=1024)
def _per_second(limit: str) -> float:
    """What a request limit lets through in the long run: the least of its windows."""
    return min(window.amount / window.get_expiry() for window in parse_many(limit))
