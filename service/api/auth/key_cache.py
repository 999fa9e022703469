"""API keys as a worker knows them: read from the store, kept for two seconds.

A revoked key works for two more seconds at most. Ids without a key are cached apart, so that made-up ones do
not push known keys out; in an outage they are not bridged.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import Final

from service.api.auth.known_records import KnownRecords, SharedReads
from service.errors import StoreUnavailable
from service.store import credentials
from service.store.connection.client import Client
from service.store.credentials import Credential, Credentials

_NOTE_SECONDS: Final = 3_600  # how exact `last_used` is


class Keyring:
    def __init__(self, client: Client, store: Credentials) -> None:
        self._client = client
        self._store = store
        self._known = KnownRecords[Credential]()
        self._unknown = KnownRecords[None]()
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
        known = self._known.fresh(key_id) or self._unknown.fresh(key_id)
        return known.record if known is not None else await self._read(key_id)

    async def _read(self, key_id: str) -> Credential | None:
        try:
            return await self._reads.read(key_id)
        except StoreUnavailable:
            return self._known.bridged(key_id)

    async def _fetch(self, key_id: str) -> Credential | None:
        found = await self._client.unless_silent(self._store.get(key_id))
        if found is None:
            self._known.pop(key_id, None)
            self._unknown.keep(key_id, None)
        else:
            self._known.keep(key_id, found)
        return found

    async def _noted(self, found: Credential) -> Credential:
        now = int(time.time())
        entry = self._known.get(found.id)
        if entry is None or now - (found.last_used or 0) < _NOTE_SECONDS:
            return found
        entry.record = found = replace(found, last_used=now)
        with suppress(StoreUnavailable):
            await self._client.unless_silent(self._store.used(found.id))
        return found
