"""One process tree of `python -m service`, for tests of the processes themselves.

`Running` starts a command in a directory of its own, on a free port, with JSON logs, none of
the caller's CHAT_ and GROQ_ variables, and by default the stand-in application; it can be
signalled, talked to and read from. Whole replicas with the real application: processes.py.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
STANDIN = "tests.support.standin:create_app"

_BOOT_SECONDS = 60.0
_END_SECONDS = 15.0
_CALL_SECONDS = 30.0


def clean_environment(**settings: str) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CHAT_", "GROQ_", "PROMETHEUS_"))
    }
    return {**inherited, "PYTHONPATH": str(ROOT), "CHAT_LOG_FORMAT": "json", **settings}


def call(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=cwd,
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        timeout=_CALL_SECONDS,
        check=False,
    )


def alive(pid: int) -> bool:
    """True for a process that runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class Running:
    """A context manager that leaves no process behind."""

    def __init__(self, command: str, cwd: Path, *, app: str | None = STANDIN, **settings: str) -> None:
        """`OPEN_FILES`, no setting of the service's, is the soft and the hard limit: `256 2048`."""
        files = [int(limit) for limit in settings.pop("OPEN_FILES", "").split()]
        self.log_file = cwd / f"service-{os.urandom(3).hex()}.log"
        self.journal_file = self.log_file.with_suffix(".journal")
        environment = clean_environment(CHAT_PORT="0", STANDIN_JOURNAL=str(self.journal_file), **settings)
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", *(["--app", app] if app else []), command],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files[0], files[1])))
                if files
                else None,
            )
        self._seen: set[int] = set()

    def __enter__(self) -> Running:
        eventually(
            lambda: self.logged("service.ready") or self.process.poll() is not None, within=_BOOT_SECONDS
        )
        assert self.process.poll() is None, self.log_text()
        url = str(self.logged("service.ready")[0]["url"])
        self.port = int(url.rpartition(":")[2])
        self._seen.update(children(self.pid))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seen.update(children(self.pid))
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(_END_SECONDS)
        for pid in self._seen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- processes

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, within: float = _END_SECONDS) -> int:
        return self.process.wait(within)

    def workers(self) -> list[int]:
        """The processes in which the stand-in has started and not ended."""
        started = [pid for _, pid, fact in self.journal() if fact == "startup"]
        return [pid for pid in started if alive(pid)]

    # -- what it said

    def log_text(self) -> str:
        return self.log_file.read_text(errors="replace")

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log with this event."""
        found = []
        for line in self.log_text().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("event") == event:
                    found.append(entry)
        return found

    def journal(self) -> list[tuple[float, int, str]]:
        """What the stand-in did: (time, process, fact)."""
        with contextlib.suppress(FileNotFoundError):
            parts = [line.split() for line in self.journal_file.read_text().splitlines()]
            return [(float(when), int(pid), fact) for when, pid, fact in parts]
        return []

    def facts(self) -> list[str]:
        return [fact for _, _, fact in self.journal()]

    # -- requests

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def get(self, path: str) -> tuple[int, str]:
        """One request on a connection of its own."""
        connection = self.connect()
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    @contextlib.contextmanager
    def stream(self, path: str) -> Iterator[http.client.HTTPResponse]:
        connection = self.connect()
        with contextlib.closing(connection):
            connection.request("GET", path)
            yield connection.getresponse()

    def refuses(self) -> bool:
        """True when nobody listens on the port."""
        try:
            self.get("/pid")
        except ConnectionRefusedError:
            return True
        except (OSError, http.client.HTTPException):
            return False
        return False
