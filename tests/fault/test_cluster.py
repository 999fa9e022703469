"""One shard of a Cluster stalls, or a slot is moved: what it holds waits, and nothing else does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.config.settings import Settings
from service.double import Double, expected_text
from service.store.client import Client
from service.store.keys import Keys
from tests.support.cluster import Cluster
from tests.support.sentinels import Sentinels
from tests.support.service import Served, serve
from tests.support.sse import frames, text_of
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), 6)  # `shared` has five slots: one node holds none
    yield cluster
    cluster.close()


async def many_at_once(url: str) -> None:
    client = Client(Settings(_env_file=None, redis_url=url))
    try:
        await client.run("test", client.redis.hset("chat:{many}", "field", "value"))
        found = await asyncio.gather(
            *(client.run("test", client.redis.hget("chat:{many}", "field")) for _ in range(1000))
        )
        assert found == [b"value"] * 1000
    finally:
        await client.close()


async def test_more_commands_at_once_than_there_are_connections_wait_on_cluster(cluster: Cluster) -> None:
    await many_at_once(cluster.url)


async def test_more_commands_at_once_than_there_are_connections_wait_behind_sentinel(tmp_path: Path) -> None:
    sentinels = Sentinels(tmp_path)
    try:
        await many_at_once(sentinels.url)
    finally:
        sentinels.close()


def shared(served: Served) -> list[str]:
    """Keys that turns of all sessions need."""
    keys, worker = Keys("chat"), served.app.state.edge.engine.worker
    of_all = [keys.deadlines, keys.owned_by(worker), keys.sessions_of("none.anonymous")]
    return [*of_all, keys.principals, keys.pace("x"), keys.running("none.anonymous")]


async def read(served: Served, session: str, seed: int, gaps: list[float]) -> str:
    body = {"content": f"[[tokens=250 rate=50 seed={seed}]]"}
    events, last = [], time.monotonic()
    async with served.client.stream("POST", f"/v1/sessions/{session}/turns", json=body) as answer:
        assert answer.status_code == 200
        async for frame in frames(answer):
            events.append(frame)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()
    assert events[-1].event == "turn.completed"
    return text_of(events)


async def test_a_shard_that_stalls_is_felt_by_its_own_turns_only(
    cluster: Cluster, double_server: tuple[Double, str], double: Double
) -> None:
    # A turn that waits for what is not its own waits for 2.5 s: more than a busy machine takes.
    async with (
        serve(cluster.url, double_server[1], redis_timeout_seconds=2.5, store_hold_seconds=30) as served,
        serve(cluster.url, double_server[1], redis_timeout_seconds=2.5, store_hold_seconds=30) as other,
    ):
        needed = {cluster.holder(key).port for both in (served, other) for key in shared(both)}
        stalled = next(node for node in cluster.nodes if node.port not in needed)
        healthy = next(n for n in cluster.nodes if n is not stalled)
        ours = cluster.names_at(healthy)
        here, remote, theirs = next(ours), next(ours), next(cluster.names_at(stalled))
        gaps: list[float] = []
        reading = [asyncio.create_task(read(served, here, 1, gaps))]
        lost = asyncio.create_task(read(served, theirs, 2, []))

        async def running() -> bool:
            return bool(served.app.state.edge.engine.running == 2)

        await eventually_async(running, within=20)
        turn = (await other.client.get(f"/v1/sessions/{here}")).json()["active_turn"]

        async def elsewhere() -> str:
            events = []
            async with other.client.stream("GET", f"/v1/sessions/{here}/turns/{turn}/events") as answer:
                async for frame in frames(answer):
                    events.append(frame)
            return text_of(events)

        reading.append(asyncio.create_task(elsewhere()))
        stalled.stall()
        try:
            reading.append(asyncio.create_task(read(served, remote, 1, gaps)))
            texts = await asyncio.wait_for(asyncio.gather(*reading), 60)
            assert not lost.done()
        finally:
            stalled.go_on()
        assert texts == [expected_text(250, 1)] * 3
        assert max(gaps) < 2.4
        assert await lost == expected_text(250, 2)


def errors(operation: str) -> float:
    return REGISTRY.get_sample_value("chat_redis_errors_total", {"operation": operation}) or 0


async def test_a_finished_answer_waits_for_a_slot_that_is_being_moved_and_is_not_paid_twice(
    cluster: Cluster, double_server: tuple[Double, str], double: Double
) -> None:
    async with serve(cluster.url, double_server[1], store_hold_seconds=1, lease_seconds=2) as served:
        session = next(cluster.names_at(cluster.nodes[0], "moving{}"))
        key = f"chat:{{none.anonymous/{session}}}"
        reading = asyncio.create_task(read(served, session, 3, []))
        await eventually_async(lambda: served.app.state.edge.engine.running == 1, within=20)
        before = errors("seal")
        cluster.open_slot(key)
        try:
            # Longer than the store is waited for, and than a lease.
            await eventually_async(lambda: errors("seal") >= before + 4, within=60)
            begin = time.monotonic()
            refused = await served.client.post(f"/v1/sessions/{session}x/turns", json={"content": "x"})
            assert refused.status_code in (200, 503)
            assert time.monotonic() - begin < 30
        finally:
            cluster.settle_slot(key)
        assert await asyncio.wait_for(reading, 30) == expected_text(250, 3)
        assert len([call for call in double.calls if b"seed=3" in call.body]) == 1


async def test_keys_that_have_moved_are_found_at_once_while_their_slot_is_still_being_moved(
    cluster: Cluster,
) -> None:
    client = Client(Settings(_env_file=None, redis_url=cluster.url))
    key = "chat:{moved}:session"
    try:
        await client.run("test", client.redis.hset(key, "field", "value"))
        source, target = cluster.holder(key), cluster.open_slot(key)
        source.client().execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        try:
            script: Any = "return redis.call('HGET', KEYS[1], 'field')"
            found = await asyncio.gather(
                *(client.run("test", client.redis.hget(key, "field")) for _ in range(200)),
                *(client.run("test", client.redis.eval(script, 1, key)) for _ in range(200)),
            )
            assert found == [b"value"] * 400
        finally:
            target.client().execute_command("ASKING")
            await client.run("test", client.redis.delete(key))
            cluster.settle_slot(key)
    finally:
        await client.close()
