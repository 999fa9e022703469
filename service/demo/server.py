"""Serving with uvicorn, as a process of its own.

A server prints one line when it is ready and ends within a second or two, open streams or not: on
SIGTERM, on SIGINT and, when told whose child it is, with its parent, so that a killed parent leaves no
orphan. The double of the tests is served by the same class.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import uvicorn


class Server(uvicorn.Server):
    """Tells when it is ready, if it has a name, and ends with its parent, if it has one."""

    def __init__(self, config: uvicorn.Config, *, name: str = "", parent_pid: int | None = None) -> None:
        super().__init__(config)
        self._name = name
        self._parent_pid = parent_pid
        self._direct = parent_pid == os.getppid()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self._name:
            print(f"{self._name} ready on {self.address} (pid {os.getpid()})", flush=True)

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


def configured(app: Any, host: str, port: int, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=4096,
        **more,
    )


def serve(config: uvicorn.Config, *, name: str, parent_pid: int | None = None) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent."""
    # uvicorn raises the signal again when it has stopped; a wanted stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    Server(config, name=name, parent_pid=parent_pid).run()
