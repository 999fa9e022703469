"""docs/runbook.md, tried: each failure is caused, and what the entry says one sees is seen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.fault.conftest import Launch
from tests.support.processes import Replica
from tests.support.readers import client, start_turn
from tests.support.redis import RedisServer, free_port
from tests.support.scrape import Scrape, scrape
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


class Seen:
    """A replica as an operator sees it: its metrics and its log."""

    def __init__(self, replica: Replica, port: int) -> None:
        self.replica = replica
        self._url = f"http://127.0.0.1:{port}/metrics"

    def metrics(self) -> Scrape:
        return scrape(self._url)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics().value(name, **labels)

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [
            json.loads(line)
            for line in self.replica.log().rpartition("\n")[0].splitlines()
            if line.startswith("{")
        ]
        return [line for line in lines if line["event"] == event]

    def ask(self, message: str = "[[tokens=3]]") -> httpx.Response:
        return httpx.post(f"{self.replica.url}/chat", json={"user_query": message}, timeout=30)


Watch = Callable[..., Seen]


@pytest.fixture
def watch(launch: Launch) -> Watch:
    def start(**settings: Any) -> Seen:
        port = free_port()
        return Seen(launch(**{"workers": 1, "metrics_port": port, **settings}), port)

    return start


def test_redis_is_gone(watch: Watch, redis_process: RedisServer) -> None:
    seen = watch(auth="none", limit_sends="1000/minute")
    redis_process.kill()
    answer = seen.ask()
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert answer.headers["retry-after"]
    eventually(lambda: not seen.replica.ready(), within=10)
    errors = "chat_redis_errors_total"
    eventually(lambda: seen.value(errors) > 5, within=20)
    redis_process.start()
    eventually(lambda: seen.ask().status_code == 200, within=20)


class SmallRedis:
    """A Redis with little memory, filled by something else than chats."""

    def __init__(self, directory: Path) -> None:
        self.server = RedisServer(directory, "--maxmemory", "12mb", "--maxmemory-policy", "noeviction")

    def fill(self) -> None:
        """Until it refuses writes."""
        with self.server.client() as store, contextlib.suppress(redis.OutOfMemoryError):
            for number in itertools.count():
                store.set(f"filler:{number}", "x" * 20_000, ex=600)


@pytest.fixture
def small_redis(tmp_path: Path) -> Iterator[SmallRedis]:
    small = SmallRedis(tmp_path / "small")
    yield small
    small.server.close()


def test_redis_is_full(watch: Watch, small_redis: SmallRedis) -> None:
    seen = watch(redis_url=small_redis.server.url)
    small_redis.fill()

    def share() -> float:
        now = seen.metrics()
        return now.value("chat_redis_memory_bytes") / now.value("chat_redis_memory_limit_bytes")

    eventually(lambda: share() > 0.95, within=30)
    with small_redis.server.client() as store:
        answer = seen.ask()
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        store.config_set("maxmemory", "100mb")
    assert seen.ask().status_code == 200


def test_a_worker_dies(watch: Watch) -> None:
    seen = watch(workers=2)

    async def begin() -> None:
        async with client() as http:
            for number in range(4):
                await start_turn(
                    http,
                    [seen.replica.url],
                    f"s{number}",
                    {"content": "[[tokens=300 rate=50]]"},
                    f"k{number}",
                )

    asyncio.run(begin())
    eventually(lambda: seen.value("chat_turns_running") == 4, within=10)
    for pid in seen.replica.workers():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: seen.value("chat_takeovers_total") >= 4, within=30)
    eventually(lambda: len(seen.logged("worker.died")) == 2, within=30)
    assert sum(line["leases_lapsed"] for line in seen.logged("worker.died")) == 4
    eventually(lambda: len(seen.logged("turn.taken_over")) >= 4, within=30)
    eventually(lambda: seen.value("chat_workers") == 2, within=30)
    assert seen.value("chat_worker_deaths_total") == 2


def test_a_replica_whose_workers_cannot_start_again_says_that_it_has_none(watch: Watch) -> None:
    seen = watch()
    seen.replica.signal(signal.SIGSTOP)  # the master starts none
    for pid in seen.replica.workers():
        os.kill(pid, signal.SIGKILL)
    try:
        eventually(lambda: seen.value("chat_workers") == 0, within=10)
    finally:
        seen.replica.signal(signal.SIGCONT)
    eventually(lambda: seen.value("chat_workers") == 1, within=30)
    assert seen.value("chat_worker_deaths_total") == 1


def test_a_worker_stalls_for_longer_than_its_lease(watch: Watch) -> None:
    stalls, takes = watch(), watch()

    async def begin() -> None:
        async with client() as http:
            await start_turn(http, [stalls.replica.url], "s", {"content": "[[tokens=300 rate=50]]"}, "k")

    asyncio.run(begin())
    eventually(lambda: stalls.value("chat_turns_running") == 1, within=10)
    [worker] = stalls.replica.workers()
    os.kill(worker, signal.SIGSTOP)
    eventually(lambda: takes.value("chat_takeovers_total") == 1, within=20)
    os.kill(worker, signal.SIGCONT)
    eventually(lambda: stalls.value("chat_writes_fenced_total") >= 1, within=20)
    eventually(lambda: stalls.value("chat_turns_running") == 0, within=10)


def test_a_drain_is_too_short(watch: Watch) -> None:
    leaves, takes = watch(drain_seconds=2), watch()

    async def begin() -> None:
        async with client() as http:
            await start_turn(http, [leaves.replica.url], "s", {"content": "[[tokens=400 rate=40]]"}, "k")

    asyncio.run(begin())
    leaves.replica.signal(signal.SIGTERM)
    assert leaves.replica.wait(30) == 0
    assert leaves.logged("drain.began")
    [deadline] = leaves.logged("drain.deadline")
    assert deadline["turns_running"] == 1
    eventually(lambda: takes.value("chat_takeovers_total") == 1, within=20)


def test_the_key_is_refused(watch: Watch, upstream: DoubleProcess) -> None:
    seen = watch(GROQ_API_KEY="gsk_revoked0000")
    upstream.configure(require_key=True, api_keys=["gsk_valid000000"])
    answer = seen.ask()
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_unavailable")
    eventually(lambda: seen.value("chat_upstream_circuit_open", reason="auth") == 1, within=10)
    [opened] = eventually(lambda: seen.logged("circuit.opened"), within=10)
    assert (opened["reason"], opened["level"]) == ("auth", "error")
    checks = httpx.get(f"{seen.replica.url}/readyz", timeout=5).json()["checks"]
    assert (checks["upstream"], checks["store"]) == ("auth", "ok")
    upstream.configure(require_key=False, api_keys=[])
    eventually(lambda: seen.ask().status_code == 200, within=60)
    eventually(lambda: seen.value("chat_upstream_circuit_open", reason="auth") == 0, within=10)


def test_a_dead_key_of_two_is_told_by_its_name_and_a_right_one_in_its_file_is_the_end_of_it(
    watch: Watch, upstream: DoubleProcess, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("main=gsk_revoked0000\nspare=gsk_valid000000\n")
    seen = watch(GROQ_API_KEYS_FILE=keys)
    upstream.configure(require_key=True, api_keys=["gsk_valid000000", "gsk_right000000"])
    for _ in range(5):
        assert seen.ask().status_code == 200
    eventually(lambda: seen.value("chat_provider_key_up", key="main") == 0, within=10)
    assert seen.value("chat_provider_key_up", key="spare") == 1
    assert seen.value("chat_upstream_circuit_open", reason="auth") == 0
    assert [line["key"] for line in seen.logged("circuit.opened")] == ["main"]
    keys.write_text("main=gsk_right000000\nspare=gsk_valid000000\n")
    eventually(lambda: seen.value("chat_provider_key_up", key="main") == 1, within=20)


def test_another_key_in_the_same_file_is_read_when_the_workers_are_renewed(
    watch: Watch, upstream: DoubleProcess, tmp_path: Path
) -> None:
    """What `docker compose kill -s HUP service` does; a container's file is written in place."""
    (tmp_path / "groq_api_key").write_text("gsk_revoked0000")
    seen = watch(secrets_dir=tmp_path)
    upstream.configure(require_key=True, api_keys=["gsk_valid000000"])
    assert seen.ask().status_code == 502
    (tmp_path / "groq_api_key").write_text("gsk_valid000000")
    seen.replica.signal(signal.SIGHUP)
    eventually(lambda: seen.ask().status_code == 200, within=60)


def test_attempts_at_the_provider_fail(watch: Watch) -> None:
    seen = watch()
    assert seen.ask("[[fault=503 times=1 tokens=3]]").status_code == 200  # users notice nothing
    assert seen.value("chat_upstream_errors_total", kind="capacity") == 1
    assert seen.value("chat_upstream_attempts_total") == 2
    [failed] = seen.logged("attempt.failed")
    assert (failed["kind"], failed["attempt"]) == ("capacity", 1)
    [ended] = eventually(lambda: seen.logged("turn.ended"), within=10)
    assert failed["turn"] == ended["turn"]


def test_the_provider_limits_us(watch: Watch) -> None:
    seen = watch(retry_budget_seconds=1)
    answer = seen.ask("[[fault=429 times=9 retry_after=30]]")
    assert (answer.status_code, answer.json()["code"]) == (429, "upstream_rate_limited")
    assert answer.headers["retry-after"]
    assert seen.value("chat_upstream_errors_total", kind="limit_tpm") >= 1


def test_the_metrics_survive_whoever_serves_them(watch: Watch) -> None:
    """The exporter is started again, and its port answers meanwhile."""
    seen = watch()
    assert seen.ask().status_code == 200

    def exporter() -> int:
        assert seen.replica.process
        for child in (
            Path(f"/proc/{seen.replica.process.pid}/task/{seen.replica.process.pid}/children")
            .read_text()
            .split()
        ):
            if Path(f"/proc/{child}/comm").read_text() == "chat-metrics\n":
                return int(child)
        return 0

    before = eventually(exporter, within=10)
    os.kill(before, signal.SIGKILL)
    assert seen.value("chat_turns_started_total") == 1
    eventually(lambda: exporter() not in (0, before), within=10)
