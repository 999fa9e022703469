"""Workers that are replaced after CHAT_MAX_REQUESTS: they wait for their answers while nothing presses."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis import RedisServer
from tests.support.running import Running, alive
from tests.support.waiting import eventually


@pytest.fixture
def recycling(tmp_path: Path, redis_server: RedisServer) -> Iterator[Running]:
    """One worker with the stand-in application, replaced after 20 requests or so; a drain has 1 s."""
    with Running(
        "serve",
        tmp_path,
        CHAT_REDIS_URL=redis_server.url,
        GROQ_BASE_URL="http://127.0.0.1:9",
        CHAT_MAX_REQUESTS="20",
        CHAT_DRAIN_SECONDS="1",
    ) as running:
        yield running


def recycle(running: Running, *before: int) -> int:
    """Ask until these have left and another answers; which is told."""

    def other() -> int:
        pid = int(running.get("/pid")[1])
        return pid if pid not in before and len(running.logged("server.leaving")) == len(before) else 0

    return eventually(other, within=20)


def test_a_recycled_worker_waits_for_what_takes_longer_than_a_drain(recycling: Running) -> None:
    running = recycling
    with running.stream("/stream?n=70&gap=0.1") as stream:
        stream.readline()
        recycle(running, *running.workers())
        assert stream.read().endswith(b"69\nend\n")
    eventually(lambda: running.facts().count("shutdown") == 1)
    assert running.logged("server.requests_cut") == []


def test_a_recycled_worker_waits_no_longer_when_the_replica_leaves(recycling: Running) -> None:
    running = recycling
    with running.stream("/hang") as stream:
        stream.readline()
        recycle(running, *running.workers())
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
    facts = running.facts()
    assert (facts.count("cancelled"), facts.count("shutdown")) == (1, 2)
    assert running.logged("worker.died") == []


def test_of_more_recycled_workers_than_there_are_the_oldest_waits_no_longer(recycling: Running) -> None:
    running = recycling
    (first,) = running.workers()
    with running.stream("/hang") as oldest:
        oldest.readline()
        second = recycle(running, first)
        with running.stream("/hang") as younger:
            younger.readline()
            recycle(running, first, second)
            eventually(lambda: not alive(first), within=15)
            assert alive(second)
            with pytest.raises(http.client.IncompleteRead):
                oldest.read()
    assert [pid for _, pid, fact in running.journal() if fact == "cancelled"] == [first]
