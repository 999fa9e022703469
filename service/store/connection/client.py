"""The border to Redis: each call has a bound, is counted, and its errors become ours.

Invariants: no call waits longer than the store timeout; a call that timed out is not sent again
(it may have been carried out), a connection that turned out to be dead is replaced once. What the keys mean
belongs to the other modules of store/, what leads to a server to connecting.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.exceptions import (
    AuthenticationError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.config.settings import Settings
from service.errors import StoreUnavailable
from service.store.connection import lua
from service.store.connection.commands import Command, or_raise
from service.store.connection.connecting import make_redis
from service.store.connection.multiplexed import MultiplexedRedis
from service.store.connection.multiplexed_cluster import MultiplexedCluster
from service.store.connection.refusals import refusal, unavailable
from service.store.connection.typed_scripts import sources
from service.telemetry import metrics
from service.telemetry.logs import get_logger

T = TypeVar("T")

log = get_logger(__name__)

# Between two log lines about refusals of one kind: while one lasts, each send is refused.
_LOGGED_SECONDS = 60.0
_MOST_KINDS = 32  # a proxy's words may be anything
# The health of the store is looked at once a second, which finds replicas that stay away again.
_DOUBTED_SECONDS = 2.5

# Five looks at silence, 50 ms apart: Redis answers in less than 1 ms, and its longest
# regular pauses (a fork for an append-only rewrite) take some tens of ms.
_QUIET_TICKS = 5
_TICK_SECONDS = 0.05
# What uvloop says, as a RuntimeError, of a write to a connection that has just been lost; redis-py's own
# connections (Sentinel, Cluster) let it through.
_CLOSED = "the handler is closed"
_FOREIGN = (TimeoutError, RedisError, RedisClusterException, OSError, RuntimeError)


class _Silence:
    """Looks for iterations of the event loop in which nothing came; ends `bound` after some of them."""

    def __init__(self, client: Client, bound: asyncio.Timeout) -> None:
        self._client = client
        self._bound = bound
        self._seen = client.answers
        self._quiet = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(_TICK_SECONDS, self._look)

    def _look(self) -> None:
        seen = self._client.answers
        self._quiet = self._quiet + 1 if seen == self._seen else 0
        self._seen = seen
        if self._quiet == _QUIET_TICKS:
            self._bound.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_later(_TICK_SECONDS, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Client:
    """What the modules of store/ call: commands with a bound and translated errors."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.timeout = settings.redis_timeout_seconds
        self.redis = make_redis(settings)
        self.cluster = self.redis.cluster
        self._multiplexer = self.redis.multiplexer if isinstance(self.redis, MultiplexedRedis) else None
        self.answers = 0  # so many have come so far
        self._logged: dict[str, float] = {}  # when a refusal was last logged, by its first word
        self._doubted_until = float("-inf")
        self.refusals = 0  # so many commands were refused for want of the right, or the room, to write

    async def run(self, operation: str, call: Awaitable[T], *, commands: int = 1) -> T:
        """Await one command (or a pipeline of some) for at most the store timeout."""
        metrics.redis_operations.labels(operation=operation).inc(commands)
        try:
            if self._multiplexer is not None:  # it has a bound of its own
                answer = await call
            else:
                async with asyncio.timeout(self.timeout + 0.25):
                    answer = await call
        except NoScriptError:
            raise  # is no error: scripts.py sends its text
        except _FOREIGN as error:
            raise self._ours(operation, error) from error
        self.answers += 1
        return answer

    async def evaluate(
        self, operation: str, command: Command, *, commands: int = 1, patient: bool = True
    ) -> Any:
        """The same for the call of a script, which most commands are. Raises NoScriptError, too."""
        if self._multiplexer is None:
            asking = self.redis.execute(*command, patient=patient)
            return await self.run(operation, asking, commands=commands)
        metrics.redis_operations.labels(operation=operation).inc(commands)
        try:
            reply = or_raise((await self._multiplexer.run([command]))[0])
        except NoScriptError:
            raise  # is no error: scripts.py sends its text
        except _FOREIGN as error:
            raise self._ours(operation, error) from error
        self.answers += 1
        return reply

    def _ours(self, operation: str, error: Exception) -> Exception:
        """Redis's errors, and the system's, become StoreUnavailable here and nowhere else."""
        if isinstance(error, RuntimeError) and _CLOSED not in str(error):
            raise error
        self.failed(operation, error)
        return unavailable(error)

    def failed(self, operation: str, error: Exception) -> None:
        """Count it; a refusal by a Redis that answers is logged too: nothing else says what is wrong."""
        metrics.redis_errors.labels(operation=operation).inc()
        if reason := refusal(error):
            self.refusals += 1
            if reason == "no_replicas":
                self._doubted_until = time.monotonic() + _DOUBTED_SECONDS
        if isinstance(error, ResponseError | AuthenticationError):
            now, said = time.monotonic(), str(error)[:200]
            kind = said.partition(" ")[0]
            if now >= self._logged.get(kind, float("-inf")) + _LOGGED_SECONDS:
                if len(self._logged) >= _MOST_KINDS:
                    self._logged.clear()
                self._logged[kind] = now
                log.warning("store.refused", operation=operation, reason=said)

    @property
    def doubted(self) -> bool:
        """Replicas have just not acknowledged: what is written now may be carried out and yet be refused."""
        return time.monotonic() < self._doubted_until

    async def many(self, operation: str, commands: Sequence[Command]) -> list[Any]:
        """Many commands in one round trip, raw: replies as Redis sends them, refusals among them.

        Not for Cluster, where they may belong to several nodes.
        """
        return await self.run(operation, self.redis.execute_all(commands), commands=len(commands))

    def by_server(self, items: Sequence[T], name: Callable[[T], str]) -> dict[str, Sequence[T]]:
        """Items by the server that holds their key: what one server does is waited for apart."""
        if not isinstance(self.redis, MultiplexedCluster):
            return {"": items} if items else {}
        found: dict[str, list[T]] = {}
        for item in items:
            found.setdefault(str(self.redis.holder(name(item))), []).append(item)
        return {**found}

    def start(
        self, operation: str, commands: Sequence[Command], answered: Callable[[list[Any] | None], None]
    ) -> bool:
        """As `many`, at once and without waiting, where that is possible; False where it is not.

        `answered` gets StoreUnavailable for every command when the time is up, and None where only
        `many` can tell more: the connection broke, or Redis refused something.
        """
        if self._multiplexer is None:
            return False

        def translate(outcome: list[Any] | RedisError) -> None:
            if isinstance(outcome, RedisTimeoutError):
                metrics.redis_errors.labels(operation=operation).inc()
                answered([StoreUnavailable() for _ in commands])
            elif isinstance(outcome, RedisError) or any(isinstance(reply, RedisError) for reply in outcome):
                answered(None)
            else:
                self.answers += 1
                answered(outcome)

        if not self._multiplexer.start(commands, translate):
            return False
        metrics.redis_operations.labels(operation=operation).inc(len(commands))
        return True

    async def unless_silent(self, call: Awaitable[T]) -> T:
        """Await calls of this client, but only as long as Redis answers anybody in this process.

        A stall is noticed within a quarter of a second, and a busy machine is not taken for one:
        silence is counted in iterations of the event loop, each of which has looked at the sockets.
        Raises StoreUnavailable.
        """
        bound = asyncio.timeout(None)
        silence = _Silence(self, bound)
        try:
            async with bound:
                return await call
        except TimeoutError:
            metrics.redis_errors.labels(operation="silence").inc()
            raise StoreUnavailable from None
        finally:
            silence.close()

    async def ping(self) -> None:
        await self.run("ping", self.redis.ping())

    async def check(self, *, in_earnest: bool = True) -> None:
        """Does the server let us do what we need? Raises StoreUnavailable, from what it said.

        Unless in earnest it is asked without writing: that costs 20 us and proves all but single rights.
        """
        ask_for = lua.check if in_earnest else lua.probe

        async def ask(name: str) -> None:
            operation, keys, args = ask_for(key=name)
            # As text, a few hundred bytes a second: Redis may not know it yet when it is first asked.
            text = sources()[operation]
            await self.run(operation, self.redis.execute("EVAL", text, len(keys), *keys, *args))

        asking = [ask(name) for name in await self._one_each()]
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _one_each(self) -> list[str]:
        """A key on each server that is written to."""
        prefix = f"{self.settings.redis_key_prefix}:check"
        if not isinstance(self.redis, MultiplexedCluster):
            return [prefix]
        await self.run("check", self.redis.read_slots())
        try:
            return self.redis.key_of_each(prefix)
        except RedisClusterException as error:  # a slot without a node
            raise StoreUnavailable from error

    async def evicting_policy(self) -> str:
        """The maxmemory-policy of a server that may drop what we keep; '' where none does, or none says."""
        if self.settings.redis_url is None:
            return ""  # in memory, in this process
        try:
            nodes = await self._memory_of_each()
        except StoreUnavailable as error:
            if isinstance(error.__cause__, ResponseError | AuthenticationError):
                return ""
            raise
        policies = (str(node.get("maxmemory_policy", "noeviction")) for node in nodes)
        return next((policy for policy in policies if policy != "noeviction"), "")

    async def memory(self) -> tuple[int, int]:
        """Bytes used, and the bound or 0; of the fullest node of a Cluster."""
        nodes = await self._memory_of_each()
        fullest = max(nodes, key=lambda node: node["used_memory"] / (node["maxmemory"] or float("inf")))
        return int(fullest["used_memory"]), int(fullest["maxmemory"])

    async def _memory_of_each(self) -> list[dict[str, Any]]:
        found = await self.run("info", self.redis.info("memory"))
        return [found] if "used_memory" in found else list(found.values())

    async def close(self) -> None:
        await self.redis.aclose()
