"""Serving a double with uvicorn, as a process of its own or in a thread of a test.

The protocol puts the transport into the scope, without which no connection could be broken.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.demo.server import Server, configured, serve
from tests.double.app import Double, create_double
from tests.double.line import TRANSPORT

_START_SECONDS: Final = 10.0


class _OpenProtocol(HttpToolsProtocol):
    """uvicorn's protocol that lets the application get at the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


def _configured(double: Double, host: str, port: int, uds: str | None) -> uvicorn.Config:
    return configured(double, host, port, uds=uds, http=_OpenProtocol)


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
    try:
        serve(_configured(double, host, port, uds), name="double", parent_pid=parent_pid)
    finally:
        if uds is not None:
            with suppress(FileNotFoundError):
                os.unlink(uds)


@contextmanager
def running(double: Double, host: str = "127.0.0.1", port: int = 0, uds: str | None = None) -> Iterator[str]:
    """Serve in a thread while the block runs; gives the base URL (or `unix:path`)."""
    server = Server(_configured(double, host, port, uds))
    thread = threading.Thread(target=server.run, name="double", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the double did not start")
            time.sleep(0.01)  # between two looks, within `_START_SECONDS`
        yield server.address
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
