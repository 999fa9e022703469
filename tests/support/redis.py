"""Real Redis servers for tests: started on a free port, stopped with the test.

The program is the one that TESTS_REDIS names (`redis-server`), else the Valkey that the embedded store
ships. Stalled with `stall()`, killed with `kill()`, started again with its append-only file by `restart()`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from service.store.embedded import find_server
from tests.support.needed import program
from tests.support.waiting import eventually

# Below the ports that the kernel hands out (32768 and up), so that nothing takes one between the
# look and the start. Each process of tests has a block of its own, also beside another run of them.
_FIRST_PORT = 20_000
_BLOCK = 350
_BLOCKS = 36


def _ports() -> Iterator[int]:
    first = _own_block()
    yield from (first + 1 + count % (_BLOCK - 1) for count in itertools.count())


def _own_block() -> int:
    """The first port of a block that no other process has: who has a block listens there until it ends."""
    blocks = [_FIRST_PORT + number * _BLOCK for number in range(_BLOCKS)]
    secrets.SystemRandom().shuffle(blocks)
    for first in blocks:
        with socket.socket() as guard, contextlib.suppress(OSError):
            guard.bind(("127.0.0.1", first))
            guard.listen()
            guard.detach()  # the kernel closes it with the process
            return first
    raise AssertionError("36 processes of tests have all ports")


_next_ports = _ports()


def free_port() -> int:
    """A port on which nobody listens; the same is not given twice within 349."""
    for port in itertools.islice(_next_ports, _BLOCK):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


class RedisServer:
    def __init__(
        self, directory: Path, *arguments: str, port: int | None = None, conf: Path | None = None
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.arguments = arguments
        self.conf = conf  # of a sentinel
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        named = os.environ.get("TESTS_REDIS")
        server = program(named) if named else find_server()
        assert server is not None, "no redis-server, and none is shipped for this machine"
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [str(server), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        if self.conf is None:
            command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        else:
            command[1:1] = [str(self.conf)]
            command.append("--sentinel")
        self.process = subprocess.Popen(
            [*command, *self.arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        eventually(self.answers, within=10)

    def client(self) -> Any:
        return redis.Redis(port=self.port, socket_timeout=5, decode_responses=True)

    def answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=1, socket_connect_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stall(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def restart(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
