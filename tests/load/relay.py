"""R0, the unit of all figures: a TCP proxy that passes bytes on and understands none of them.

What it costs to have a process in the way at all: one read and one write per token, by uvloop.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Upstream(asyncio.Protocol):
    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.close()


class Client(asyncio.Protocol):
    def __init__(self, port: int) -> None:
        self._port = port
        self._upstream: asyncio.Transport | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        self._upstream, _ = await asyncio.get_running_loop().create_connection(
            lambda: Upstream(self._transport), "127.0.0.1", self._port
        )
        self._upstream.write(self._early)

    def data_received(self, data: bytes) -> None:
        if self._upstream is None:
            self._early += data
        else:
            self._upstream.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._opening.cancel()
        if self._upstream is not None:
            self._upstream.close()


async def serve(port: int, upstream: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Client(upstream), "127.0.0.1", port, backlog=4096
    )
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
