"""Replicas that begin in a fork of a process which has loaded the service already.

Of what a worker's start costs, nine tenths are modules that are the same in each, and a test of faults starts
ten workers. What reads the environment when it is loaded (prometheus_client and what is made with it,
Gunicorn) is loaded anew by each replica, and so is the application. Tests of how a process is started itself
take running.py, which executes `python -m service`.

    python -m tests.support.forked_service FD     forks for whoever has the other end of the socket

A request is JSON {words, cwd, environment} with two descriptors: the log, and a socket on which the fork says
its pid, and this process its exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib.util
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

# What these and the service's own modules import stays loaded.
_LOADED: Final = (
    "jwt.algorithms",
    "service.app",
    "service.cli.run",
    "service.cli.serve",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)
_METRICS: Final = "service.telemetry.metrics"
# Loaded by each replica: they read the environment, hold what does, or share memory with its workers only.
_ANEW: Final = (
    "service.app",
    "service.api.routes.scrape",
    "service.telemetry.multiprocess",
    "service.telemetry.worker_deaths",
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
    # Modules hold that of the metrics, which loads itself when something in it is first asked for.
    found = importlib.util.find_spec(_METRICS)
    assert found
    assert found.loader
    found.loader = importlib.util.LazyLoader(found.loader)
    sys.modules[_METRICS] = metrics = importlib.util.module_from_spec(found)
    found.loader.exec_module(metrics)
    setattr(sys.modules["service.telemetry"], "metrics", metrics)  # noqa: B010 - as an import does
    for name in _LOADED:
        importlib.import_module(name)
    for name in [*sys.modules]:
        if name in _ANEW or name.partition(".")[0] == "prometheus_client":
            del sys.modules[name]
            holder, _, leaf = name.rpartition(".")
            if holder in sys.modules:
                vars(sys.modules[holder]).pop(leaf, None)
    assert "gunicorn" not in sys.modules
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all that it looks at


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
