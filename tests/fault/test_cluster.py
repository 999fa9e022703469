"""One shard of a Cluster stalls, or a slot is moved: what it holds waits, and nothing else does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY

from service import events
from service.config.settings import Settings
from service.errors import StoreMoving
from service.store.connection.client import Client
from service.store.keys import Keys, part_of, part_tags
from service.store.log import Append
from service.store.store import Store
from service.store.turn_records import Begin, TurnRef
from tests.double import Double, expected_text
from tests.support.cluster import Cluster
from tests.support.lag import waited
from tests.support.redis import RedisServer
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
        await client.run("test", client.redis.execute("HSET", "chat:{many}", "field", "value"))
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


def shared() -> list[str]:
    """Keys that sends of this caller need, whatever their session."""
    keys = Keys("chat")
    of_caller = keys.principal("none.anonymous")
    return [of_caller.listed, of_caller.running, keys.principals, keys.pace("x")]


async def read(served: Served, session: str, seed: int, gaps: list[float], wish: str = "") -> str:
    body = {"content": f"[[tokens=250 rate=50 seed={seed}{wish}]]"}
    async with served.client.stream("POST", f"/v1/sessions/{session}/turns", json=body) as answer:
        return await text_from(answer, gaps)


async def follow(served: Served, session: str, gaps: list[float]) -> str:
    """The running turn of a session, which another worker runs."""
    turn = (await served.client.get(f"/v1/sessions/{session}")).json()["active_turn"]
    async with served.client.stream("GET", f"/v1/sessions/{session}/turns/{turn}/events") as answer:
        return await text_from(answer, gaps)


async def text_from(answer: httpx.Response, gaps: list[float]) -> str:
    events, last = [], time.monotonic() - waited()
    assert answer.status_code == 200
    async for frame in frames(answer):
        events.append(frame)
        now = time.monotonic() - waited()  # without what the machine had no core for us
        gaps.append(now - last)
        last = now
    assert events[-1].event == "turn.completed"
    return text_of(events)


@dataclass
class Apart:
    """A Cluster of which one node holds nothing that others need."""

    served: Served
    other: Served
    stalled: RedisServer
    here: Iterator[str]  # sessions whose turns, and their place in the index, are on one other node
    there: Iterator[str]  # sessions of the stalled one

    async def runs(self, count: int) -> None:
        async def running() -> bool:
            return bool(len(self.served.app.state.edge.engine.running) == count)

        await eventually_async(running, within=20)


@pytest.fixture
async def apart(cluster: Cluster, double_server: tuple[Double, str], double: Double) -> AsyncIterator[Apart]:
    # Who waits for what is not its own waits for 2.5 s.
    values = {"redis_timeout_seconds": 2.5, "store_hold_seconds": 30, "lease_seconds": 2}
    async with (
        serve(cluster.url, double_server[1], **values) as served,
        serve(cluster.url, double_server[1], **values) as other,
    ):
        needed = {cluster.holder(key).port for key in shared()}
        stalled = next(node for node in cluster.nodes if node.port not in needed)
        healthy = next(n for n in cluster.nodes if n is not stalled)
        keys = Keys("chat")

        def indexed(session: str) -> RedisServer:
            part = part_of(keys.session("none.anonymous", session).session)
            return cluster.holder(keys.deadlines_near(part_tags()[part]))

        name = f"{time.monotonic_ns()}-"  # of this test
        here = (one for one in cluster.names_at(healthy, name + "{}") if indexed(one) is healthy)
        yield Apart(served, other, stalled, here, cluster.names_at(stalled, name + "{}"))
        stalled.go_on()


@pytest.mark.alone
async def test_a_shard_that_stalls_is_felt_by_its_own_turns_only(apart: Apart) -> None:
    gaps: list[float] = []
    here, there = next(apart.here), next(apart.there)
    reading = [asyncio.create_task(read(apart.served, here, 1, gaps))]
    lost = asyncio.create_task(read(apart.served, there, 2, []))
    await apart.runs(2)
    reading.append(asyncio.create_task(follow(apart.other, here, gaps)))
    apart.stalled.stall()
    for _ in range(10):
        reading.append(asyncio.create_task(read(apart.served, next(apart.here), 1, gaps)))
    texts = await asyncio.wait_for(asyncio.gather(*reading), 60)
    assert not lost.done()
    apart.stalled.go_on()
    assert texts == [expected_text(250, 1)] * 12
    assert max(gaps) < 0.5
    assert await lost == expected_text(250, 2)


async def test_turns_of_other_shards_are_taken_over_as_ever_while_one_stalls(
    apart: Apart, double: Double
) -> None:
    here, there = next(apart.here), next(apart.there)
    reading = asyncio.create_task(read(apart.served, here, 1, []))
    quiet = asyncio.create_task(read(apart.served, next(apart.here), 3, [], " first_delay=8"))
    lost = asyncio.create_task(read(apart.served, there, 2, []))
    await apart.runs(3)
    apart.stalled.stall()
    engines = [served.app.state.edge.engine for served in (apart.served, apart.other)]
    [live] = [one for one in engines[0].running.lives() if one.turn.ref.session_id == here]
    begin = time.monotonic()
    live.interrupt("lost host")  # as when its worker is gone: nobody renews it

    def taken_over() -> bool:
        lives = [one for engine in engines for one in engine.running.lives()]
        return any(one.turn.ref == live.turn.ref and one.turn.epoch == 2 for one in lives)

    await eventually_async(taken_over, within=20)
    # A lease of 2 s and a look. The stalled shard is waited for for 2.5 s, again and again.
    assert time.monotonic() - begin < 4
    assert await asyncio.wait_for(reading, 30) == expected_text(250, 1)
    # A turn that says nothing lives by its renewals alone.
    assert await asyncio.wait_for(quiet, 40) == expected_text(250, 3)
    assert len([call for call in double.calls if b"seed=3" in call.body]) == 1
    apart.stalled.go_on()
    assert await asyncio.wait_for(lost, 40) == expected_text(250, 2)


def errors(operation: str) -> float:
    return REGISTRY.get_sample_value("chat_redis_errors_total", {"operation": operation}) or 0


@pytest.mark.parametrize("end", ["settled", "finished"])
async def test_what_meets_a_slot_that_is_being_moved_waits_for_it_and_nothing_is_paid_twice(
    cluster: Cluster, double_server: tuple[Double, str], double: Double, end: str
) -> None:
    """An answer that ends in it, sends to a new session in it and to one that it has, and a delete."""
    values = {"store_hold_seconds": 1, "lease_seconds": 2, "redis_timeout_seconds": 2.5}
    async with (
        serve(cluster.url, double_server[1], **values) as served,
        serve(cluster.url, double_server[1], **values) as other,
    ):
        session = next(cluster.names_at(cluster.nodes[0], f"moving-{end}-{{}}"))
        key = f"chat:{{none.anonymous/{session}}}"
        neighbours = cluster.neighbours(session)
        new, old, gone = (next(neighbours) for _ in range(3))
        for known in (old, gone):
            assert await read(other, known, 4, []) == expected_text(250, 4)
        reading = asyncio.create_task(read(served, session, 3, []))
        await eventually_async(lambda: len(served.app.state.edge.engine.running) == 1, within=20)
        before = errors("seal")
        cluster.open_slot(key)
        try:
            sends = [asyncio.create_task(read(other, one, 5, [])) for one in (new, old)]
            deleting = asyncio.create_task(other.client.delete(f"/v1/sessions/{gone}"))
            # Longer than the store is waited for, and than a lease.
            await eventually_async(lambda: errors("seal") >= before + 3, within=60)
            assert not any(task.done() for task in (*sends, reading))
        finally:
            if end == "settled":
                cluster.settle_slot(key)
            else:
                cluster.finish_slot(key)
        assert await asyncio.wait_for(reading, 30) == expected_text(250, 3)
        assert await asyncio.wait_for(asyncio.gather(*sends), 60) == [expected_text(250, 5)] * 2
        assert (await deleting).status_code == 204
        for one, count in ((session, 2), (new, 2), (old, 4)):
            said = (await served.client.get(f"/v1/sessions/{one}/messages")).json()["data"]
            assert len(said) == count
        for seed, count in ((3, 1), (5, 2)):
            assert len([call for call in double.calls if b"seed=%d" % seed in call.body]) == count


async def test_keys_that_have_moved_are_found_at_once_while_their_slot_is_still_being_moved(
    cluster: Cluster,
) -> None:
    client = Client(Settings(_env_file=None, redis_url=cluster.url))
    key = "chat:{moved}:session"
    try:
        await client.run("test", client.redis.execute("HSET", key, "field", "value"))
        source, target = cluster.holder(key), cluster.open_slot(key)
        source.client().execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        try:
            script = "return redis.call('HGET', KEYS[1], 'field')"
            found = await asyncio.gather(
                *(client.run("test", client.redis.hget(key, "field")) for _ in range(200)),
                *(client.run("test", client.redis.execute("EVAL", script, 1, key)) for _ in range(200)),
            )
            assert found == [b"value"] * 400
        finally:
            target.client().execute_command("ASKING")
            await client.run("test", client.redis.unlink(key))
            cluster.settle_slot(key)
    finally:
        await client.close()


async def test_while_the_keys_of_a_turn_are_apart_its_owner_waits_for_them_and_a_sweep_does_not(
    cluster: Cluster,
) -> None:
    """So the owner goes on first when they are together again, though its lease has lapsed meanwhile."""
    store = Store(Settings(_env_file=None, redis_url=cluster.url), "host:1")
    session = next(cluster.names_at(cluster.nodes[0], "apart{}", "chat:{{p/{}}}"))
    ref = TurnRef("p", session, "t_1")
    key = f"chat:{{p/{session}}}"
    started = events.structured(events.STARTED, {})
    begin = Begin(ref, "append", "m_1", b'{"role":"user"}', {}, started, {})
    try:
        assert (await store.turns.begin(begin, "host:1")).outcome == "BEGUN"
        source, target = cluster.holder(key), cluster.open_slot(key)
        turn = store.keys.session("p", session).turn("t_1")
        source.client().execute_command("MIGRATE", "127.0.0.1", target.port, turn, 0, 5000)
        asked = time.monotonic()
        with pytest.raises(StoreMoving):
            await store.turns.claim(ref, "host:2")
        assert time.monotonic() - asked < 1  # the store is waited for for 2 s
        append = Append(store.log.names(ref), 1, begin.claim, 2, [events.delta("one")])
        appending = asyncio.create_task(store.log.append([append]))
        stopping = asyncio.create_task(store.turns.claim(ref, "host:2", force=True))
        await asyncio.wait({stopping}, timeout=2.5)
        assert not stopping.done()
        assert isinstance((await appending)[0], StoreMoving)
        cluster.finish_slot(key)
        assert (await asyncio.wait_for(stopping, 10)).outcome == "CLAIMED"
    finally:
        await store.close()
