"""A command to a Cluster goes where its slot is, and follows it: nodes that only note what they are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import redis.asyncio as aioredis
from redis.asyncio.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError, SlotNotCoveredError

from service.store.connection import multiplexed_cluster
from service.store.connection.multiplexed_cluster import Address, MultiplexedCluster
from service.store.connection.replicas import Replicas

A, B, C = ("a", 1), ("b", 2), ("c", 3)
SLOT = key_slot(b"k")


class Nodes:
    """What each node answers, in order, the last for ever; `asked` is what it came to."""

    def __init__(self, **replies: list[Any]) -> None:
        self.replies = replies
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def at(self, address: Address) -> Any:
        async def run(commands: Sequence[Any]) -> list[Any]:
            self.asked.append((address[0], tuple(commands)))
            replies = self.replies[address[0]]
            reply = replies.pop(0) if len(replies) > 1 else replies[0]
            if isinstance(reply, RedisConnectionError):
                raise reply
            return [b"first"] * (len(commands) - 1) + [reply]

        return SimpleNamespace(run=run)


class Slots:
    """In the place of redis-py's nodes."""

    def __init__(self, *known: Address) -> None:
        self.reads = 0
        self.known = [ClusterNode(*address) for address in known]
        self.nodes_manager = SimpleNamespace(slots_cache={}, initialize=self._read_anew)
        self.anew = asyncio.Event()
        self.anew.set()

    async def _read_anew(self) -> None:
        self.reads += 1
        await self.anew.wait()

    async def initialize(self) -> None:
        self.nodes_manager.slots_cache.setdefault(SLOT, [ClusterNode(*A)])

    def get_nodes(self) -> list[ClusterNode]:
        return self.known

    async def aclose(self) -> None:
        pass


def cluster(nodes: Nodes | None, slots: Slots, timeout: float = 20.0, **options: Any) -> MultiplexedCluster:
    """Which holds the slot of `k` at A."""
    found = MultiplexedCluster(timeout, options, Replicas(1, 1.0), lambda n: f"f{n}", host="a", port=1)
    found._nodes = slots  # type: ignore[assignment]
    slots.nodes_manager.slots_cache[SLOT] = [ClusterNode(*A)]
    if nodes is not None:
        found._multiplexer_at = nodes.at  # type: ignore[method-assign]
    return found


GET = ("GET", "k")


@pytest.mark.parametrize(
    ("replies", "asked", "reads"),
    [
        ({"a": [b"v"]}, [("a", (GET,))], 0),
        ({"a": [ResponseError(f"MOVED {SLOT} b:2")], "b": [b"v"]}, [("a", (GET,)), ("b", (GET,))], 1),
        (
            {"a": [ResponseError(f"ASK {SLOT} b:2")], "b": [b"v"]},
            [("a", (GET,)), ("b", (("ASKING",), GET))],
            0,
        ),
        # Where it names no host it means its own.
        ({"a": [ResponseError(f"MOVED {SLOT} :2"), b"v"]}, [("a", (GET,))] * 2, 1),
        (
            {
                "a": [ResponseError(f"ASK {SLOT} b:2")],
                "b": [ResponseError(f"MOVED {SLOT} c:3")],
                "c": [b"v"],
            },
            [("a", (GET,)), ("b", (("ASKING",), GET)), ("c", (GET,))],
            1,
        ),
        # What waits for keys that are apart asks the slot's node again, and without an ASKING.
        (
            {"a": [ResponseError(f"ASK {SLOT} b:2"), b"v"], "b": [ResponseError("TRYAGAIN apart")]},
            [("a", (GET,)), ("b", (("ASKING",), GET)), ("a", (GET,))],
            0,
        ),
        ({"a": [ResponseError("CLUSTERDOWN x"), b"v"]}, [("a", (GET,))] * 2, 0),
    ],
)
async def test_a_command_follows_its_slot(
    replies: dict[str, list[Any]], asked: list[Any], reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiplexed_cluster, "_PAUSE_SECONDS", 0.0)
    nodes, slots = Nodes(**replies), Slots(A, B, C)
    found = cluster(nodes, slots)
    assert await found.execute(*GET) == b"v"
    assert nodes.asked == asked
    await asyncio.sleep(0)
    assert slots.reads == reads
    await found.aclose()


async def test_a_slot_that_nodes_send_back_and_forth_is_not_followed_for_ever() -> None:
    nodes = Nodes(a=[ResponseError("MOVED 1 b:2")], b=[ResponseError("MOVED 1 a:1")])
    found = cluster(nodes, Slots(A, B))
    with pytest.raises(ResponseError, match="MOVED"):
        await asyncio.wait_for(found.execute(*GET), 10)
    assert [name for name, _ in nodes.asked] == ["a", "b"] * 4 + ["a"]
    await found.aclose()


@pytest.mark.parametrize(("patient", "timeout"), [(False, 20.0), (True, 0.066)])
async def test_who_is_not_patient_or_has_no_time_left_is_told_at_once_that_keys_are_apart(
    patient: bool, timeout: float
) -> None:
    """A pause and its answer would come when the caller has given up."""
    nodes = Nodes(a=[ResponseError("TRYAGAIN apart"), b"v"])
    found = cluster(nodes, Slots(A), timeout)
    with pytest.raises(ResponseError, match="TRYAGAIN"):
        await found.execute(*GET, patient=patient)
    assert len(nodes.asked) == 1


async def test_a_node_that_is_gone_and_a_slot_that_nobody_holds_have_the_slots_read_anew_once() -> None:
    nodes, slots = Nodes(a=[RedisConnectionError("gone")]), Slots(A)
    found = cluster(nodes, slots)
    slots.anew.clear()
    with pytest.raises(RedisConnectionError):
        await found.execute(*GET)
    await asyncio.sleep(0)
    assert slots.reads == 1
    slots.nodes_manager.slots_cache = {SLOT + 1: [ClusterNode(*A)]}
    for _ in range(2):
        with pytest.raises(SlotNotCoveredError):
            await found.execute(*GET)
    await asyncio.sleep(0)
    assert slots.reads == 1
    await found.aclose()
    alone = Slots(A)
    found = cluster(nodes, alone)
    alone.nodes_manager.slots_cache = {SLOT + 1: [ClusterNode(*A)]}
    with pytest.raises(SlotNotCoveredError):
        await found.execute(*GET)
    await asyncio.sleep(0)
    assert alone.reads == 1
    await found.aclose()


async def test_the_key_of_a_script_says_where_it_is_and_the_slots_are_read_where_they_are_not_known() -> None:
    nodes, slots = Nodes(a=[b"v"]), Slots(A)
    found = cluster(nodes, slots)
    slots.nodes_manager.slots_cache = {}
    assert await found.execute("EVALSHA", "hash", 1, b"k", "word") == b"v"
    assert await found.execute("EVAL", "return 1", 1, "k") == b"v"


async def test_of_many_a_refusal_is_in_the_list_and_a_fault_is_raised() -> None:
    found = cluster(Nodes(a=[b"v", ResponseError("no"), b"w"]), Slots(A))
    first, refused, last = await found.execute_all([GET] * 3)
    assert (first, str(refused), last) == (b"v", "no", b"w")
    with pytest.raises(IndexError):
        await found.execute_all([GET, ("PING",)])  # it names no key


async def test_a_node_has_one_line_until_it_has_left() -> None:
    slots = Slots(A)
    found = cluster(None, slots)
    line, other = found._multiplexer_at(A), found._multiplexer_at(B)
    assert found._multiplexer_at(A) is line
    assert (line._replicas, line._timeout) == (Replicas(1, 1.0), 20.0)
    assert found._fence_at(A) is None  # of all names that are tried none is in the one slot that is known
    slots.nodes_manager.slots_cache |= {
        key_slot(b"f7"): [ClusterNode(*A)],
        key_slot(b"f3"): [ClusterNode(*B)],
    }
    assert found._fence_at(A) is None
    found.refresh()
    for _ in range(10):
        await asyncio.sleep(0)
    assert (line._closed, other._closed) == (False, True)
    assert (found._fence_at(A), found._fence_at(B)) == ("f7", "f3")
    assert found._multiplexer_at(B) is not other
    await found.aclose()
    assert line._closed


async def test_the_slots_are_read_anew_as_often_as_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multiplexed_cluster, "_REFRESH_SECONDS", 0.0)
    slots = Slots(A)
    found = cluster(None, slots)
    for number in range(1, 3):
        found.refresh()
        assert found._refreshing is not None
        await found._refreshing
        assert slots.reads == number
    await found.aclose()


async def test_a_node_is_reached_with_tls_where_the_cluster_is() -> None:
    for ssl, kind in ((True, aioredis.SSLConnection), (False, aioredis.Connection)):
        pool = cluster(None, Slots(A), ssl=ssl, username="u").pool_at(B)
        assert pool.connection_class is kind
        told = pool.connection_kwargs
        assert (told["host"], told["port"], told["username"], "ssl" in told) == ("b", 2, "u", False)
