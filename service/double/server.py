"""Serving a double with uvicorn, as a process of its own or in a thread of a test.

The protocol puts the transport into the scope, without which no connection could be broken.
A server stops within a tenth of a second or two, open streams or not, and, when told whose
child it is, together with its parent, so that a killed parent leaves no orphan.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.double.app import Double, create_double
from service.double.line import TRANSPORT

_START_SECONDS: Final = 10.0


class _OpenProtocol(HttpToolsProtocol):
    """uvicorn's protocol that lets the application get at the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


class _Server(uvicorn.Server):
    """Tells when it is ready, and ends with its parent."""

    def __init__(self, config: uvicorn.Config, parent_pid: int | None = None, announce: bool = False) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._parent_pid = parent_pid
        self._direct = parent_pid == os.getppid()
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()
        if self._announce:
            print(f"double ready on {self.address} (pid {os.getpid()})", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Nobody waits for the rest of a stream: its client sees the connection break.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets=sockets)

    @property
    def address(self) -> str:
        if self.config.uds:
            return f"unix:{self.config.uds}"
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def on_tick(self, counter: int) -> bool:
        return self._orphaned() or await super().on_tick(counter)

    def _orphaned(self) -> bool:
        if self._parent_pid is None:
            return False
        if self._direct:
            return os.getppid() != self._parent_pid
        try:
            os.kill(self._parent_pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


def _config(double: Double, host: str, port: int, uds: str | None) -> uvicorn.Config:
    return uvicorn.Config(
        double,
        host=host,
        port=port,
        uds=uds,
        loop="uvloop",
        http=_OpenProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=4096,
    )


def run(
    host: str = "127.0.0.1",
    port: int = 9000,
    *,
    uds: str | None = None,
    rate: float = 50.0,
    first_delay: float = 0.0,
    require_key: bool = False,
    parent_pid: int | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent; prints one line when ready."""
    double = create_double(rate=rate, first_delay=first_delay, require_key=require_key)
    # uvicorn raises the signal again when it has stopped; a wanted stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        _Server(_config(double, host, port, uds), parent_pid, announce=True).run()
    finally:
        if uds is not None:
            with suppress(FileNotFoundError):
                os.unlink(uds)


@contextmanager
def running(double: Double, host: str = "127.0.0.1", port: int = 0, uds: str | None = None) -> Iterator[str]:
    """Serve in a thread while the block runs; gives the base URL (or `unix:path`)."""
    server = _Server(_config(double, host, port, uds))
    thread = threading.Thread(target=server.run, name="double", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not server.ready.wait(0.05):
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the double did not start")
        yield server.address
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
