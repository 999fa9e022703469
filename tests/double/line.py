"""One HTTP exchange as the double needs it: timed writes, an instant look at a client that leaves,
and ends that no honest server makes (FIN without the last chunk, RST).

Invariant: once the client is gone every write and every sleep raises ClientGone. To be able to
break a connection the server puts its transport into the scope (see `server`); under another
server a broken answer is merely left incomplete.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TRANSPORT: Final = "double.connection"
_LINGER_NOT_AT_ALL: Final = struct.pack("ii", 1, 0)
_WRITES_PER_TURN: Final = 32  # of the loop, so that one fast stream starves nobody


class ClientGone(Exception):
    """The client closed its connection."""


class Line:
    """`size` and `pause` slow all further writes down to pieces of that size."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._gone = False
        self._writes = 0
        self.size = 0
        self.pause = 0.0

    def now(self) -> float:
        return self._loop.time()

    async def body(self) -> bytes:
        """The request's body; from then on the client is watched."""
        parts: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        self._watch = self._loop.create_task(self._watch_client())
        return b"".join(parts)

    async def _watch_client(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def until(self, when: float | None) -> None:
        """Sleep till `when` on the loop's clock, for ever when None."""
        if self._gone:
            raise ClientGone
        if when is not None and when <= self._loop.time():
            return
        # A bare future and one timer: wait_for and friends would cost more than the token.
        self._waiter = self._loop.create_future()
        timer = None if when is None else self._loop.call_at(when, self._wake)
        try:
            await self._waiter
        finally:
            if timer is not None:
                timer.cancel()
        if self._gone:
            raise ClientGone

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, data: bytes) -> None:
        if not self.size:
            await self._write(data)
            return
        for at in range(0, len(data), self.size):
            await self._write(data[at : at + self.size])
            await asyncio.sleep(0)
            if self.pause:
                await self.until(self.now() + self.pause)

    async def _write(self, data: bytes) -> None:
        if self._gone:
            raise ClientGone
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._writes += 1
        if self._writes % _WRITES_PER_TURN == 0:
            await asyncio.sleep(0)

    async def finish(self, data: bytes = b"") -> None:
        if self.size:
            await self.write(data)
            data = b""
        if self._gone:
            raise ClientGone
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def respond(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        await self.start(status, [*headers, ("content-length", str(len(body)))])
        await self.finish(body)

    async def cut(self, reset: bool = False) -> None:
        """Close the connection under the answer: what was written arrives, then FIN (or RST at once)."""
        transport = self._scope.get("extensions", {}).get(TRANSPORT, {}).get("transport")
        if transport is None or self._watch is None:
            return
        if reset:
            # Let the loop hand over what was written: a reset takes back what is still in our buffer.
            await asyncio.sleep(0)
            end = transport.get_extra_info("socket")
            if end.family != socket.AF_UNIX:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
            transport.abort()
        else:
            transport.close()
        await self._watch

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
