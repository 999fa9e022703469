"""An HTTP transport for httpx that does little work per token.

HTTP/1.1 over plain or TLS connections, parsed by httptools in the protocol's own callback: no
task, timer or object per read. A paused response costs nothing until it is resumed: the kernel
collects what comes and does not even wake the process (SO_RCVLOWAT; under TLS too).

Invariants: errors are httpx's; a response that was not read to its end takes its connection
with it, at once; a request goes out once more only where a kept connection ended before any byte of its
answer. No proxies, no HTTP/2, no read timeouts: groq.py's caller has timers of its own, and
groq.py takes another transport where a proxy is set.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, NamedTuple, cast

import httptools
import httpx

from service.eventloop.inline_future import InlineFuture

# Bytes of one response that are kept for a slow reader; beyond it the socket is not read.
_MAX_WAITING: Final = 262_144
# While paused, the kernel wakes us for so many bytes or at the end: 1 s of 500 tokens/s.
_PAUSED_BYTES: Final = 65_536
# How long the end of a response is waited for whose content is complete.
_LINGER_SECONDS: Final = 1.0

#: the extension of a request that is set once the server may have received a part of it
SENT: Final = "sent"

Origin = tuple[bytes, bytes, int]


class Body(httpx.AsyncByteStream):
    """The content of one response as it comes. Has a gate: `pause` and `resume`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection: _Connection | None = connection
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._waiting = 0
        self._waiter: InlineFuture[bool] | None = None
        self._push: Callable[[bytes], bool] | None = None
        self._error: Exception | None = None
        self.complete = False

    # For its reader

    async def read(self) -> bytes:
        """All that has arrived since the last time; b"" at the end. Raises httpx.TransportError."""
        while not self._parts:
            if not await self._more():
                return b""
        return self._take_parts()

    async def read_into(self, push: Callable[[bytes], bool]) -> bool:
        """Give bytes to `push`, in the callback that brings them, until it returns True. False at the end.

        Raises httpx.TransportError. What `push` raises breaks the connection and is raised here.
        """
        if self._parts and push(self._take_parts()):
            return True
        self._push = push
        try:
            return await self._more()
        finally:
            self._push = None

    async def _more(self) -> bool:
        if self._error is not None:
            raise self._error
        if self.complete:
            return False
        self._waiter = InlineFuture(loop=self._loop)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def _take_parts(self) -> bytes:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        if self._waiting > _MAX_WAITING and self._connection is not None:
            self._connection.resume_reading()
        self._waiting = 0
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    def pause(self) -> None:
        """From now on leave arriving bytes in the kernel."""
        if self._connection is not None and not self.complete:
            self._connection.await_bytes(_PAUSED_BYTES)

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.await_bytes(1)

    def let_go(self) -> None:
        """The content is complete: keep the connection as soon as the response has ended."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.linger()

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        self._error = None  # its traceback refers to this body: the two would keep each other
        if connection is not None:
            connection.release()

    # For its connection

    def add(self, data: bytes) -> None:
        if self._push is not None:
            if self._push(data):
                self._push = None
                self._wake(True)
            return
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting > _MAX_WAITING and self._connection is not None:
            self._connection.pause_reading()
        self._wake(True)

    def end(self, error: Exception | None = None) -> None:
        if self.complete or self._error is not None:
            return
        self.complete = error is None
        self._error = error
        if error is None:
            self._wake(False)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _wake(self, more: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(more)


class Head(NamedTuple):
    """The head of a response whose content is still to come. httpx's object takes 0.1 ms to make."""

    status: int
    raw: list[tuple[bytes, bytes]]
    headers: Mapping[bytes, bytes]  # by names in lower case
    body: Body

    def response(self) -> httpx.Response:
        return httpx.Response(self.status, headers=self.raw, stream=self.body)

    async def aclose(self) -> None:
        await self.body.aclose()


class _Borrowed(socket.socket):
    """A socket on a descriptor of uvloop's, which it must never close: it may be another's number by then."""

    def __del__(self) -> None:
        self.detach()


class _Connection(asyncio.Protocol):
    """One connection: exchange after exchange, while both sides keep it."""

    def __init__(self, idle: deque[_Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = (
            idle  # idle connections to its origin; when it is full, the one idle for longest is closed
        )
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: InlineFuture[Head] | None = None
        self._body: Body | None = None
        # What one read has brought, while it is parsed.
        self._came: Head | None = None
        self._parts: list[bytes] = []
        self._ended = False
        self._lingering: asyncio.TimerHandle | None = None
        self._stopped = False
        self._awaited = 1
        self._keeps = False
        self.heard = False  # a byte of the answer to the last request has come
        self._until_close = False
        self.lost = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Kept, since each call of uvloop's pseudo-socket makes a socket object.
        self._socket = _Borrowed(fileno=transport.get_extra_info("socket").fileno())
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def exchange(self, request: bytes) -> Head:
        """Send a request; returns with the head of its response. Raises httpx.TransportError."""
        self._headers = []
        self.heard = False
        self._head = InlineFuture(loop=self._loop)
        self._transport.write(request)
        try:
            return await self._head
        except BaseException:
            self._transport.abort()
            raise
        finally:
            self._head = None

    def await_bytes(self, number: int) -> None:
        """Let the kernel wake us only when so many bytes can be read."""
        if self._awaited != number and not self._transport.is_closing():
            self._awaited = number
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, number)

    def pause_reading(self) -> None:
        if not self._stopped and not self._transport.is_closing():
            self._stopped = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._stopped:
            self._stopped = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def linger(self) -> None:
        """Keep the connection once the response has ended, which is about to happen."""
        if self._body is None:
            self.release()
        else:
            self._flow()
            self._lingering = self._loop.call_later(_LINGER_SECONDS, self._transport.abort)

    def _flow(self) -> None:
        self.await_bytes(1)
        self.resume_reading()

    def release(self) -> None:
        """The response is not wanted any more: keep the connection if it has ended, else end it."""
        self._flow()
        if self._body is None and not self.lost and self._keeps:
            self.idle_since = self._loop.time()
            if len(self._idle) == self._idle.maxlen:
                self._idle.popleft().close()
            self._idle.append(self)
        else:
            self._transport.abort()

    def close(self) -> None:
        self._transport.abort()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer; the real one follows
            self._headers = []
            return
        headers = {name.lower(): value for name, value in self._headers}
        self._keeps = self._parser.should_keep_alive()
        self._until_close = b"content-length" not in headers and b"transfer-encoding" not in headers
        self._body = Body(self)
        self._came = Head(status, self._headers, headers, self._body)

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)

    def on_message_complete(self) -> None:
        self._ended = self._body is not None

    def _hand_over(self) -> None:
        """Wake who waits, with all that one read has brought, after the parser has returned."""
        body, parts, head, ended = self._body, self._parts, self._came, self._ended
        self._parts, self._came, self._ended = [], None, False
        if head is not None and self._head is not None and not self._head.done():
            self._head.set_result(head)
        if body is not None and parts:
            body.add(parts[0] if len(parts) == 1 else b"".join(parts))
        if body is not None and ended:
            # Not earlier: what `push` raises for the last part has to reach the task that waits.
            self._body = None
            body.end()
            if self._lingering is not None:
                self._lingering.cancel()
                self._lingering = None
                self.release()

    # asyncio

    def data_received(self, data: bytes) -> None:
        if self._head is None and self._body is None:
            self._transport.abort()  # nobody has asked
            return
        self.heard = True
        try:
            self._parser.feed_data(data)
            self._hand_over()
        except httptools.HttpParserError as error:
            self._fail(httpx.RemoteProtocolError(str(error)))
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._socket.detach()
        if self in self._idle:
            self._idle.remove(self)
        if self._lingering is not None:
            self._lingering.cancel()
        if error is None and self._until_close and self._body is not None:
            self._body.end()
        elif error is None:
            self._fail(httpx.RemoteProtocolError("The server closed the connection before its answer ended."))
        elif isinstance(error, OSError):
            self._fail(httpx.ReadError(str(error)))
        else:
            self._fail(error)  # raised by `push`

    def _fail(self, error: Exception) -> None:
        if self._head is not None and not self._head.done():
            self._head.set_exception(error)
        if self._body is not None:
            self._body.end(error)
            self._body = None


class Transport(httpx.AsyncBaseTransport):
    def __init__(self, *, keepalive_connections: int, keepalive_seconds: float) -> None:
        self._keepalive_connections = keepalive_connections
        self._keepalive_seconds = keepalive_seconds
        self._idle: dict[Origin, deque[_Connection]] = {}
        self._ssl: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        message = serialized(request, await request.aread())
        return (await self.ask(origin_of(request.url), message, request.extensions)).response()

    async def ask(self, origin: Origin, message: bytes, extensions: dict[str, Any]) -> Head:
        """Send a request that is bytes already. Raises httpx.TransportError."""
        kept = self._kept(origin)
        if kept is not None:
            extensions[SENT] = True
            try:
                return await kept.exchange(message)
            except httpx.TransportError:
                # The server closed it while the request was on its way to it: nobody has read that.
                if kept.heard:
                    raise
            del extensions[SENT]
        connection = await self._connect(origin, extensions.get("timeout", {}).get("connect"))
        extensions[SENT] = True
        return await connection.exchange(message)

    def _kept(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin)
        oldest = asyncio.get_running_loop().time() - self._keepalive_seconds
        while idle and idle[0].idle_since < oldest:
            idle.popleft().close()
        return idle.pop() if idle else None

    async def _connect(self, origin: Origin, timeout: float | None) -> _Connection:
        secure = origin[0] == b"https"
        if secure and self._ssl is None:
            self._ssl = httpx.create_ssl_context()
        idle = self._idle.setdefault(origin, deque(maxlen=self._keepalive_connections))
        host, port = origin[1].decode(), origin[2]
        try:
            async with asyncio.timeout(timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(idle), host, port, ssl=self._ssl if secure else None
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return connection

    async def aclose(self) -> None:
        for idle in self._idle.values():
            while idle:
                idle.pop().close()


def origin_of(url: httpx.URL) -> Origin:
    return (url.raw_scheme, url.raw_host, url.port or (443 if url.scheme == "https" else 80))


def serialized(request: httpx.Request, content: bytes) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content
