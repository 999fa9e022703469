"""A proxy between the service and a Redis, which behaves as `mode` says: `pass`, or one of the faults below.

cut      half of what Redis replies, then the end of the connection
reset    Redis has carried the commands out; instead of its reply comes a reset
garbage  each command is answered by something that is no RESP
silent   nothing passes any more, and nothing is closed (half-open connections, also new ones)
late     replies come `delay` seconds late
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

from tests.support.redis import free_port

_NO_RESP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


class RedisProxy:
    def __init__(self, server_port: int) -> None:
        self._to = server_port
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.mode = "pass"
        self.delay = 0.0
        # Held here: what waits for nothing that ever comes is garbage to asyncio, which says so.
        self._serving: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[RedisProxy]:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            serving = list(self._serving)
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.ensure_future(self._ask(reader, back, writer)),
            asyncio.ensure_future(self._reply(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, back):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _ask(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.mode == "garbage":
                    writer.write(_NO_RESP)
                    continue
                await self._hold()
                back.write(data)
                await back.drain()

    async def _reply(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await there.read(65_536):
                if self.mode == "cut":
                    writer.write(data[: (len(data) + 1) // 2])
                    return
                if self.mode == "reset":
                    end = writer.get_extra_info("socket")
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                    return
                if self.mode == "late":
                    await asyncio.sleep(self.delay)  # the fault
                await self._hold()
                writer.write(data)
                await writer.drain()

    async def _hold(self) -> None:
        if self.mode == "silent":
            await asyncio.Event().wait()
