"""The processes of a benchmark, and what the kernel says that they use.

Started on free ports, stopped together. The service is a real replica (Gunicorn's master and a
worker), Redis a real server with its append-only file on.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from tests.support.processes import Replica
from tests.support.redis import RedisServer, free_port
from tests.support.waiting import eventually

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_ROOT: Final = Path(__file__).resolve().parents[2]
_START_SECONDS: Final = 30.0

_CATALOGUE: Final = Path("service", "upstream", "models.toml")
SHIPPED: Final = _ROOT / _CATALOGUE
SMALL_MODEL: Final = "bench/small"
_SMALL_MODEL: Final = f"""
[[models]]
id = "{SMALL_MODEL}"
context_window = 2048
max_completion_tokens = 1024
default_completion = 1024
"""


@dataclass(frozen=True)
class Sample:
    """CPU seconds since the start of a process, and its memory now (KiB)."""

    cpu: float
    resident: int

    def __sub__(self, other: Sample) -> Sample:
        return Sample(self.cpu - other.cpu, self.resident - other.resident)


def sample(pid: int) -> Sample:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    return Sample((int(fields[11]) + int(fields[12])) / _TICKS, resident)


@dataclass
class Bench:
    """Ports and process ids of all parts. `replicas` share one Redis and one upstream."""

    directory: Path
    upstream: int
    relay: int
    baseline: int
    store: RedisServer
    replicas: list[Replica]
    key: str
    pids: dict[str, int]

    @property
    def service(self) -> int:
        return self.replicas[0].port

    def client(self) -> redis.Redis:
        client: redis.Redis = self.store.client()
        return client


class Started(contextlib.ExitStack):
    """Processes of this package, ended with the block."""

    def module(self, name: str, *arguments: int, **environment: str) -> subprocess.Popen[bytes]:
        """Start `tests.load.<name>`; returns when it says that it is ready."""
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.load.{name}", *map(str, arguments)],
            cwd=_ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
        )
        self.callback(_stop, process)
        return process

    def ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(_START_SECONDS) or process.stdout.readline() != b"ready\n":
                raise RuntimeError("a process of the benchmark did not start")


def _models(directory: Path, code: Path) -> Path:
    """The shipped catalogue and a model whose window is full after a few messages."""
    path = directory / "models.toml"
    path.write_text((code / _CATALOGUE).read_text() + _SMALL_MODEL)
    return path


def _key(store: RedisServer) -> str:
    """An API key, made as operators make theirs."""
    command = [sys.executable, "-m", "service", "keys", "create", "--name", "bench"]
    made = subprocess.run(
        command,
        cwd=_ROOT,
        env={**os.environ, "CHAT_REDIS_URL": store.url},
        check=True,
        timeout=60,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return made.stdout.strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@contextlib.contextmanager
def running(
    directory: Path, replicas: int = 2, *, follower: bool = False, code: Path = _ROOT, **more: Any
) -> Iterator[Bench]:
    """Everything that the cases need, with nothing else in it.

    `follower`: with a replica of Redis; `code`: the checkout whose service it is.
    """
    with Started() as stack:
        upstream, relay, baseline = free_port(), free_port(), free_port()
        store = RedisServer(directory / "redis", "--auto-aof-rewrite-min-size", "256mb")  # as deployed
        stack.callback(store.close)
        if follower:
            link = RedisServer(directory / "follower", "--replicaof", "127.0.0.1", str(store.port))
            stack.callback(link.close)
            eventually(lambda: link.client().info("replication")["master_link_status"] == "up", within=20)
        url = f"http://127.0.0.1:{upstream}"
        started = {
            "upstream": stack.module("upstream", upstream),
            "relay": stack.module("relay", relay, upstream),
            "baseline": stack.module("baseline", baseline, GROQ_BASE_URL=url, BENCH_REDIS_URL=store.url),
        }
        settings: dict[str, Any] = {
            "redis_url": store.url,
            "GROQ_API_KEY": "gsk_bench",
            "GROQ_BASE_URL": url,
            "models_file": str(_models(directory, code)),
            "auth": "keys",
            # Every control is on, and none of them may bind.
            "limit_sends": "100000000/minute",
            "limit_reads": "100000000/minute",
            "max_running_turns_per_principal": 100_000,
            "max_open_streams_per_principal": 100_000,
            "budget_tokens_per_day": 10**12,
            "max_sessions_per_principal": 0,  # no bound
            "max_stored_bytes_per_principal": 0,
            "max_body_bytes": 8 * 1_048_576,  # a history of 10,000 messages comes in one request
            # A million turns in one Redis.
            "log_ttl_seconds": 120,
            "ephemeral_ttl_seconds": 120,
            "idempotency_ttl_seconds": 120,
            "turn_timeout_seconds": 60,
            **more,
        }
        served: list[Replica] = []
        for place in range(replicas):
            replica = Replica(directory / f"replica-{place}", "serve", code=code, **settings)
            stack.callback(replica.close)
            served.append(replica)
        for process in started.values():
            stack.ready(process)
        assert store.process is not None
        pids = {name: process.pid for name, process in started.items()}
        pids |= {"redis": store.process.pid, "service": served[0].workers()[0]}
        if follower and link.process is not None:
            pids["follower"] = link.process.pid
        if replicas > 1:
            pids["replica"] = served[1].workers()[0]
        yield Bench(directory, upstream, relay, baseline, store, served, _key(store), pids)
