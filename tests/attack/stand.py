"""What is attacked: two replicas behind the shipped nginx, a Redis and a double, as compose has them.

`Watch` looks twice a second at what each service of compose takes of its memory limit, and whether
the replicas call themselves ready. Limits, the Redis configuration and nginx's are the shipped
files; only addresses and the size of the store are a test's own.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.support.nginx import Nginx
from tests.support.processes import ROOT, Replica
from tests.support.redis import RedisServer
from tests.support.running import children, clean_environment
from tests.support.upstream import DoubleProcess

_COMPOSE: Final = ROOT / "docker-compose.yml"
_LOOK_SECONDS: Final = 0.5
_UNITS: Final = {"k": 1024, "m": 1024**2, "g": 1024**3}


@dataclass(frozen=True)
class Size:
    """How much of everything. `share` is the store's size beside the shipped one, quotas with it."""

    workers: int
    maxmemory: str
    share: float


def bytes_of(text: str) -> int:
    """`768mb`, `1536m`, `1g`: what compose and Redis write."""
    found = re.fullmatch(r"(\d+)([kmg])b?", text.strip().lower())
    assert found, text
    return int(found[1]) * _UNITS[found[2]]


def limits() -> dict[str, int]:
    """Service of compose -> bytes that it may have."""
    services = yaml.safe_load(_COMPOSE.read_text())["services"]
    return {
        name: bytes_of(services[name]["deploy"]["resources"]["limits"]["memory"])
        for name in ("nginx", "service", "redis")
    }


def shipped_maxmemory() -> str:
    text = yaml.safe_load(_COMPOSE.read_text())["services"]["redis"]["environment"]["REDIS_MAXMEMORY"]
    return str(text).partition(":-")[2].rstrip("}")


class Stand:
    def __init__(self, directory: Path, size: Size) -> None:
        self.directory = directory
        with contextlib.ExitStack() as stack:
            self.redis = RedisServer(directory / "redis", *_redis_arguments(), "--maxmemory", size.maxmemory)
            stack.callback(self.redis.close)
            self.double = DoubleProcess()
            stack.callback(self.double.close)
            settings = {
                "redis_url": self.redis.url,
                "GROQ_BASE_URL": self.double.url,
                "auth": "keys",
                "workers": size.workers,
                "trusted_proxies": "127.0.0.1",
                **_quotas(size.share),
            }
            self.replicas = []
            for place in range(2):
                self.replicas.append(Replica(directory / f"replica-{place}", **settings))
                stack.callback(self.replicas[-1].close)
            self.nginx = Nginx(directory / "nginx", [replica.port for replica in self.replicas])
            stack.callback(self.nginx.close)
            self.admin = admin_key(self.redis.url)
            self._ends = stack.pop_all()
        self._read: dict[Path, int] = {}

    def close(self) -> None:
        self._ends.close()

    def key(self, name: str) -> str:
        answer = httpx.post(
            f"{self.nginx.url}/v1/keys",
            json={"name": name},
            headers={"Authorization": f"Bearer {self.admin}"},
        )
        text: str = answer.raise_for_status().json()["key"]
        return text

    def trouble(self) -> list[str]:
        """What the replicas' logs have of tracebacks and answers of 500 since this was last asked."""
        found = []
        for replica in self.replicas:
            with replica.log_path.open(errors="replace") as log:
                log.seek(self._read.get(replica.log_path, 0))
                new = log.read()
                self._read[replica.log_path] = log.tell()
            lines = [line for line in new.splitlines() if "Traceback" in line or '"status":500' in line]
            found += [line[-400:] for line in lines]
        return found

    def memory(self) -> dict[str, int]:
        """Service of compose -> bytes that count against its limit; of the replicas the larger one.

        A page that processes share counts once, as in a container, and so does what lies in nginx's
        folder for temporary files, which compose keeps in memory (tmpfs).
        """
        assert self.redis.process is not None
        replicas = [_tree(replica.process.pid) for replica in self.replicas if replica.process]
        files = sum(
            _size(file) for name in ("body", "proxy") for file in (self.directory / "nginx" / name).rglob("*")
        )
        return {
            "nginx": _tree(self.nginx.pid) + files,
            "service": max(replicas),
            "redis": _tree(self.redis.process.pid),
        }


class Watch:
    """A thread that looks while the block runs; `peaks` in bytes, `unready` what a replica said of itself."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peaks = dict.fromkeys(limits(), 0)
        self.unready: list[str] = []

    def __enter__(self) -> Watch:
        self._weigh()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _weigh(self) -> None:
        for name, used in self._stand.memory().items():
            self.peaks[name] = max(self.peaks[name], used)

    def _run(self) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._over.wait(_LOOK_SECONDS):
                self._weigh()
                for replica in self._stand.replicas:
                    try:
                        answer = client.get(f"{replica.url}/readyz")
                    except httpx.TransportError as error:
                        self.unready.append(f"/readyz: {type(error).__name__}")
                        continue
                    if answer.status_code != 200:
                        self.unready.append(f"/readyz: {answer.text[:200]}")


def _redis_arguments() -> list[str]:
    """The lines of deploy/redis/redis.conf as arguments; the folder is the test's."""
    found = []
    for line in (ROOT / "deploy" / "redis" / "redis.conf").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name and not name.startswith("#") and name != "dir":
            found += [f"--{name}", *([""] if value == '""' else value.split())]
    return found


def _quotas(share: float) -> dict[str, Any]:
    """What a principal may keep, in proportion to a smaller store."""
    from service.config.settings import Settings

    stored = Settings(_env_file=None, auth=("keys",)).max_stored_bytes_per_principal
    return {"max_stored_bytes_per_principal": int(stored * share)} if stored and share < 1 else {}


def admin_key(redis_url: str) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "service", "keys", "create", "--name", "operator", "--scopes", "chat,admin"],
        cwd=ROOT,
        env=clean_environment(CHAT_REDIS_URL=redis_url),
        check=True,
        timeout=60,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return made.stdout.strip()


def _tree(pid: int) -> int:
    """Bytes of a process and all below it: proportional set size, so that shared pages count once."""
    total = 0
    with contextlib.suppress(OSError):  # it has just ended
        found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        total = int(found[1]) * 1024 if found else 0
    return total + sum(_tree(child) for child in children(pid))


def _size(file: Path) -> int:
    try:
        return file.stat().st_blocks * 512
    except OSError:
        return 0


def settle(stand: Stand, seconds: float) -> None:
    """Until the replicas are at rest after an attack: no request is open, or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if stand.double.health()["open"] == 0:
            return
        time.sleep(0.1)  # between two looks, within `seconds`
