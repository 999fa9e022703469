"""P8: a Redis outage is a written contract. Redis is stalled, killed, failed over."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from tests.double import expected_text
from tests.fault.conftest import Launch
from tests.support.cluster import Cluster
from tests.support.processes import Replica
from tests.support.readers import client, follow, start_turn
from tests.support.redis import RedisServer
from tests.support.sentinels import Sentinels
from tests.support.sse import text_of
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.fault


async def running(
    http: httpx.AsyncClient, url: str, count: int, tokens: int = 300
) -> list[asyncio.Task[str]]:
    """`count` turns that are being read, each past its first events."""

    async def read(number: int) -> str:
        body = {"content": f"[[tokens={tokens} rate=50 seed={number}]]"}
        path = await start_turn(http, [url], f"s{number}", body, f"k{number}")
        started.append(path)
        events = await follow(http, [url], path)
        assert events[-1].event == "turn.completed", events[-1]
        return text_of(events)

    started: list[str] = []
    tasks = [asyncio.create_task(read(number)) for number in range(count)]
    await eventually_async(lambda: len(started) == count, within=20)
    return tasks


async def test_a_stall_of_three_seconds_is_a_pause_for_running_turns(
    launch: Launch, redis_process: RedisServer, upstream: DoubleProcess
) -> None:
    replica = launch(lease_seconds=5)
    async with client() as http:
        tasks = await running(http, replica.url, 20)
        redis_process.stall()
        begin = time.monotonic()
        new = await http.post(f"{replica.url}/chat", json={"user_query": "hi"})
        assert (new.status_code, new.json()["code"]) == (503, "store_unavailable")
        assert "retry-after" in new.headers
        assert time.monotonic() - begin < 3
        assert (await http.get(f"{replica.url}/livez")).status_code == 200
        assert (await http.get(f"{replica.url}/readyz")).status_code == 503
        assert (await http.get(f"{replica.url}/health")).json()["status"] == "healthy"
        await asyncio.sleep(max(0.0, 3 - (time.monotonic() - begin)))  # the outage takes 3 s
        redis_process.go_on()
        texts = await asyncio.wait_for(asyncio.gather(*tasks), 40)
        assert texts == [expected_text(300, number) for number in range(20)]
        assert len(upstream.calls()) == 20
        await eventually_async(replica.ready)
        again = await http.post(f"{replica.url}/chat", json={"user_query": "[[tokens=3]]"})
        assert again.text == expected_text(3, 0)


async def test_a_redis_that_is_killed_and_comes_back_with_its_file_loses_nothing_readers_saw(
    launch: Launch, tmp_path: Path, redis_process: RedisServer
) -> None:
    redis_process.client().config_set("appendfsync", "always")
    replica = launch()
    async with client() as http:
        tasks = await running(http, replica.url, 20)
        redis_process.restart()
        texts = await asyncio.wait_for(asyncio.gather(*tasks), 40)
        assert texts == [expected_text(300, number) for number in range(20)]


async def test_a_redis_that_lost_everything_ends_the_turns_with_a_clear_error(
    launch: Launch, redis_process: RedisServer
) -> None:
    replica = launch()
    async with client() as http:
        path = await start_turn(http, [replica.url], "s", {"content": "[[tokens=900 rate=50]]"}, "k")
        async with http.stream("GET", f"{replica.url}{path}/events") as answer:
            begin = 0.0
            try:
                async for _ in answer.aiter_raw():
                    if not begin:
                        redis_process.client().flushall()
                        begin = time.monotonic()
            except httpx.TransportError:
                pass
            assert time.monotonic() - begin < 20
        gone = await http.get(f"{replica.url}{path}")
        assert (gone.status_code, gone.json()["code"]) == (404, "turn_not_found")
        again = await http.post(f"{replica.url}/chat", json={"user_query": "[[tokens=3]]"})
        assert again.text == expected_text(3, 0)


async def test_an_outage_beyond_the_hold_fails_visibly_and_is_taken_up_again(
    launch: Launch, redis_process: RedisServer, upstream: DoubleProcess
) -> None:
    replica = launch(store_hold_seconds=1, redis_timeout_seconds=0.5)
    body = {"user_query": "[[tokens=300 rate=80]]", "session_id": "s"}
    async with client() as http:
        asking = asyncio.create_task(http.post(f"{replica.url}/chat", json=body))
        store = redis_process.client()
        await eventually_async(lambda: any(store.xlen(key) > 8 for key in store.scan_iter("*:log:*")))
        [turn] = [key.rpartition(":")[2] for key in store.scan_iter("*:log:*")]
        store.close()
        redis_process.stall()
        begin = time.monotonic()
        with pytest.raises(httpx.RemoteProtocolError):
            await asyncio.wait_for(asking, 20)
        assert 1 <= time.monotonic() - begin < 10  # the hold of this replica, and not the usual 15 s
        await eventually_async(lambda: '"seal.given_up"' in replica.log(), within=30)
        assert len(upstream.calls()) == 1
        redis_process.go_on()
        events = await asyncio.wait_for(follow(http, [replica.url], f"/v1/sessions/s/turns/{turn}"), 30)
        kinds = [event.event for event in events]
        assert (kinds.count("attempt.started"), kinds.count("turn.restarted")) == (2, 1)
        assert (kinds[-1], text_of(events)) == ("turn.completed", expected_text(300, 0))
        assert len(upstream.calls()) == 2
        messages = (await http.get(f"{replica.url}/v1/sessions/s/messages")).json()["data"]
        assert [message["content"] for message in messages] == [body["user_query"], expected_text(300, 0)]


@pytest.mark.timeout(120)
async def test_a_sentinel_failover_is_a_pause(tmp_path: Path, upstream: DoubleProcess) -> None:
    store = Sentinels(tmp_path)
    replica = Replica(
        tmp_path / "service", redis_url=store.url, GROQ_BASE_URL=upstream.url, workers=1, lease_seconds=5
    )
    try:
        async with client() as http:
            tasks = await running(http, replica.url, 10, tokens=500)
            store.master.kill()
            texts = await asyncio.wait_for(asyncio.gather(*tasks), 60)
            assert texts == [expected_text(500, number) for number in range(10)]
            assert store.promoted()
            again = await http.post(f"{replica.url}/chat", json={"user_query": "[[tokens=3]]"})
            assert again.text == expected_text(3, 0)
    finally:
        replica.close()
        store.close()


async def _is_an_outage(http: httpx.AsyncClient, url: str, nodes: list[RedisServer]) -> None:
    """With none of its nodes left a Cluster is a store that cannot be reached, like any other."""
    for node in nodes:
        node.kill()
    for answer in [await http.get(f"{url}/v1/sessions") for _ in range(3)]:
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")

    async def noticed() -> bool:
        health = await http.get(f"{url}/health")
        assert health.status_code == 200
        return bool(health.json()["checks"]["store"] == "unavailable")

    await eventually_async(noticed)


@pytest.mark.timeout(120)
async def test_a_cluster_of_three_nodes_holds_turns_and_resumes(
    tmp_path: Path, upstream: DoubleProcess
) -> None:
    cluster = Cluster(tmp_path)
    replicas = [
        Replica(tmp_path / f"service{n}", redis_url=cluster.url, GROQ_BASE_URL=upstream.url, workers=1)
        for n in range(2)
    ]
    try:
        urls = [replica.url for replica in replicas]
        async with client() as http:

            async def turn(number: int) -> str:
                body = {"content": f"[[tokens=60 rate=60 seed={number}]]"}
                path = await start_turn(http, urls, f"s{number}", body, f"k{number}")
                return text_of(await follow(http, urls, path, cut=0.1))

            texts = await asyncio.wait_for(asyncio.gather(*(turn(n) for n in range(12))), 60)
            assert texts == [expected_text(60, number) for number in range(12)]
            listed = (await http.get(f"{urls[0]}/v1/sessions")).json()["data"]
            assert {session["id"] for session in listed} == {f"s{n}" for n in range(12)}
            path = await start_turn(http, urls, "x", {"content": "[[tokens=900 rate=50]]"}, "k")
            stopped = (await http.post(f"{urls[1]}{path}/stop")).json()
            assert stopped["state"] == "stopped"
            assert (await http.delete(f"{urls[0]}/v1/sessions/x")).status_code == 204
            await _is_an_outage(http, urls[0], cluster.nodes)
    finally:
        for replica in replicas:
            replica.close()
        cluster.close()
