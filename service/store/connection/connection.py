"""One connection to a Redis, spoken raw, in RESP3.

Commands leave in one write. Replies that arrive together are given out together, in the order of the
commands; what Redis pushes (published messages) goes to `on_push` as it arrives, without a task that
waits for it. Invariants: no command waits longer than its bound; a connection that is late or sends no
RESP is closed, and everything that waits on it fails. Who opens a new one: multiplexed.py and
notifications.py.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import hiredis
import redis.asyncio as aioredis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import (
    AuthenticationError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.eventloop.inline_future import InlineFuture
from service.store.connection.commands import Command

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


class Line:
    """What commands can be sent on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def send(self, commands: Iterable[Command], answered: Answered) -> None:
        """`answered` gets all replies, in order; a refused command has its error in the list."""
        raise NotImplementedError

    def ask(self, commands: Iterable[Command]) -> asyncio.Future[list[Any]]:
        replies: InlineFuture[list[Any]] = InlineFuture(loop=self._loop)

        def answered(outcome: list[Any] | RedisError) -> None:
            if replies.done():
                return  # whoever asked has gone
            if isinstance(outcome, RedisError):
                replies.set_exception(outcome)
            else:
                replies.set_result(outcome)

        self.send(commands, answered)
        return replies


class RedisConnection(Line, asyncio.Protocol):
    """`ended` is set, and `lost` is true, once nothing can be asked any more."""

    def __init__(self, timeout: float, on_push: Callable[[Sequence[Any]], None] | None = None) -> None:
        super().__init__()
        self._timeout = timeout
        self._reader = hiredis.Reader(
            protocolError=RedisConnectionError, replyError=_refusal, notEnoughData=_NOTHING
        )
        self._pending: deque[_Batch] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._on_push = on_push
        self.lost = False
        self.error: RedisError | None = None  # what ended it
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        end = transport.get_extra_info("socket")
        if end is not None and end.family != socket.AF_UNIX:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, commands: Iterable[Command], answered: Answered) -> None:
        packed = [hiredis.pack_command(tuple(command)) for command in commands]
        # One system call for each: collecting over an iteration of the loop made a tenth more turns a
        # second, and every first token under load a millisecond later.
        self._transport.write(b"".join(packed))
        self._pending.append(_Batch(answered, len(packed), self._loop.time() + self._timeout))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._end_if_overdue)

    def tell(self, command: Command) -> None:
        """Send a command whose answer is pushed."""
        self._transport.write(hiredis.pack_command(tuple(command)))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        pending = self._pending
        try:
            while (reply := self._reader.gets()) is not _NOTHING:
                if type(reply) is hiredis.PushNotification:
                    if self._on_push is not None:
                        self._on_push(reply)
                    continue
                if not pending:  # an error reply to a SUBSCRIBE
                    self._end(reply if isinstance(reply, RedisError) else RedisConnectionError(str(reply)))
                    return
                batch = pending[0]
                batch.replies.append(reply)
                if len(batch.replies) == batch.size:
                    pending.popleft()
                    batch.answered(batch.replies)
                if type(reply) is ReadOnlyError:
                    # Behind the same address there may be a master by now. What is under way is still
                    # answered here: reads do not fail with the writes.
                    self.lost = True
            if self.lost and not pending:
                self._end(RedisConnectionError("this server became a replica"))
        except RedisConnectionError as error:  # no RESP at all
            self._end(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(RedisConnectionError(str(error or "the connection was closed")))

    def _end_if_overdue(self) -> None:
        """One timer for all commands: is the oldest overdue?"""
        self._watch = None
        if not self._pending:
            return
        now = self._loop.time()
        left = self._pending[0].deadline - now
        if left > 0:
            self._watch = self._loop.call_later(left, self._end_if_overdue)
            return
        late = []
        while self._pending and self._pending[0].deadline <= now:
            late.append(self._pending.popleft())
        # Answers that come now would be taken for those of later commands.
        self._end(RedisConnectionError("the server does not answer"))
        for batch in late:
            batch.answered(RedisTimeoutError("no answer in time"))

    def _end(self, error: RedisError) -> None:
        if not self.lost:
            self.error = error
        self.lost = True
        self.ended.set()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._transport.abort()
        while self._pending:
            self._pending.popleft().answered(error)

    def close(self) -> None:
        self._end(RedisConnectionError("closed"))


async def open_connection(
    pool: aioredis.ConnectionPool, make: Callable[[], RedisConnection], timeout: float
) -> RedisConnection:
    """A connection to where the pool's connections go. Raises RedisError, TimeoutError, OSError."""
    options = pool.connection_kwargs
    make_sample: Any = pool.make_connection  # knows the certificates that the URL names
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout):
        if "path" in options:
            _, connection = await loop.create_unix_connection(make, options["path"])
        else:
            sample = make_sample()
            if isinstance(pool, SentinelConnectionPool):
                master: Any = pool
                sample.host, sample.port = await master.get_master_address()
            context = getattr(sample, "ssl_context", None)
            _, connection = await loop.create_connection(
                make, sample.host, sample.port, ssl=context.get() if context is not None else None
            )
        greeting: list[Command] = [("HELLO", "3")]
        if options.get("password"):
            greeting = [("HELLO", "3", "AUTH", options.get("username") or "default", options["password"])]
        if options.get("db"):
            greeting.append(("SELECT", options["db"]))
        try:
            for reply in await connection.ask(greeting):
                if isinstance(reply, RedisError):
                    raise reply
        except BaseException:
            connection.close()  # whoever asked for it has nothing to close
            raise
        return connection


async def close_pool(pool: aioredis.ConnectionPool) -> None:
    """Its connections, and those to the sentinels that it has asked for the master."""
    await pool.aclose()
    sentinels: Any = getattr(pool, "sentinel_manager", None)
    if sentinels is not None:
        await sentinels.aclose()
