"""Fixtures that all suites share: one real Redis and one double per run, clean for each test."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import redis
import redis.utils
from hypothesis import HealthCheck

from tests.double import Double, create_double, running
from tests.support.node import Node
from tests.support.redis import RedisServer

if TYPE_CHECKING:  # to load the application takes 1 s of CPU: what starts workers, and browser, do without
    from tests.support.service import Served

# How long an example takes says nothing about what is tested.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# redis-py reads its own version from a file for each connection: 2 ms of each test.
setattr(redis.utils, "get_lib_version", cache(redis.utils.get_lib_version))  # noqa: B010 - it is meant

# Importing makes objects that stay, and a test few that are in cycles: at Python's own threshold of 700
# the collector took a fifth of the processor's time.
_GC_THRESHOLDS = (10_000, 20, 20)
gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test for each of no clients is none: only `make clients` names some. pytest would tell of a skip."""
    empty = [
        item
        for item in items
        if any(
            mark.kwargs.get("reason", "").startswith("got empty parameter set")
            for mark in item.iter_markers("skip")
        )
    ]
    if empty:
        config.hook.pytest_deselected(items=empty)
        items[:] = [item for item in items if item not in empty]


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.enable()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the run's Redis, empty at first; what a test leaves behind must have a TTL.

    Emptied afterwards too: a circuit that a 401 has opened lasts ten minutes, and services of
    later tests, with or without this fixture, would take it up.
    """
    client = redis_server.client()
    client.flushall()
    yield client
    lasting = {"chat:turns:deadlines", "chat:secret", "chat:own_limits"}
    others = [key for key in client.scan_iter("*") if not key.startswith("chat:{credentials}")]
    seconds = client.pipeline(transaction=False)
    for key in others:
        seconds.ttl(key)
    ends = zip(others, seconds.execute(), strict=True)
    left = [key for key, end in ends if end == -1 and key not in lasting]
    client.flushall()
    client.close()
    assert left == [], "these keys would stay for ever"


@pytest.fixture(scope="session")
def double_server() -> Iterator[tuple[Double, str]]:
    double = create_double(rate=0)
    with running(double) as url:
        yield double, url


@pytest.fixture
def double(double_server: tuple[Double, str]) -> Iterator[Double]:
    double, _ = double_server
    before = double.settings
    double.calls.clear()
    yield double
    double.faults.clear()
    double.configure(before)


Start = Callable[..., AbstractAsyncContextManager["Served"]]


@pytest.fixture
def start(
    redis_server: RedisServer, store: redis.Redis, double_server: tuple[Double, str], double: Double
) -> Start:
    """Start a service on the run's Redis and double, with settings of the test's own."""
    from tests.support.service import serve

    def begin(**settings: Any) -> AbstractAsyncContextManager[Served]:
        return serve(redis_server.url, double_server[1], **settings)

    return begin


@pytest.fixture
async def served(start: Start) -> AsyncIterator[Served]:
    async with start() as service:
        yield service


@pytest.fixture(scope="session")
def node() -> Node:
    return Node()
