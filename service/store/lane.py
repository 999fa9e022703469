"""The lane: one connection to a Redis on which all commands of a worker travel together.

What is asked for within one turn of the event loop leaves in one write, and answers that
arrive together are given out together: a command costs a sixth of what a pooled connection of
redis-py makes of it. For a single server (redis://, rediss://, unix://); Sentinel and Cluster
stay with redis-py's own connections.

Invariants: no command waits longer than its bound; what timed out is not sent again, what was
under way on a connection that broke is sent once more. redis-py's commands and its reading of
replies stay: `LaneRedis` only carries them differently.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import hiredis
import redis.asyncio as aioredis
from redis.asyncio.client import Pipeline
from redis.exceptions import (
    AuthenticationError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

Command = Sequence[Any]
#: Called once, from the connection's own callback: all replies, or why there are none.
Answered = Callable[[list[Any] | RedisError], None]

_NOTHING: Final = object()
_KINDS: Final[dict[str, type[ResponseError]]] = {"NOSCRIPT": NoScriptError, "READONLY": ReadOnlyError}


def _refusal(message: str) -> RedisError:
    """An error reply, as redis-py would raise it."""
    kind, _, rest = message.partition(" ")
    if kind in ("WRONGPASS", "NOAUTH", "NOPERM"):
        return AuthenticationError(message)
    return _KINDS[kind](rest) if kind in _KINDS else ResponseError(message)


class _Batch:
    """Commands that are answered together."""

    __slots__ = ("answered", "deadline", "replies", "size")

    def __init__(self, answered: Answered, size: int, deadline: float) -> None:
        self.answered = answered
        self.size = size
        self.deadline = deadline
        self.replies: list[Any] = []


class _Wire(asyncio.Protocol):
    """One connection. Replies come in the order of the commands."""

    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._reader = hiredis.Reader(
            protocolError=RedisConnectionError, replyError=_refusal, notEnoughData=_NOTHING
        )
        self._pending: deque[_Batch] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        end = transport.get_extra_info("socket")
        if end is not None and end.family != socket.AF_UNIX:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, commands: Iterable[Command], answered: Answered) -> None:
        """`answered` gets all replies, in order; a refused command has its error in the list."""
        packed = [hiredis.pack_command(tuple(command)) for command in commands]
        # uvloop collects what one turn of the loop writes, and sends it by one system call.
        self._transport.write(b"".join(packed))
        self._pending.append(_Batch(answered, len(packed), self._loop.time() + self._timeout))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._look)

    def ask(self, commands: Iterable[Command]) -> asyncio.Future[list[Any]]:
        replies: asyncio.Future[list[Any]] = self._loop.create_future()

        def answered(outcome: list[Any] | RedisError) -> None:
            if replies.done():
                return  # whoever asked has gone
            if isinstance(outcome, RedisError):
                replies.set_exception(outcome)
            else:
                replies.set_result(outcome)

        self.send(commands, answered)
        return replies

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        pending = self._pending
        try:
            while (reply := self._reader.gets()) is not _NOTHING:
                batch = pending[0]
                batch.replies.append(reply)
                if len(batch.replies) == batch.size:
                    pending.popleft()
                    batch.answered(batch.replies)
                if type(reply) is ReadOnlyError:
                    self._end(RedisConnectionError("this server became a replica"))
                    return
        except RedisConnectionError as error:  # no RESP at all
            self._end(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(RedisConnectionError(str(error or "the connection was closed")))

    def _look(self) -> None:
        """One timer for all commands: is the oldest overdue?"""
        self._watch = None
        if not self._pending:
            return
        now = self._loop.time()
        left = self._pending[0].deadline - now
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
            return
        while self._pending and self._pending[0].deadline <= now:
            self._pending.popleft().answered(RedisTimeoutError("no answer in time"))
        # Answers that come now would be taken for those of later commands.
        self._end(RedisConnectionError("the server does not answer"))

    def _end(self, error: RedisError) -> None:
        self.lost = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._transport.abort()
        while self._pending:
            self._pending.popleft().answered(error)

    def close(self) -> None:
        self._end(RedisConnectionError("closed"))


class Lane:
    """A connection that is made when it is needed, and again when it was lost."""

    def __init__(self, pool: aioredis.ConnectionPool, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._wire: _Wire | None = None
        self._opening: asyncio.Task[_Wire] | None = None

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
        async with asyncio.timeout_at(deadline):
            if self._opening is None:
                self._opening = asyncio.create_task(self._open(), name="lane")
                self._opening.add_done_callback(self._opened)
            wire = await asyncio.shield(self._opening)
            return await wire.ask(commands)

    def _opened(self, task: asyncio.Task[_Wire]) -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is None:
            self._wire = task.result()

    async def _open(self) -> _Wire:
        options = self._pool.connection_kwargs
        make: Any = self._pool.make_connection  # knows the certificates that the URL names
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout):
            wire: _Wire
            if "path" in options:
                _, wire = await loop.create_unix_connection(lambda: _Wire(self._timeout), options["path"])
            else:
                sample = make()
                context = getattr(sample, "ssl_context", None)
                _, wire = await loop.create_connection(
                    lambda: _Wire(self._timeout), sample.host, sample.port,
                    ssl=context.get() if context is not None else None,
                )  # fmt: skip
            greeting: list[Command] = [("HELLO", "3")]
            if options.get("password"):
                greeting = [("HELLO", "3", "AUTH", options.get("username") or "default", options["password"])]
            if options.get("db"):
                greeting.append(("SELECT", options["db"]))
            for reply in await wire.ask(greeting):
                if isinstance(reply, RedisError):
                    wire.close()
                    raise reply
            return wire

    def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class LaneRedis(aioredis.Redis):
    """redis-py's commands, carried by a lane. Blocking and subscribing commands need another client."""

    def __init__(self, pool: aioredis.ConnectionPool, timeout: float) -> None:
        super().__init__(connection_pool=pool)
        self.lane = Lane(pool, timeout)

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
        self.lane.close()
        await super().aclose(close_connection_pool)


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
