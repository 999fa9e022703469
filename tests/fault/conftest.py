"""Real processes for faults: a Redis, a double as a process of its own, and replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Replica
from tests.support.redis import RedisServer
from tests.support.upstream import DoubleProcess


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    yield server
    server.close()


@pytest.fixture
def upstream() -> Iterator[DoubleProcess]:
    double = DoubleProcess()
    yield double
    double.close()


Launch = Callable[..., Replica]


@pytest.fixture
def launch(tmp_path: Path, redis_process: RedisServer, upstream: DoubleProcess) -> Iterator[Launch]:
    """Start a replica on the test's Redis and double; all are killed at the end."""
    replicas: list[Replica] = []

    def begin(**settings: Any) -> Replica:
        values: dict[str, Any] = {
            "redis_url": redis_process.url,
            "GROQ_BASE_URL": upstream.url,
            "workers": 2,
            "lease_seconds": 3,
            "max_attempts": 20,
            "drain_seconds": 20,
        }
        replica = Replica(tmp_path / f"replica{len(replicas)}", **{**values, **settings})
        replicas.append(replica)
        return replica

    yield begin
    for replica in replicas:
        replica.kill()  # a stop takes a second, and is what other tests are about
