"""The processes of a benchmark, and what the kernel says that they use.

Started on free ports, stopped together. The service is a real replica (Gunicorn's master and a
worker), Redis a real server with its append-only file on.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from tests.support.cluster import Cluster
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


# What nginx needs to pass a stream on: one worker, no buffers, kept connections to the model.
_NGINX_CONF: Final = """
worker_processes 1;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream model {{ server 127.0.0.1:{upstream}; keepalive 256; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass
class Bench:
    """Ports and process ids of all parts. `replicas` share one Redis and one upstream.

    `nginx` is the port of one that passes streams on, where the machine has the program.
    """

    directory: Path
    upstream: int
    relay: int
    baseline: int
    nginx: int | None
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

    def nginx(self, directory: Path, upstream: int) -> tuple[int, int] | None:
        """Port and process id of the worker, None where there is no such program."""
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            return None
        port = free_port()
        directory.mkdir()
        (directory / "nginx.conf").write_text(_NGINX_CONF.format(upstream=upstream, port=port))
        user = "user root; " if os.geteuid() == 0 else ""  # its workers may enter the folder then
        master = subprocess.Popen(
            [program, "-p", str(directory), "-c", "nginx.conf", "-g", f"daemon off; {user}pid nginx.pid;"],
            stderr=subprocess.DEVNULL,
        )
        self.callback(master.wait)
        self.callback(master.terminate)  # a killed one leaves its worker
        children = Path(f"/proc/{master.pid}/task/{master.pid}/children")
        eventually(lambda: children.read_text().split(), within=10)
        return port, int(children.read_text().split()[0])

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


def _key(redis_url: str) -> str:
    """An API key, made as operators make theirs."""
    command = [sys.executable, "-m", "service", "keys", "create", "--name", "bench"]
    made = subprocess.run(
        command,
        cwd=_ROOT,
        env={**os.environ, "CHAT_REDIS_URL": redis_url},
        check=True,
        timeout=60,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return made.stdout.strip()


def _pid(server: RedisServer) -> int:
    assert server.process is not None
    return server.process.pid


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@contextlib.contextmanager
def running(
    directory: Path,
    replicas: int = 2,
    *,
    follower: bool = False,
    shards: int = 0,
    code: Path = _ROOT,
    **more: Any,
) -> Iterator[Bench]:
    """Everything that the cases need, with nothing else in it.

    `follower`: with a replica of Redis; `shards`: with a Cluster of so many instead of one Redis, which the
    baseline still has; `code`: the checkout whose service it is.
    """
    with Started() as stack:
        upstream, relay, baseline = free_port(), free_port(), free_port()
        store = RedisServer(directory / "redis", "--auto-aof-rewrite-min-size", "256mb")  # as deployed
        stack.callback(store.close)
        if follower:
            link = RedisServer(directory / "follower", "--replicaof", "127.0.0.1", str(store.port))
            stack.callback(link.close)
            eventually(lambda: link.client().info("replication")["master_link_status"] == "up", within=20)
        servers, redis_url = [store], store.url
        if shards:
            cluster = Cluster(directory / "cluster", shards)
            stack.callback(cluster.close)
            servers, redis_url = cluster.nodes, cluster.url
        url = f"http://127.0.0.1:{upstream}"
        started = {
            "upstream": stack.module("upstream", upstream),
            "relay": stack.module("relay", relay, upstream),
            "baseline": stack.module("baseline", baseline, GROQ_BASE_URL=url, BENCH_REDIS_URL=store.url),
        }
        settings: dict[str, Any] = {
            "redis_url": redis_url,
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
        passing = stack.nginx(directory / "nginx", upstream)
        served: list[Replica] = []
        for place in range(replicas):
            replica = Replica(directory / f"replica-{place}", "serve", code=code, **settings)
            stack.callback(replica.close)
            served.append(replica)
        for process in started.values():
            stack.ready(process)
        pids = {name: process.pid for name, process in started.items()}
        pids |= {"redis": _pid(servers[0]), "service": served[0].workers()[0]}
        pids |= {f"redis {number}": _pid(server) for number, server in enumerate(servers[1:], 2)}
        if passing is not None:
            pids["nginx"] = passing[1]
        if follower:
            pids["follower"] = _pid(link)
        if replicas > 1:
            pids["replica"] = served[1].workers()[0]
        nginx = passing[0] if passing is not None else None
        yield Bench(directory, upstream, relay, baseline, nginx, store, served, _key(redis_url), pids)
