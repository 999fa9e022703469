"""The lane: one wire to a Redis on which all commands of a worker travel together.

What is asked for within one turn of the event loop leaves in one write, and answers that
arrive together are given out together: a command costs a sixth of what a pooled connection of
redis-py makes of it. For a single server, the master that Sentinel names, or a node of a Cluster.

Invariants: what timed out is not sent again, what was under way on a wire that broke is sent
once more. redis-py's commands and its reading of replies stay: `LaneRedis` only carries them
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

from service.store.connection.connection import Answered, Command, Wire, close_pool, open_wire
from service.store.connection.replicas import Replicas, ReplicatedWire


class Lane:
    """A connection that is made when it is needed, and again when it was lost.

    With `replicas` its replies wait for those; `fence` names a key of the server for that.
    """

    def __init__(
        self, pool: aioredis.ConnectionPool, timeout: float, replicas: Replicas | None,
        fence: Callable[[], str | None],
    ) -> None:  # fmt: skip
        self._pool = pool
        self._timeout = timeout
        self._replicas = replicas
        self._fence = fence
        self._wire: Wire | ReplicatedWire | None = None
        self._opening: asyncio.Task[Wire | ReplicatedWire] | None = None
        self._closed = False

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """One round trip. Refusals are in the list; raises RedisError, TimeoutError, OSError."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        wire = self._wire
        if wire is None or wire.lost:
            return await self._run_anew(commands, deadline)
        try:
            return await wire.ask(commands)
        except RedisConnectionError:
            return await self._run_anew(commands, deadline)

    def start(self, commands: Sequence[Command], answered: Answered) -> bool:
        """The same without a task or a future, and without a second try. False when not connected."""
        if self._wire is None or self._wire.lost:
            return False
        self._wire.send(commands, answered)
        return True

    async def _run_anew(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        if self._closed:
            raise RedisConnectionError("closed")
        async with asyncio.timeout_at(deadline):
            if self._opening is None:
                self._opening = asyncio.create_task(self._open(), name="lane")
                self._opening.add_done_callback(self._opened)
            wire = await asyncio.shield(self._opening)
            return await wire.ask(commands)

    def _opened(self, task: asyncio.Task[Wire | ReplicatedWire]) -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is None:
            self._wire = task.result()

    async def _open(self) -> Wire | ReplicatedWire:
        wire = await open_wire(self._pool, lambda: Wire(self._timeout), self._timeout)
        return wire if self._replicas is None else ReplicatedWire(wire, self._replicas, self._fence)

    async def close(self) -> None:
        self._closed = True  # what waits for a reply hears of it, and may try again
        if (opening := self._opening) is not None:
            opening.cancel()
            await asyncio.wait([opening])
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class LaneRedis(aioredis.Redis):
    """redis-py's commands, carried by a lane. Blocking and subscribing commands need another client."""

    def __init__(
        self, pool: aioredis.ConnectionPool, timeout: float, replicas: Replicas | None, fence: str
    ) -> None:
        super().__init__(connection_pool=pool)
        self.lane = Lane(pool, timeout, replicas, lambda: fence)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        (reply,) = await self.lane.run([args])
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
        return _LanePipeline(self)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await self.lane.close()
        await super().aclose(close_connection_pool)
        await close_pool(self.connection_pool)


class _LanePipeline(Pipeline):
    """Commands that leave together anyway, behind redis-py's interface."""

    def __init__(self, client: LaneRedis) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, False, None)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        results: list[Any] = []
        replies = await self._client.lane.run([args for args, _ in stack]) if stack else []
        for (args, options), reply in zip(stack, replies, strict=True):
            try:
                results.append(self._client.read(args[0], reply, options))
            except RedisError as error:
                if raise_on_error:
                    raise
                results.append(error)
        return results
