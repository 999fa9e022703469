"""HTTP/1.1 on one connection: uvicorn's protocol, with a bound on everything that a client may delay.

What is bounded here, whether the request is answered or not:

- a head: its bytes, and the time from its first byte (or the connection) to its last;
- a body: the time from the end of the head to its last byte. Its bytes are api/bodies.py's;
- the rest of a body whose request is answered already (401, 413, ...): bytes and time, then the
  connection is closed;
- the framing of a body (chunk sizes, trailers): its bytes between two of the body;
- requests behind one that is being answered: their number; what was sent behind these is not read;
- an answer: the time for which its client takes nothing of it, also when it has ended. Its bytes are
  unsent.py's;
- connections without a request: closed after 75 s, and sooner where the process has too many;
- connections of the process: beyond the bound a new one takes the place of the one that has been
  without a request for longest; where all have one, it is refused.

An answer to HTTP/1.0 without a length ends with its connection, since that version knows no chunks.

A request to upgrade the connection (h2c, websocket) is served as HTTP/1.1: we offer no upgrade,
and RFC 9110 7.8 lets a server ignore it.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import resource
import socket
import struct
from typing import Any, Final

import httptools
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.telemetry.logs import get_logger

log = get_logger(__name__)

KEEP_ALIVE_SECONDS: Final = 75  # longer than the 60 s of nginx and of most balancers: they close first

_MAX_HEAD: Final = 64 * 1024  # request line and headers; nginx allows 4 x 8 KiB + 1 KiB
_HEAD_SECONDS: Final = 30.0  # a head of 64 KiB needs 11 s at 50 kbit/s
_BODY_SECONDS: Final = 35.0  # longer than the 30 s of api/bodies.py, whose answer is the better one
_REST_SECONDS: Final = 10.0  # for the rest of a body that nobody reads: 1 MiB at 1 Mbit/s needs 9 s
_UNREAD_SECONDS: Final = 60  # without a byte taken of an answer: nginx's own bound
# Of an answer in the kernel. Left to itself that takes 3 MiB a connection from a client that reads nothing.
_SEND_BUFFER: Final = 256 * 1024
# Bytes of it, which are dropped: the largest body that a setting allows. Most clients read no answer before
# all is sent: beyond it they wait for the deadline, and may lose the answer to the reset that ends them.
_MAX_REST: Final = 32 * 1024 * 1024
# Requests that wait on their connection for the answer to another, of 4 KiB each: one piece of 256 KiB from
# the network may have 10,000. Browsers and libraries send none.
_MOST_WAITING: Final = 16
# 5,000 readers on one worker are measured (docs/performance.md); an idle connection holds 5 KiB.
_MAX_CONNECTIONS: Final = 8192
_EVICTED_AT_ONCE: Final = 32  # connections per look at all of them, which takes 1 ms


def _farewell(status: str, text: str, *headers: str) -> bytes:
    """A whole response, after which the connection is closed."""
    head = [
        f"HTTP/1.1 {status}",
        "content-type: text/plain; charset=utf-8",
        f"content-length: {len(text)}",
        *headers,
        "connection: close",
    ]
    return "\r\n".join([*head, "", text]).encode()


TOO_LONG: Final = _farewell("431 Request Header Fields Too Large", "The headers are over 64 KiB.")
TOO_SLOW: Final = _farewell("408 Request Timeout", "The headers did not arrive within 30 s.")
TOO_MANY: Final = _farewell(
    "503 Service Unavailable", "Too many connections; try again in 1 s.", "retry-after: 1"
)


@functools.cache
def most_connections() -> int:
    """Of this process. A quarter of its file descriptors stay for Redis, the provider and files."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_MAX_CONNECTIONS, descriptors * 3 // 4)


class BoundedHttp(HttpToolsProtocol):
    _head: int | None = 0  # bytes of the head so far; None when no head has begun
    _in_body = False  # a head has ended, its body has not
    _upgrading = False  # the head asks for an upgrade; it is read again without that
    _behind_another = False  # a message has ended in the piece of data that is being parsed
    _rest = 0  # bytes of a body that came after its answer
    _brought_body = False  # the piece of data that is being parsed has
    _framing = 0  # bytes of the body's framing since its last byte
    _deadline: asyncio.TimerHandle | None = None  # of the head or body that is being received
    _idle_since = 0.0  # loop time at which this connection was last without a request
    # The request that is being answered. uvicorn's `cycle` is the newest that was read, which may wait.
    _answering: RequestResponseCycle | None = None
    _full = False  # too many wait: what comes is not read, and the last of them closes the connection

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        if len(self.connections) > most_connections() and not self._evict():
            transport.write(TOO_MANY)
            transport.close()
            return
        _bound_unread(transport)
        self._within(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_deadline()
        self.pipeline.clear()
        answering, self._answering = self._answering, None
        super().connection_lost(exc)
        if answering is not None and not answering.response_complete:  # it is told by nobody else
            answering.disconnected = True
            answering.message_event.set()

    def _evict(self) -> bool:
        """Close those that have been without a request for longest. False if there is none."""
        idle = [other for other in self.connections if other is not self and is_idle(other)]
        for other in heapq.nsmallest(_EVICTED_AT_ONCE, idle, key=_idle_since):
            if other.transport.get_write_buffer_size():
                other.transport.abort()  # to close it would wait for its client to read its answer
            else:
                other.transport.close()
        return bool(idle)

    # -- deadlines

    def _within(self, seconds: float) -> None:
        self._no_deadline()
        self._deadline = self.loop.call_later(seconds, self._too_late, seconds)

    def _no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self, seconds: float) -> None:
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and (self.pipeline or not self._in_body):
            # Sent behind a request that is being answered: it is not read until that is done.
            self._within(seconds)
            return
        if self._head:
            self.transport.write(TOO_SLOW)
        self.transport.close()

    # -- what comes

    def data_received(self, data: bytes) -> None:
        # Not uvicorn's: that one gives a kept connection new time with every byte.
        if self.transport.is_closing() or self._full:
            return
        self._behind_another = self._brought_body = False
        self._parse(memoryview(data))
        if self.transport.is_closing():
            return
        if self._head is not None:
            self._head += 0 if self._behind_another else len(data)
            if self._head > _MAX_HEAD:
                self.transport.write(TOO_LONG)
                self.transport.close()
            elif self._deadline is None:
                self._within(_HEAD_SECONDS)
        elif self._in_body:
            self._framing = 0 if self._brought_body else self._framing + len(data)
            if self._framing > _MAX_HEAD:
                self._invalid("The framing of the body is over 64 KiB.")
            elif self._deadline is None:
                self._within(_BODY_SECONDS)

    def _parse(self, data: memoryview) -> None:
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    # The parser takes what follows the head for another protocol.
                    data = data[upgrade.args[0] :]
                    self._read_head_again()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._full:
                self.flow.resume_reading()  # and drop it: what is unread at the close would reset the answers
                return
            self._invalid("Invalid HTTP request received.")

    def _invalid(self, text: str) -> None:
        self.logger.warning(text)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.send_400_response(text)
        else:
            self.transport.close()  # a second status line would end up in the answer's body

    def _read_head_again(self) -> None:
        """The head without its `Upgrade`, in a new parser, which then expects the body.

        Raises HttpParserUpgrade for CONNECT, which asks for one by itself.
        """
        head = [
            b"%b %b HTTP/%b\r\n"
            % (self.parser.get_method(), self.url, self.parser.get_http_version().encode()),
            *(b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"),
            b"\r\n",
        ]
        self._upgrading = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self.parser.feed_data(b"".join(head))

    # -- what the parser calls

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()
        self._head = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer is no header: the application has read those already
        # What surrounds a value is not of it (RFC 9112, 5); the parser leaves what stands behind.
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._head = None
        if len(self.pipeline) >= _MOST_WAITING:
            self._full, self.cycle.keep_alive = True, False
            self._no_deadline()
            raise ValueError("too many requests wait")  # which ends the parsing
        self._in_body = True
        self._rest = self._framing = 0
        self._no_deadline()
        self._unset_keepalive_if_required()
        if not self.url.startswith(b"/"):
            self._take_host_of_target()
        super().on_headers_complete()

    def _take_host_of_target(self) -> None:
        """`GET http://host/path`: RFC 9112 3.2.2 has the Host header ignored for the target's host."""
        scheme, mark, rest = self.url.partition(b"://")
        if mark and scheme.isalpha():
            host, slash, path = rest.partition(b"/")
            host, question, query = host.partition(b"?")  # http://host?query
            self.url = b"/" + path if slash and not question else b"/" + question + query + slash + path
            self.headers[:] = [item for item in self.headers if item[0] != b"host"]
            self.headers.append((b"host", host.rpartition(b"@")[2]))

    def on_body(self, body: bytes) -> None:
        self._brought_body = True
        super().on_body(body)
        if self.cycle.response_complete:
            self._rest += len(body)
            if self._rest > _MAX_REST:
                self.flow.pause_reading()  # until the deadline closes it: the client may read its answer

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._in_body = False
        self._behind_another = True
        self._no_deadline()
        super().on_message_complete()

    # -- what the response calls

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        if cycle.scope["http_version"] == "1.0":
            app = functools.partial(_until_the_end, cycle, app)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()
        if self._in_body and self.cycle.response_complete and not self.transport.is_closing():
            self._within(_REST_SECONDS)


async def _until_the_end(
    cycle: RequestResponseCycle,
    app: ASGI3Application,
    scope: Scope,
    receive: ASGIReceiveCallable,
    send: ASGISendCallable,
) -> None:
    """For HTTP/1.0: a body without a length is what comes until the connection ends.

    Until it is whole, whatever ends the connection resets it, the death of this process too, so that no
    client takes a part for the whole.
    """

    endless = False

    async def send_plain(message: ASGISendEvent) -> None:
        nonlocal endless
        if message["type"] == "http.response.start":
            endless = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            if endless:
                cycle.chunked_encoding = False  # uvicorn makes no chunks then
                _reset_at_close(cycle.transport, True)
        elif message["type"] == "http.response.body" and endless:
            cycle.expected_content_length = len(message.get("body", b""))  # of this piece
            if not message.get("more_body", False):
                _reset_at_close(cycle.transport, False)
        await send(message)

    await app(scope, receive, send_plain)


def _reset_at_close(transport: asyncio.Transport, wanted: bool) -> None:
    """Close by RST instead of FIN (SO_LINGER of 0 s), or as usual."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", wanted, 0))


def _bound_unread(transport: asyncio.Transport) -> None:
    """In bytes, and in time: `close` would wait for a client to read what is on its way.

    Linux ends such a connection; on other systems, where no replica runs, nothing does.
    """
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_UNREAD_SECONDS * 1000))


def is_idle(connection: Any) -> bool:
    """True when no request is being answered; a head or the rest of a body may be on its way."""
    return connection.cycle is None or connection.cycle.response_complete


def _idle_since(connection: Any) -> float:
    since: float = connection._idle_since
    return since
