"""One connection to a Redis on which all commands of a worker travel together.

What is asked within one iteration of the event loop leaves in one write, and replies that arrive
together are given out together: a command costs a sixth of what it costs on a pooled connection of
redis-py.

Invariants: what timed out is not sent again; what was under way on a connection that broke is sent
once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio as aioredis
from redis.exceptions import ConnectionError as RedisConnectionError

from service.eventloop.shared_task import result_of
from service.store.connection.commands import Command, Commands, or_raise
from service.store.connection.connection import Answered, RedisConnection, close_pool, open_connection
from service.store.connection.replicas import Replicas, ReplicatedConnection


class Multiplexer:
    """A connection that is made when it is needed, and again when it was lost.

    With `replicas` its replies wait for those; `fence` names a key of the server for that.
    """

    def __init__(
        self,
        pool: aioredis.ConnectionPool,
        timeout: float,
        replicas: Replicas | None,
        fence: Callable[[], str | None],
    ) -> None:
        self._pool = pool
        self._timeout = timeout
        self._replicas = replicas
        self._fence = fence
        self._connection: RedisConnection | ReplicatedConnection | None = None
        self._opening: asyncio.Task[RedisConnection | ReplicatedConnection] | None = None
        self._closed = False

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """One round trip. Refusals are in the list; raises RedisError, TimeoutError, OSError."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        connection = self._connection
        if connection is None or connection.lost:
            return await self._run_anew(commands, deadline)
        try:
            return await connection.ask(commands)
        except RedisConnectionError:
            return await self._run_anew(commands, deadline)

    def start(self, commands: Sequence[Command], answered: Answered) -> bool:
        """The same without a task or a future, and without a second try. False when not connected."""
        if self._connection is None or self._connection.lost:
            return False
        self._connection.send(commands, answered)
        return True

    async def _run_anew(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        if self._closed:
            raise RedisConnectionError("closed")
        async with asyncio.timeout_at(deadline):
            if self._opening is None:
                self._opening = asyncio.create_task(self._open(), name="multiplexer")
                self._opening.add_done_callback(self._opened)
            connection = await result_of(self._opening)
            return await connection.ask(commands)

    def _opened(self, task: asyncio.Task[RedisConnection | ReplicatedConnection]) -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is None:
            self._connection = task.result()

    async def _open(self) -> RedisConnection | ReplicatedConnection:
        connection = await open_connection(self._pool, lambda: RedisConnection(self._timeout), self._timeout)
        if self._replicas is None:
            return connection
        return ReplicatedConnection(connection, self._replicas, self._fence)

    async def close(self) -> None:
        self._closed = True  # what waits for a reply hears of it, and may try again
        if (opening := self._opening) is not None:
            opening.cancel()
            await asyncio.wait([opening])
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class MultiplexedRedis(Commands):
    """One server, asked over one connection. `pool` says where it is, and keeps no connection."""

    def __init__(
        self, pool: aioredis.ConnectionPool, timeout: float, replicas: Replicas | None, fence: str
    ) -> None:
        self._pool = pool
        self.multiplexer = Multiplexer(pool, timeout, replicas, lambda: fence)

    async def execute(self, *words: Any, patient: bool = True) -> Any:
        return or_raise((await self.multiplexer.run([words]))[0])

    async def execute_all(self, commands: Sequence[Command]) -> list[Any]:
        return await self.multiplexer.run(commands)

    async def aclose(self) -> None:
        await self.multiplexer.close()
        await close_pool(self._pool)
