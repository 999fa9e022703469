"""What the modules of the store have in common: a client, its scripts, the names of keys, the settings.

Each module keeps one kind of thing in Redis and is a `StorePart`; what that thing means stays there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from service.config.settings import Settings
from service.store.connection.client import Client
from service.store.connection.scripts import Scripts
from service.store.keys import Keys, SessionKeys
from service.store.turn_records import TurnRef


@dataclass(frozen=True, slots=True)
class Shared:
    """`worker` is the name under which this process holds leases."""

    settings: Settings
    client: Client
    scripts: Scripts
    keys: Keys
    worker: str


class StorePart:
    """A module of the store."""

    def __init__(self, shared: Shared) -> None:
        self._settings = shared.settings
        self._client = shared.client
        self._redis = shared.client.redis
        self._scripts = shared.scripts
        self._keys = shared.keys
        self._worker = shared.worker
        self.lease_ms = int(shared.settings.lease_seconds * 1000)

    def _session(self, ref: TurnRef) -> SessionKeys:
        return self._keys.session(ref.principal, ref.session_id)

    def _turn(self, ref: TurnRef) -> str:
        return self._session(ref).turn(ref.turn_id)


def now_ms() -> int:
    """By this process's clock, since 1970."""
    return int(time.time() * 1000)
