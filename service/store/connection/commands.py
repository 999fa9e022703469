"""The commands of Redis that the store sends, and how it reads their replies.

Not redis-py's client: nothing here blocks, subscribes or keeps a pool. What carries them is a `Commands`:
one server (multiplexed.py), a Cluster (multiplexed_cluster.py), the store in memory (memory.py). A `Pipeline`
keeps them and asks all at once. Replies are read as RESP3 has them, and as RESP2 has (memory).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from redis.exceptions import RedisError

T = TypeVar("T")
Command = Sequence[Any]
Text = str | bytes


def _as_it_is(reply: Any) -> Any:
    return reply


def _mapping(reply: Any) -> dict[bytes, bytes]:
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _scored(reply: Any) -> list[tuple[bytes, float]]:
    if reply and not isinstance(reply[0], list):
        reply = zip(reply[::2], reply[1::2], strict=True)
    return [(member, float(score)) for member, score in reply]


def _number(reply: Any) -> float | None:
    return None if reply is None else float(reply)


def _numbers(reply: Any) -> list[float | None]:
    return [_number(one) for one in reply]


def _page(reply: Any) -> tuple[int, list[tuple[bytes, float]]]:
    return int(reply[0]), _scored(reply[1])


def info_of(reply: Any) -> dict[str, Any]:
    """The text of INFO; numbers as such."""
    lines = (line.partition(":") for line in reply.decode().splitlines() if ":" in line)
    return {name: int(value) if value.isdigit() else value for name, _, value in lines}


def or_raise(reply: Any) -> Any:
    """The reply, unless it is a refusal."""
    if isinstance(reply, RedisError):
        try:
            raise reply
        finally:
            del reply  # else its traceback and this frame hold each other, and wait for the collector
    return reply


class Vocabulary(ABC):
    """The commands by name. What they answer is what one waits for, but not in a pipeline."""

    @abstractmethod
    def _ask(self, read: Callable[[Any], T], *words: Any) -> Awaitable[T]: ...

    def get(self, name: str) -> Awaitable[bytes | None]:
        return self._ask(_as_it_is, "GET", name)

    def set(
        self, name: str, value: Text | int, *, ex: int | None = None, nx: bool = False
    ) -> Awaitable[bool]:
        words = [*(("EX", ex) if ex else ()), *(("NX",) if nx else ())]
        return self._ask(bool, "SET", name, value, *words)

    def unlink(self, *names: str) -> Awaitable[int]:
        return self._ask(int, "UNLINK", *names)

    def exists(self, *names: str) -> Awaitable[int]:
        return self._ask(int, "EXISTS", *names)

    def expire(self, name: str, seconds: int) -> Awaitable[bool]:
        return self._ask(bool, "EXPIRE", name, seconds)

    def publish(self, channel: str, data: Text) -> Awaitable[int]:
        return self._ask(int, "PUBLISH", channel, data)

    def hget(self, name: str, field: Text) -> Awaitable[bytes | None]:
        return self._ask(_as_it_is, "HGET", name, field)

    def hmget(self, name: str, fields: Sequence[Text]) -> Awaitable[list[bytes | None]]:
        return self._ask(_as_it_is, "HMGET", name, *fields)

    def hgetall(self, name: str) -> Awaitable[dict[bytes, bytes]]:
        return self._ask(_mapping, "HGETALL", name)

    def hkeys(self, name: str) -> Awaitable[list[bytes]]:
        return self._ask(_as_it_is, "HKEYS", name)

    def hdel(self, name: str, field: str) -> Awaitable[bool]:
        return self._ask(bool, "HDEL", name, field)

    def hexists(self, name: str, field: str) -> Awaitable[bool]:
        return self._ask(bool, "HEXISTS", name, field)

    def hstrlen(self, name: str, field: Text) -> Awaitable[int]:
        return self._ask(int, "HSTRLEN", name, field)

    def srem(self, name: str, *members: Text) -> Awaitable[int]:
        return self._ask(int, "SREM", name, *members)

    def lrange(self, name: str, start: int, end: int) -> Awaitable[list[bytes]]:
        return self._ask(_as_it_is, "LRANGE", name, start, end)

    def lindex(self, name: str, index: int) -> Awaitable[bytes | None]:
        return self._ask(_as_it_is, "LINDEX", name, index)

    def zadd(self, name: str, scores: Mapping[str, float], *, xx: bool = False) -> Awaitable[int]:
        pairs = [word for member, score in scores.items() for word in (score, member)]
        return self._ask(int, "ZADD", name, *(("XX",) if xx else ()), *pairs)

    def zrem(self, name: str, *members: Text) -> Awaitable[int]:
        return self._ask(int, "ZREM", name, *members)

    def zcard(self, name: str) -> Awaitable[int]:
        return self._ask(int, "ZCARD", name)

    def zscore(self, name: str, member: Text) -> Awaitable[float | None]:
        return self._ask(_number, "ZSCORE", name, member)

    def zmscore(self, name: str, members: Sequence[Text]) -> Awaitable[list[float | None]]:
        return self._ask(_numbers, "ZMSCORE", name, *members)

    def zscan(self, name: str, cursor: int, count: int) -> Awaitable[tuple[int, list[tuple[bytes, float]]]]:
        """Where to go on, 0 at the end, and some members."""
        return self._ask(_page, "ZSCAN", name, cursor, "COUNT", count)

    def zrandmember(self, name: str, count: int) -> Awaitable[list[bytes]]:
        return self._ask(_as_it_is, "ZRANDMEMBER", name, count)

    def zrange(self, name: str, start: int, end: int) -> Awaitable[list[bytes]]:
        """By rank."""
        return self._ask(_as_it_is, "ZRANGE", name, start, end)

    def zrangebyscore(self, name: str, low: Text | int, high: Text | int) -> Awaitable[list[bytes]]:
        return self._ask(_as_it_is, "ZRANGEBYSCORE", name, low, high)

    def zscored(
        self,
        name: str,
        start: Text | int,
        end: Text | int,
        *,
        newest_first: bool = False,
        limit: tuple[int, int] | None = None,
    ) -> Awaitable[list[tuple[bytes, float]]]:
        """By score, with the scores; `limit` is how many to leave out and how many to read."""
        words = [*(("REV",) if newest_first else ()), *(("LIMIT", *limit) if limit else ()), "WITHSCORES"]
        return self._ask(_scored, "ZRANGE", name, start, end, "BYSCORE", *words)

    def zremrangebyscore(self, name: str, low: Text | int, high: Text | int) -> Awaitable[int]:
        return self._ask(int, "ZREMRANGEBYSCORE", name, low, high)

    def xrange(self, name: str, low: str, high: str, count: int) -> Awaitable[list[Any]]:
        """Entries as Redis sends them: id, [field, value, ...]."""
        return self._ask(_as_it_is, "XRANGE", name, low, high, "COUNT", count)


class Commands(Vocabulary):
    """What carries them. `cluster`: keys of different hash tags may be at different servers."""

    cluster = False

    @abstractmethod
    async def execute(self, *words: Any, patient: bool = True) -> Any:
        """One command, its reply as it is; `patient`: it waits for a slot that is being moved.

        Raises RedisError.
        """

    @abstractmethod
    async def execute_all(self, commands: Sequence[Command]) -> list[Any]:
        """Many, asked at once; refusals are in the list. Raises RedisError where nothing can be said."""

    @abstractmethod
    async def aclose(self) -> None: ...

    async def _ask(self, read: Callable[[Any], T], *words: Any) -> T:
        return read(await self.execute(*words))

    def pipeline(self) -> Pipeline:
        return Pipeline(self)

    async def ping(self) -> None:
        await self.execute("PING")

    async def time(self) -> tuple[int, int]:
        """Seconds and microseconds."""
        seconds, microseconds = await self.execute("TIME")
        return int(seconds), int(microseconds)

    async def primaries(self) -> Sequence[Any]:
        """The servers that `scan` is asked of, one after the other."""
        return [None]

    async def scan(self, pattern: str, cursor: int, count: int, node: Any = None) -> tuple[int, list[bytes]]:
        """Where to go on, 0 at the end, and some of the keys of one of the `primaries`."""
        following, found = await self.execute("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        return int(following), found

    async def info(self, section: str) -> dict[str, Any]:
        """Of the server; of a Cluster by the name of the node."""
        return info_of(await self.execute("INFO", section))


class Pipeline(Vocabulary):
    """Commands that are kept, and asked together by `execute`, which gives their replies."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._kept: list[tuple[Callable[[Any], Any], Command]] = []

    def _ask(self, read: Callable[[Any], T], *words: Any) -> Awaitable[T]:
        self._kept.append((read, words))
        return cast("Awaitable[T]", None)

    async def execute(self) -> list[Any]:
        """Raises RedisError, also where one of them was refused."""
        kept, self._kept = self._kept, []
        replies = await self._commands.execute_all([words for _, words in kept]) if kept else []
        return [read(or_raise(reply)) for (read, _), reply in zip(kept, replies, strict=True)]
