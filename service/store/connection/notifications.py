"""Notifications: one subscribed connection per worker that says which turns have new events.

A notification carries no data (events are read from the log), and nothing depends on all of them
arriving: when the connection was lost, `on_reset` says that any may have been missed. A connection that
is silent for 5 s is probed with a PING, so that a stalled or vanished Redis is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis.asyncio as aioredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.config.settings import Settings
from service.store.connection.connecting import pool_of
from service.store.connection.connection import RedisConnection, close_pool, open_connection
from service.store.connection.memory import memory_client
from service.telemetry import metrics
from service.telemetry.logs import get_logger

_PROBE_SECONDS: Final = 5.0
_BACKOFF_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0)

log = get_logger(__name__)


class Notifications:
    """To one server: that of the settings, or of a `pool` that leads to it."""

    def __init__(
        self,
        settings: Settings,
        on_notify: Callable[[str, bytes], None],
        on_reset: Callable[[], None],
        pool: aioredis.ConnectionPool | None = None,
    ) -> None:
        self._timeout = settings.redis_timeout_seconds
        self._on_notify = on_notify
        self._on_reset = on_reset
        pool = pool or pool_of(settings)
        self._subscription: _SingleServer | _InMemory = (
            _SingleServer(pool, self._timeout, self._pushed) if pool is not None else _InMemory(self._pushed)
        )
        self._channels: dict[str, None] = {}  # a set that keeps its order
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Subscriptions that Redis has not confirmed yet, and those that a reset waits for.
        self._unconfirmed: dict[str, asyncio.Future[None]] = {}
        self._resetting: set[str] = set()
        self._failures = 0  # since it was last heard

    def start(self, channel: str) -> None:
        """Begin to listen; `channel` is heard from the start."""
        self._channels[channel] = None
        self._task = asyncio.create_task(self._listen(), name="doorbell")

    async def subscribe(self, channel: str) -> None:
        """Returns when the channel is subscribed, or when a reset is bound to follow."""
        self._channels[channel] = None
        if not self._connected.is_set():
            return
        confirmed = self._unconfirmed.get(channel)
        if confirmed is None:
            confirmed = self._unconfirmed[channel] = asyncio.get_running_loop().create_future()
        with contextlib.suppress(RedisError, OSError):
            await self._subscription.subscribe(channel)
        # A log that is read before this could grow unheard in between.
        await asyncio.wait({confirmed}, timeout=self._timeout)

    async def unsubscribe(self, channel: str) -> None:
        if channel not in self._channels:
            return  # of a turn that this worker has run: it was never asked for
        del self._channels[channel]
        if self._connected.is_set():
            with contextlib.suppress(RedisError, OSError):
                await self._subscription.unsubscribe(channel)

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._subscription.close()

    async def _listen(self) -> None:
        while True:
            try:
                await self._connect()
                await self._subscription.listen()
            except (TimeoutError, RedisError, OSError) as error:
                metrics.redis_errors.labels(operation="subscribe").inc()
                if not self._failures:
                    log.warning("doorbell.lost", error=type(error).__name__, reason=str(error))
                self._failures += 1
            self._connected.clear()
            for confirmed in self._unconfirmed.values():
                confirmed.cancel()
            self._unconfirmed.clear()
            await self._subscription.hang_up()
            await asyncio.sleep(_BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS)) - 1])

    async def _connect(self) -> None:
        async with asyncio.timeout(self._timeout + 0.25):
            await self._subscription.connect()
            self._connected.set()
            self._resetting = set(self._channels)
            if self._channels:
                await self._subscription.subscribe(*self._channels)

    def _pushed(self, message: Sequence[Any]) -> None:
        kind, channel, data = message
        if kind == b"message":
            self._on_notify(channel.decode(), data)
        elif kind == b"subscribe":
            self._confirm(channel.decode())

    def _confirm(self, channel: str) -> None:
        confirmed = self._unconfirmed.pop(channel, None)
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)
        if channel in self._resetting:
            self._resetting.discard(channel)
            if not self._resetting:
                if self._failures:
                    log.info("doorbell.back", failures=self._failures)
                self._failures = 0
                self._on_reset()


class _SingleServer:
    """To one server: what is published is told as it arrives, without a task that waits for it."""

    def __init__(
        self, pool: aioredis.ConnectionPool, timeout: float, on_push: Callable[[Sequence[Any]], None]
    ) -> None:
        self._pool = pool
        self._timeout = timeout
        self._on_push = on_push
        self._connection: RedisConnection | None = None

    async def connect(self) -> None:
        self._connection = await open_connection(
            self._pool, lambda: RedisConnection(self._timeout, self._on_push), self._timeout
        )

    async def subscribe(self, *channels: str) -> None:
        if self._connection is not None:
            self._connection.tell(("SUBSCRIBE", *channels))

    async def unsubscribe(self, channel: str) -> None:
        if self._connection is not None:
            self._connection.tell(("UNSUBSCRIBE", channel))

    async def listen(self) -> None:
        """Raises RedisError once the connection is lost."""
        assert self._connection is not None
        while not self._connection.lost:
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    await self._connection.ended.wait()
            except TimeoutError:
                await self._connection.ask([("PING",)])
        raise self._connection.error or RedisConnectionError("the connection was closed")

    async def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def close(self) -> None:
        await self.hang_up()
        await close_pool(self._pool)


class _InMemory:
    """To the store in memory, by a client of it."""

    def __init__(self, on_push: Callable[[Sequence[Any]], None]) -> None:
        self._client = memory_client()
        self._on_push = on_push
        self._pubsub: Any = None

    async def connect(self) -> None:
        self._pubsub = self._client.pubsub()
        await self._pubsub.connect()

    async def subscribe(self, *channels: str) -> None:
        await self._pubsub.subscribe(*channels)

    async def unsubscribe(self, channel: str) -> None:
        await self._pubsub.unsubscribe(channel)

    async def listen(self) -> None:
        while True:
            message = await self._pubsub.get_message(timeout=_PROBE_SECONDS)
            if message is not None:
                self._on_push((message["type"].encode(), message["channel"], message["data"]))

    async def hang_up(self) -> None:
        if self._pubsub is not None:
            await self._pubsub.aclose()

    async def close(self) -> None:
        await self.hang_up()
        await self._client.aclose()
