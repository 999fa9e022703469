"""Lua scripts: called one at a time or many in one round trip.

A script is sent by its hash and loaded again where Redis has forgotten it (restart, failover). While the
slot of its keys is being moved and they are apart, it is asked again: so many seconds that moving a slot by
hand, with a pause in it, is a pause for clients too.
What a script does stands in its header (lua/); how a call of it is made, in typed_scripts.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError, RedisError

from service.errors import StoreMoving, StoreUnavailable
from service.store.connection.client import Client
from service.store.connection.refusals import unavailable
from service.store.connection.typed_scripts import Call, sources

# What may write while Redis is full: what ends a turn and gives back what it holds. All else is refused then.
_WHEN_FULL: Final = frozenset(
    ("seal", "settle", "leave", "finish", "stop", "release", "expire_lease", "refund", "free_session")
)
_FLAGS: Final = "#!lua flags=allow-oom\n"  # Redis 7, Valkey

_MOVING_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.05


class Scripts:
    def __init__(self, client: Client) -> None:
        self._client = client
        # The store in this process knows no flags, and is never full.
        flags = _FLAGS if client.settings.redis_url is not None else ""
        self._sources = {
            name: f"{flags}{source}" if name in _WHEN_FULL else source for name, source in sources().items()
        }
        self._hashes = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._sources.items()
        }

    async def call(self, call: Call, *, patient: bool = True) -> Any:
        """Run one script. `patient`: wait for a slot that is being moved. Raises StoreUnavailable."""
        give_up = time.monotonic() + _MOVING_SECONDS
        command, commands, moving = self._command(call), 1, False
        while True:
            try:
                return await self._client.evaluate(call.script, command, commands=commands, patient=patient)
            except NoScriptError:
                command, commands = self._as_text(call), 0  # which is the same once more
                continue
            except StoreUnavailable as error:
                moving = moving or isinstance(error, StoreMoving)
                if not (patient and moving) or time.monotonic() > give_up:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _apart(self, operation: str, call: Call) -> Any:
        try:
            return await self._client.evaluate(operation, self._command(call))
        except NoScriptError:
            return await self._client.evaluate(operation, self._as_text(call), commands=0)

    def _command(self, call: Call) -> Sequence[Any]:
        name, keys, args = call
        return ("EVALSHA", self._hashes[name], len(keys), *keys, *args)

    def _as_text(self, call: Call) -> Sequence[Any]:
        name, keys, args = call
        return ("EVAL", self._sources[name], len(keys), *keys, *args)

    async def batch(self, operation: str, calls: Sequence[Call]) -> list[Any]:
        """Run many scripts in one round trip; a script that failed has its exception in the list.

        Raises StoreUnavailable when nothing can be said about any of them.
        """
        if len(calls) == 1 or self._client.cluster:
            results = await asyncio.gather(
                *(self._apart(operation, call) for call in calls), return_exceptions=True
            )
            return list(results)
        results = await self._client.many(operation, list(map(self._command, calls)))
        for i, result in enumerate(results):
            if isinstance(result, NoScriptError):
                try:
                    results[i] = await self._apart(operation, calls[i])
                except StoreUnavailable as error:
                    results[i] = error  # its own: what the others have answered stands
            elif isinstance(result, RedisError):
                self._client.failed(operation, result)
                results[i] = unavailable(result)
        return results

    def start(
        self, operation: str, calls: Sequence[Call], answered: Callable[[list[Any] | None], None]
    ) -> bool:
        """As `batch`, without waiting: see Client.start."""
        return self._client.start(operation, list(map(self._command, calls)), answered)
