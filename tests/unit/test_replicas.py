"""What waits for replicas leaves in groups, each with one WAIT, and is given out when they have it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from service.store.connection.commands import Command
from service.store.connection.connection import Answered, RedisConnection
from service.store.connection.replicas import Replicas, ReplicatedConnection

WAIT = ("WAIT", 2, 500)
FENCE = ("SET", "fence", "", "PX", 60_000)


class Recorded:
    """A wire that keeps what it is asked for."""

    def __init__(self) -> None:
        self.lost = False
        self.error: Exception | None = None
        self.writes: list[list[Command]] = []
        self._waiting: list[Answered] = []

    def send(self, commands: Iterable[Command], answered: Answered) -> None:
        self.writes.append(list(commands))
        self._waiting.append(answered)

    def answer(self, outcome: Any) -> None:
        self._waiting.pop(0)(outcome)


@pytest.fixture
def wire() -> Recorded:
    return Recorded()


@pytest.fixture
async def replicated(wire: Recorded) -> ReplicatedConnection:
    return ReplicatedConnection(cast(RedisConnection, wire), Replicas(2, 0.5), lambda: "fence")


async def test_the_wait_leaves_in_the_write_of_what_it_is_for(
    wire: Recorded, replicated: ReplicatedConnection
) -> None:
    asked = replicated.ask([("A",), ("B",)])
    assert wire.writes == [[("A",), ("B",), FENCE, WAIT]]
    wire.answer([b"a", b"b", b"OK", 2])
    assert await asked == [b"a", b"b"]


async def test_what_is_asked_for_meanwhile_leaves_together_in_order_with_one_wait(
    wire: Recorded, replicated: ReplicatedConnection
) -> None:
    first, second, third = (replicated.ask([(name,)]) for name in "ABC")
    assert len(wire.writes) == 1
    wire.answer([b"a", b"OK", 3])
    assert wire.writes[1:] == [[("B",), ("C",), FENCE, WAIT]]
    assert await first == [b"a"]
    assert not second.done()
    wire.answer([b"b", b"c", b"OK", 2])
    assert (await second, await third) == ([b"b"], [b"c"])


async def test_too_few_replicas_are_a_refusal_of_the_whole_group_and_of_no_other(
    wire: Recorded, replicated: ReplicatedConnection
) -> None:
    first, second = replicated.ask([("A",)]), replicated.ask([("B",)])
    wire.answer([b"a", b"OK", 1])
    with pytest.raises(ResponseError, match="NOREPLICAS 1 of 2"):
        await first
    wire.answer([b"b", b"OK", 2])
    assert await second == [b"b"]


async def test_a_broken_wire_is_told_to_what_was_under_way_and_to_what_waited(
    wire: Recorded, replicated: ReplicatedConnection
) -> None:
    first, second = replicated.ask([("A",)]), replicated.ask([("B",)])
    wire.lost = True
    wire.answer(RedisConnectionError("gone"))
    for asked in (first, second):
        with pytest.raises(RedisConnectionError):
            await asked
    assert len(wire.writes) == 1


async def test_a_server_that_became_a_replica_is_looked_for_anew(
    wire: Recorded, replicated: ReplicatedConnection
) -> None:
    asked = replicated.ask([("A",)])
    wire.answer([b"a", b"OK", ResponseError("WAIT cannot be used with replica instances")])
    with pytest.raises(RedisConnectionError):
        await asked


async def test_without_slots_a_node_has_no_fence(wire: Recorded) -> None:
    replicated = ReplicatedConnection(cast(RedisConnection, wire), Replicas(2, 0.5), lambda: None)
    asked = replicated.ask([("A",)])
    assert wire.writes == [[("A",), WAIT]]
    wire.answer([b"a", 2])
    assert await asked == [b"a"]
