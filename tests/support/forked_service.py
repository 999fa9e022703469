"""Replicas that begin in a fork of a process which has loaded the service's libraries already.

Of what a worker's start costs, half is libraries that no test is about, and a test of faults starts ten
workers. What is of the project, and what reads the environment when it is loaded (prometheus_client,
Gunicorn), is loaded anew by each replica, so the program is the one that `python -m service` runs. Tests of
how a process is started itself take running.py, which executes that.

    python -m tests.support.forked_service FD     forks for whoever has the other end of the socket

A request is JSON {words, cwd, environment} with two descriptors: the log, and a socket on which the fork says
its pid, and this process its exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import IO, Any, Final

from tests.support.running import ROOT

_LIBRARIES: Final = (
    "dotenv",
    "fastapi",
    "fastapi.middleware.cors",
    "fastapi.openapi.utils",
    "groq",
    "hiredis",
    "httptools",
    "httpx",
    "jwt.algorithms",
    "limits",
    "msgspec",
    "orjson",
    "pydantic_settings",
    "redis.asyncio",
    "redis.asyncio.cluster",
    "redis.asyncio.sentinel",
    "slowapi",
    "structlog",
    "uvicorn",
    "uvloop",
)
_END_SECONDS: Final = 10.0
_LARGEST: Final = 262_144  # a request: an environment, mostly


class ForkedProcess:
    """What `subprocess.Popen` is for a process that another one has begun."""

    def __init__(self, words: list[str], cwd: Path, environment: dict[str, str], log: IO[bytes]) -> None:
        self.returncode: int | None = None
        self._status, theirs = socket.socketpair()
        request = {"words": words, "cwd": str(cwd), "environment": environment}
        with theirs:
            socket.send_fds(_forks(), [json.dumps(request).encode()], [log.fileno(), theirs.fileno()])
        self.pid = int(self._status.recv(32))

    def poll(self) -> int | None:
        with contextlib.suppress(TimeoutError):
            self._wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        try:
            return self._wait(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired("service", timeout or 0) from None

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            self._status.settimeout(timeout)
            with contextlib.suppress(BlockingIOError):
                self.returncode = int(self._status.recv(32) or -signal.SIGKILL)
                self._status.close()
                return self.returncode
            raise TimeoutError
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _forks() -> socket.socket:
    """To the process that forks, which ends when this one does."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        forking = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked_service", str(theirs.fileno())],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    atexit.register(_end, mine, forking)
    return mine


def _end(asking: socket.socket, forking: subprocess.Popen[bytes]) -> None:
    asking.close()
    forking.wait(_END_SECONDS)


def _load() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.partition(".")[0] in ("service", "prometheus_client")]


def _fork_for(asking: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, and tell of each end. The request in a fork; None when nobody asks any more."""
    running: dict[int, tuple[int, socket.socket]] = {}  # by a descriptor of the process
    with selectors.DefaultSelector() as looking:
        looking.register(asking, selectors.EVENT_READ)
        while True:
            for key, _ in looking.select():
                if key.fileobj is asking:
                    said, given, _, _ = socket.recv_fds(asking, _LARGEST, 2)
                    if not said:
                        return None
                    told = socket.socket(fileno=given[1])
                    if (pid := os.fork()) == 0:
                        return {**json.loads(said), "log": given[0], "told": told}
                    os.close(given[0])
                    ended = os.pidfd_open(pid)
                    running[ended] = pid, told
                    looking.register(ended, selectors.EVENT_READ)
                else:
                    looking.unregister(key.fd)
                    pid, told = running.pop(key.fd)
                    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with told, contextlib.suppress(OSError):  # whoever asked may be gone
                        told.send(b"%d" % status)
                    os.close(key.fd)


def _be(request: dict[str, Any]) -> None:
    """The process that was asked for: what `python -m` with these words is."""
    os.setsid()
    os.dup2(request["log"], 1)
    os.dup2(request["log"], 2)
    with request["told"] as told:
        told.send(b"%d" % os.getpid())
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # those of other forks
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["cwd"]
    sys.argv = request["words"]
    runpy.run_module(request["words"][0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _load()
    with socket.socket(fileno=int(sys.argv[1])) as _asking:
        _request = _fork_for(_asking)
    if _request is not None:
        _be(_request)
