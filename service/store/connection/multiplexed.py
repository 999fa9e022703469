"""One connection to a Redis on which all commands of a worker travel together.

What is asked within one iteration of the event loop leaves in one write, and replies that arrive
together are given out together: a command costs a sixth of what it costs on a pooled connection of
redis-py.

Invariants: what timed out is not sent again; what was under way on a connection that broke is sent
once more. redis-py's commands and its reading of replies stay: `MultiplexedRedis` only carries them
differently.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.store.connection.connection import (
    Answered,
    Command,
    RedisConnection,
    close_pool,
    open_connection,
)
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
            connection = await asyncio.shield(self._opening)
            return await connection.ask(commands)

    def _opened(self, task: asyncio.Task[RedisConnection | ReplicatedConnection]) -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is None:
            self._connection = task.result()

    async def _open(self) -> RedisConnection | ReplicatedConnection:
        connection = await open_connection(self._pool, lambda: RedisConnection(self._timeout), self._timeout)
        return (
            connection
            if self._replicas is None
            else ReplicatedConnection(connection, self._replicas, self._fence)
        )

    async def close(self) -> None:
        self._closed = True  # what waits for a reply hears of it, and may try again
        if (opening := self._opening) is not None:
            opening.cancel()
            await asyncio.wait([opening])
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class MultiplexedRedis(aioredis.Redis):
    """redis-py's commands, over one connection. Blocking and subscribing commands need another client."""

    def __init__(
        self, pool: aioredis.ConnectionPool, timeout: float, replicas: Replicas | None, fence: str
    ) -> None:
        super().__init__(connection_pool=pool)
        self.multiplexer = Multiplexer(pool, timeout, replicas, lambda: fence)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        (reply,) = await self.multiplexer.run([args])
        return self.read(args[0], reply, options)

    def read(self, name: str | bytes, reply: Any, options: Mapping[str, Any]) -> Any:
        """A reply as redis-py presents it. Raises RedisError."""
        if isinstance(reply, RedisError):
            raise reply
        callback = self.response_callbacks.get(name)
        if callback is None:
            return reply
        return callback(reply, **{name: value for name, value in options.items() if name != "keys"})

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        if transaction:
            return super().pipeline(transaction, shard_hint)
        return _MultiplexedPipeline(self)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await self.multiplexer.close()
        await super().aclose(close_connection_pool)
        await close_pool(self.connection_pool)


class _MultiplexedPipeline(Pipeline):
    """Commands that leave together anyway, behind redis-py's interface."""

    def __init__(self, client: MultiplexedRedis) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, False, None)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        results: list[Any] = []
        replies = await self._client.multiplexer.run([args for args, _ in stack]) if stack else []
        for (args, options), reply in zip(stack, replies, strict=True):
            try:
                results.append(self._client.read(args[0], reply, options))
            except RedisError as error:
                if raise_on_error:
                    raise
                results.append(error)
        return results
