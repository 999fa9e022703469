"""What says that a replica lives and is ready, and what does not take it out."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.errors import StoreUnavailable
from tests.conftest import Start
from tests.double import Double
from tests.support.redis import RedisServer
from tests.support.service import Served, serve
from tests.support.waiting import eventually_async


async def test_a_replica_is_ready_when_it_can_begin_turns(served: Served) -> None:
    answer = await served.client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (
        200,
        {"store": "ok", "drain": "ok", "upstream": "ok"},
    )


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/health"])
async def test_probes_may_be_asked_by_head(served: Served, path: str) -> None:
    full, head = await served.client.get(path), await served.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == full.headers[name]


async def test_a_stalled_store_makes_it_unready_within_bounds_and_nothing_else(
    tmp_path: Path, double_server: tuple[Double, str]
) -> None:
    redis = RedisServer(tmp_path)
    try:
        async with serve(redis.url, double_server[1]) as served:
            redis.stall()
            begin = time.monotonic()
            unready = await served.client.get("/readyz")
            assert time.monotonic() - begin < 3
            assert (unready.status_code, unready.json()["checks"]["store"]) == (503, "unavailable")
            assert unready.headers["retry-after"] == "1"
            assert (await served.client.get("/livez")).status_code == 200
            health = await served.client.get("/health")
            assert (health.status_code, health.json()["checks"]["store"]) == (200, "unavailable")
            # What is the same for all replicas can be left out by whoever takes replicas out.
            alone = await served.client.get("/readyz?exclude=store&exclude=upstream")
            assert (alone.status_code, alone.json()["checks"]) == (200, {"drain": "ok"})
            redis.go_on()

            async def ready() -> bool:
                return (await served.client.get("/readyz")).status_code == 200

            await eventually_async(ready, within=10)
    finally:
        redis.close()


async def test_health_is_said_from_what_is_known_and_asks_the_store_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = served.app.state.edge.engine.store
    asked: list[str] = []

    async def never() -> None:
        asked.append("store")
        await asyncio.Event().wait()

    monkeypatch.setattr(store.health, "ping", never)
    monkeypatch.setattr(store.health, "look", never)
    asked.clear()  # by the loop in the background, which may have been about to look
    async with asyncio.timeout(10):
        for method in ("GET", "HEAD"):
            assert (await served.client.request(method, "/health")).status_code == 200
    assert len(asked) <= 1  # the loop's


async def test_a_store_that_is_known_to_be_silent_is_not_waited_for(
    tmp_path: Path, double_server: tuple[Double, str]
) -> None:
    redis = RedisServer(tmp_path)
    try:
        async with serve(redis.url, double_server[1]) as served:
            store = served.app.state.edge.engine.store
            redis.stall()

            async def noticed() -> bool:
                health = (await served.client.get("/health")).json()
                return bool(health["checks"]["store"] == "unavailable")

            await eventually_async(noticed, within=10)  # though nobody asks whether it is ready
            asked = REGISTRY.get_sample_value("chat_redis_operations_total", {"operation": "ping"})
            unready = await served.client.get("/readyz")
            assert (unready.status_code, unready.json()["checks"]["store"]) == (503, "unavailable")
            assert asked == REGISTRY.get_sample_value("chat_redis_operations_total", {"operation": "ping"})
            redis.go_on()
            await eventually_async(lambda: store.health.known == "ok", within=10)
    finally:
        redis.close()


async def test_an_eviction_policy_that_would_drop_what_is_kept_makes_it_unready(
    served: Served, store: Any
) -> None:
    async def says(expected: str) -> bool:
        found = await served.client.get("/readyz")
        return bool(found.json()["checks"]["store"] == expected) and found.status_code == (
            200 if expected == "ok" else 503
        )

    store.config_set("maxmemory-policy", "volatile-lru")
    try:
        await eventually_async(lambda: says("evicts: volatile-lru"), within=15)
    finally:
        store.config_set("maxmemory-policy", "noeviction")
    await eventually_async(lambda: says("ok"), within=15)


async def test_one_slow_answer_of_the_store_does_not_make_it_unready(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = served.app.state.edge.engine.store
    asked = 0

    async def ping() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreUnavailable

    monkeypatch.setattr(store.health, "ping", ping)
    assert (await served.client.get("/readyz")).status_code == 200
    assert asked == 2


async def test_many_probes_ask_the_store_once_a_second(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def ping() -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(served.app.state.edge.engine.health, "ping", ping)
    answers = await asyncio.gather(*(served.client.get("/readyz") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert asked <= 3  # one for each second that 50 requests can take on a busy machine


async def test_a_draining_replica_is_unready_whatever_is_excluded(start: Start) -> None:
    async with start() as served:
        served.app.state.edge.engine.drain()
        answer = await served.client.get("/readyz?exclude=store&exclude=upstream")
        assert (answer.status_code, answer.json()["checks"]) == (503, {"drain": "draining"})
