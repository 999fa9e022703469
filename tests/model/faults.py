"""What goes wrong in the model: processes, the store, connections. One thing every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final

import redis

from tests.support.processes import Replica
from tests.support.redis import RedisServer

LEASE_SECONDS: Final = 2.0
_APART_SECONDS: Final = (0.5, 3.0)


class Faults:
    def __init__(
        self, replicas: Sequence[Replica], store: RedisServer, chance: Random, done: Counter[str]
    ) -> None:
        self._replicas = replicas
        self._store = store
        self._chance = chance
        self._done = done

    async def cause(self, until: float) -> None:
        """One after the other until the time is over. When it returns everything is up."""
        kinds: list[Callable[[], Awaitable[None]]] = [
            self._kill,
            self._kill,
            self._freeze,
            self._stall,
            self._restart,
            self._forget_scripts,
            self._cut_connections,
            self._reload,
        ]
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(self._chance.uniform(*_APART_SECONDS))  # the load of faults
            kind = self._chance.choice(kinds)
            self._done[kind.__name__.strip("_").replace("_", " ")] += 1
            await kind()

    def _worker(self) -> int:
        workers = [pid for replica in self._replicas for pid in replica.workers()]
        return self._chance.choice(workers) if workers else 0

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it may have just ended
            if pid:
                os.kill(pid, number)

    async def _kill(self) -> None:
        self._signal(self._worker(), signal.SIGKILL)

    async def _freeze(self) -> None:
        """Past the lease: somebody else has its turns when it wakes up."""
        worker = self._worker()
        self._signal(worker, signal.SIGSTOP)
        await asyncio.sleep(LEASE_SECONDS + self._chance.uniform(0.2, 1.5))  # the length of the fault
        self._signal(worker, signal.SIGCONT)

    async def _stall(self) -> None:
        self._store.stall()
        await asyncio.sleep(self._chance.uniform(0.3, 3.0))  # the length of the fault
        self._store.go_on()

    async def _restart(self) -> None:
        await asyncio.to_thread(self._store.restart)

    async def _forget_scripts(self) -> None:
        with self._store.client() as client, contextlib.suppress(redis.RedisError):
            client.script_flush()

    async def _cut_connections(self) -> None:
        with self._store.client() as client, contextlib.suppress(redis.RedisError):
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind)

    async def _reload(self) -> None:
        self._chance.choice(self._replicas).signal(signal.SIGHUP)
