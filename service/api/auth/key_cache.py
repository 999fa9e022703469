"""API keys as a worker knows them: read from the store, kept for two seconds.

A revoked key works for two seconds more at most. While the store is silent a key that was known
goes on working for five minutes, so that an outage locks nobody out; an unknown one is 503.
Both memories are bounded, so that made-up ids cannot fill them or push known keys out.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from service.api.auth.shared_reads import SharedReads
from service.errors import StoreUnavailable
from service.store import credentials
from service.store.connection.client import Client
from service.store.credentials import Credential, Credentials

_FRESH_SECONDS: Final = 2.0  # a key in use costs one read per worker and two seconds
_STALE_SECONDS: Final = 300.0
_RETRY_SECONDS: Final = 1.0  # between tries while the store is silent
_MOST: Final = 10_000  # 5 MB; more keys than that are read more often
_NOTE_SECONDS: Final = 3_600  # how exact `last_used` is


@dataclass(slots=True)
class _Entry:
    credential: Credential
    read: float
    again: float


class Keyring:
    def __init__(self, client: Client, store: Credentials) -> None:
        self._client = client
        self._store = store
        self._known: dict[str, _Entry] = {}
        self._unknown: dict[str, float] = {}
        self._reads = SharedReads("read-key", self._fetch)

    async def find(self, key: str) -> Credential | None:
        """The record that a key opens, whatever its state; None when it opens none.

        Raises StoreUnavailable.
        """
        key_id = credentials.id_of(key)
        if key_id is None:
            return None
        held = self._known.get(key_id)
        found = await self.by_id(key_id)
        if found is not None and not found.matches(key, time.time()):
            # It may have been given a new secret just now.
            found = await self._read(key_id) if held is self._known.get(key_id) else None
            if found is None or not found.matches(key, time.time()):
                return None
        return await self._noted(found) if found is not None else None

    async def by_id(self, key_id: str) -> Credential | None:
        now = asyncio.get_running_loop().time()
        entry = self._known.get(key_id)
        if entry is not None and now < entry.again:
            return entry.credential
        if self._unknown.get(key_id, 0.0) > now:
            return None
        return await self._read(key_id)

    async def _read(self, key_id: str) -> Credential | None:
        try:
            return await self._reads.read(key_id)
        except StoreUnavailable:
            now = asyncio.get_running_loop().time()
            entry = self._known.get(key_id)
            if entry is None or now - entry.read > _STALE_SECONDS:
                raise
            entry.again = now + _RETRY_SECONDS
            return entry.credential

    async def _fetch(self, key_id: str) -> Credential | None:
        found = await self._client.unless_silent(self._store.get(key_id))
        now = asyncio.get_running_loop().time()
        self._known.pop(key_id, None)  # and to the end, where what is in use stays longest
        if found is None:
            _bound(self._unknown)
            self._unknown[key_id] = now + _FRESH_SECONDS
            return None
        _bound(self._known)
        self._known[key_id] = _Entry(found, now, now + _FRESH_SECONDS)
        return found

    async def _noted(self, found: Credential) -> Credential:
        now = int(time.time())
        entry = self._known.get(found.id)
        if entry is None or now - (found.last_used or 0) < _NOTE_SECONDS:
            return found
        entry.credential = found = replace(found, last_used=now)
        with suppress(StoreUnavailable):
            await self._client.unless_silent(self._store.used(found.id))
        return found


def _bound(memory: dict[str, _Entry] | dict[str, float]) -> None:
    """Make room for one more: what came first goes first."""
    if len(memory) >= _MOST:
        del memory[next(iter(memory))]
