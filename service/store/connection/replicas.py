"""Replies that are given out once N replicas have what was written before them: CHAT_REDIS_WAIT_REPLICAS.

WAIT leaves in the same write as the commands that it is for, so it costs no round trip of ours; but it blocks
its connection. What is asked for meanwhile is kept here and leaves as one group, with one WAIT, when the
replies have come. Invariants: a reply is given out only when its WAIT has counted enough replicas, reads
included, for what they show may have been written by another worker a moment ago; what was not
acknowledged in time was carried out by the master all the same, and is reported as a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from service.store.connection.commands import Command
from service.store.connection.connection import Answered, Line, RedisConnection

# The word by which refusals.py knows it: to the rest it is what `min-replicas-to-write` does.
_REFUSED: Final = "NOREPLICAS {} of {} replicas have acknowledged what was written"
# The key that is written for a WAIT to wait for; it is not read by anybody.
_FENCE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Replicas:
    """So many replicas have to acknowledge, each group within so many seconds."""

    count: int
    seconds: float


class ReplicatedConnection(Line):
    """A connection that keeps replies until replicas have acknowledged. `fence` names a key of its server."""

    def __init__(
        self, connection: RedisConnection, replicas: Replicas, fence: Callable[[], str | None]
    ) -> None:
        super().__init__()
        self._connection = connection
        self._count = replicas.count
        self._wait = ("WAIT", replicas.count, int(replicas.seconds * 1000))
        self._fence = fence
        self._queue: list[tuple[list[Command], Answered]] = []
        self._under_way = False

    @property
    def lost(self) -> bool:
        return self._connection.lost

    def send(self, commands: Iterable[Command], answered: Answered) -> None:
        self._queue.append((list(commands), answered))
        if not self._under_way:
            self._send_group()

    def _send_group(self) -> None:
        group, self._queue = self._queue, []
        if self._connection.lost:
            error = self._connection.error or RedisConnectionError("the connection was closed")
            for _, answered in group:
                answered(error)
            return
        commands = [command for batch, _ in group for command in batch]
        # From Redis 7.2 on WAIT waits for the last write of its own connection, and a group may only read.
        fence = self._fence()
        if fence is not None:
            commands.append(("SET", fence, "", "PX", _FENCE_MS))
        commands.append(self._wait)
        self._under_way = True
        self._connection.send(commands, partial(self._landed, group))

    def _landed(
        self, group: Sequence[tuple[list[Command], Answered]], outcome: list[Any] | RedisError
    ) -> None:
        self._under_way = False
        if self._queue:
            self._send_group()
        replies = outcome if isinstance(outcome, RedisError) else self._refusal(outcome[-1]) or outcome
        first = 0
        for batch, answered in group:
            end = first + len(batch)
            answered(replies if isinstance(replies, RedisError) else replies[first:end])
            first = end

    def _refusal(self, acknowledged: Any) -> RedisError | None:
        if isinstance(acknowledged, RedisError):  # a replica itself: the master is elsewhere by now
            return RedisConnectionError(str(acknowledged))
        if acknowledged < self._count:
            return ResponseError(_REFUSED.format(acknowledged, self._count))
        return None

    def close(self) -> None:
        self._connection.close()
