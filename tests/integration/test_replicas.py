"""CHAT_REDIS_WAIT_REPLICAS: nobody is told what the replicas do not have, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.config.settings import Settings
from service.errors import StoreRefusesWrites
from service.store.connection.client import Client
from tests.double import Double, expected_text
from tests.support.cluster import Cluster
from tests.support.redis import RedisServer
from tests.support.service import Served, serve
from tests.support.sse import frames, text_of
from tests.support.waiting import eventually, eventually_async


class Pair:
    """A master and its replica."""

    def __init__(self, directory: Path) -> None:
        self.master = RedisServer(directory / "master")
        self.replica = RedisServer(
            directory / "replica",
            "--replicaof",
            "127.0.0.1",
            str(self.master.port),
            "--repl-diskless-sync-delay",
            "0",
        )
        link = self.replica.client()
        eventually(lambda: link.info("replication")["master_link_status"] == "up", within=20)

    def close(self) -> None:
        self.replica.close()
        self.master.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("pair"))
    yield pair
    pair.close()


@pytest.fixture
def pair(servers: Pair) -> Iterator[Pair]:
    servers.master.client().flushall()
    yield servers
    servers.replica.go_on()


def client_of(url: str, **settings: Any) -> Client:
    return Client(Settings(_env_file=None, redis_url=url, redis_wait_replicas=1, **settings))


@pytest.fixture
async def client(pair: Pair) -> AsyncIterator[Client]:
    client = client_of(pair.master.url, redis_wait_seconds=0.3)
    yield client
    await client.close()


async def test_what_is_answered_is_on_the_replica(client: Client, pair: Pair) -> None:
    replica = pair.replica.client()
    for number in range(50):
        await client.run("test", client.redis.set("k", number, ex=60))
        assert replica.get("k") == str(number)


async def test_a_replica_that_stands_still_costs_everybody_a_bounded_wait_and_heals(
    client: Client, pair: Pair
) -> None:
    await client.ping()
    pair.replica.stall()

    async def refused(after: float) -> float:
        await asyncio.sleep(after)
        begin = time.monotonic()
        with pytest.raises(StoreRefusesWrites) as told:
            await client.run("test", client.redis.set("k", "v", ex=60))
        assert told.value.reason == "no_replicas"
        return time.monotonic() - begin

    # Two waits, their own and that of those before them: not one for each.
    assert max(await asyncio.gather(*(refused(0.02 * number) for number in range(30)))) < 1.5
    pair.replica.go_on()
    await client.run("test", client.redis.set("k", "v", ex=60))


async def test_a_reader_is_not_shown_what_another_worker_wrote_and_the_replica_has_not(
    client: Client, pair: Pair
) -> None:
    pair.replica.stall()
    pair.master.client().set("k", "unsafe", ex=60)
    with pytest.raises(StoreRefusesWrites):
        await client.run("test", client.redis.get("k"))
    pair.replica.go_on()
    assert await client.run("test", client.redis.get("k")) == b"unsafe"


async def test_no_text_is_shown_that_the_replica_does_not_have(
    pair: Pair, double_server: tuple[Double, str], double: Double
) -> None:
    settings = {"redis_wait_replicas": 1, "lease_seconds": 2}
    async with (
        serve(pair.master.url, double_server[1], **settings) as served,
        serve(pair.master.url, double_server[1], **settings) as other,
    ):
        shown = [0, 0]  # the newest event that each reader has

        async def read(at: int, reader: Served, path: str) -> str:
            events = []
            async with reader.client.stream("GET", f"{path}/events") as answer:
                async for frame in frames(answer):
                    events.append(frame)
                    shown[at] = frame.id or 0
            assert events[-1].event == "turn.completed"
            return text_of(events)

        body = {"content": "[[tokens=200 rate=80 seed=1]]"}
        headers = {"Prefer": "respond-async"}
        begun = await served.client.post("/v1/sessions/s/turns", json=body, headers=headers)
        path = begun.headers["location"]
        reading = [asyncio.create_task(read(n, reader, path)) for n, reader in enumerate((served, other))]
        await eventually_async(lambda: min(shown) > 8)
        pair.replica.stall()
        at_stall = time.monotonic()
        answer = await served.client.post("/v1/sessions/other/turns", json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert time.monotonic() - at_stall < 3
        master = pair.master.client()
        newest = master.xlen(next(master.scan_iter("*{none.anonymous/s}:log:*")))
        assert max(shown) < newest  # the master has it, for a second or so
        ready = await other.client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["store"]) == (503, "refuses writes: no_replicas")
        assert max(shown) < newest
        pair.replica.go_on()
        assert await asyncio.wait_for(asyncio.gather(*reading), 30) == [expected_text(200, 1)] * 2
        assert len([call for call in double.calls if b"seed=1" in call.body]) == 1


async def test_sends_that_are_refused_for_want_of_replicas_begin_no_turns(
    pair: Pair, double_server: tuple[Double, str], double: Double
) -> None:
    """But the first of them, by which it is noticed; named sends are preceded by a read anyway."""
    async with serve(pair.master.url, double_server[1], redis_wait_replicas=1) as served:
        assert (await served.client.post("/chat", json={"user_query": "hi"})).status_code == 200
        pair.replica.stall()
        for session in (None, None, None, "named"):
            answer = await served.client.post("/chat", json={"user_query": "hi", "session_id": session})
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        begun = list(pair.master.client().scan_iter("*:turn:*"))
        assert len(begun) <= 2  # one before, and that first one
        pair.replica.go_on()

        async def works() -> bool:
            answer = await served.client.post("/chat", json={"user_query": "[[tokens=3]]"})
            return answer.status_code == 200 and answer.text == expected_text(3, 0)

        await eventually_async(works, within=10)


async def test_replicas_that_stay_away_end_answers_visibly_and_they_are_taken_up_again(
    pair: Pair, double_server: tuple[Double, str], double: Double
) -> None:
    settings = {"redis_wait_replicas": 1, "lease_seconds": 2, "store_hold_seconds": 1}
    async with serve(pair.master.url, double_server[1], **settings) as served:
        body = {"user_query": "[[tokens=100 rate=50]]", "session_id": "s"}
        asking = asyncio.create_task(served.client.post("/chat", json=body))
        master = pair.master.client()
        await eventually_async(lambda: any(master.xlen(name) > 4 for name in master.scan_iter("*:log:*")))
        pair.replica.stall()
        with pytest.raises(httpx.RemoteProtocolError):
            await asyncio.wait_for(asking, 10)
        pair.replica.go_on()

        async def answered() -> bool:
            found = await served.client.get("/v1/sessions/s/messages")
            said = found.json().get("data", [])
            return len(said) == 2 and said[1]["content"] == expected_text(100, 0)

        await eventually_async(answered, within=20)


async def test_each_shard_of_a_cluster_waits_for_its_own_replica(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 2)
    spare = cluster.add_replica(cluster.nodes[0], tmp_path / "spare")
    other = cluster.add_replica(cluster.nodes[1], tmp_path / "other")
    client = client_of(cluster.url, redis_wait_seconds=0.3)
    here, there = (next(cluster.names_at(node, "k{}", "{}")) for node in cluster.nodes)
    try:
        await client.run("test", client.redis.set(here, 1, ex=60))
        await client.run("test", client.redis.set(there, 1, ex=60))
        spare.stall()
        with pytest.raises(StoreRefusesWrites):
            await client.run("test", client.redis.set(here, 2, ex=60))
        await client.run("test", client.redis.set(there, 2, ex=60))
        spare.go_on()
        await client.run("test", client.redis.set(here, 3, ex=60))
        for replica, key, value in ((spare, here, "3"), (other, there, "2")):
            connection = replica.client()
            connection.execute_command("READONLY")
            assert connection.get(key) == value
    finally:
        await client.close()
        for server in (spare, other):
            server.close()
        cluster.close()
