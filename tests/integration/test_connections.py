"""What a client can leave undone ends by itself: a head, a body, silence, too many connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.api import bodies
from service.serving import http_protocol, unsent
from tests.conftest import Start
from tests.support.service import Served
from tests.support.waiting import eventually_async

HEAD = b"POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
END = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Pair]:
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def dripped(pair: Pair, first: bytes, drop: bytes, every: float = 0.02) -> bytes:
    """Everything that is answered until the server closes, while a drop comes again and again."""
    reader, writer = pair
    answered = bytearray()

    async def read() -> None:
        with contextlib.suppress(ConnectionError):  # a drop that comes after the end is answered by one
            while piece := await reader.read(65_536):
                answered.extend(piece)

    writer.write(first)
    reading = asyncio.create_task(read())
    async with asyncio.timeout(20):
        while not reading.done():
            writer.write(drop)
            await asyncio.wait([reading], timeout=every)
    return bytes(answered)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds in tenths of a second instead of tens."""
    for name, seconds in (("_HEAD_SECONDS", 0.4), ("_BODY_SECONDS", 8.0), ("_REST_SECONDS", 0.4)):
        monkeypatch.setattr(http_protocol, name, seconds)
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.4)


async def test_a_head_that_drips_is_ended(served: Served, short: None) -> None:
    async with connected(served) as pair:
        answer = await dripped(pair, b"GET /livez HTTP/1.1\r\nx: ", b"a")
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_the_head_of_a_later_request_too(served: Served, short: None) -> None:
    async with connected(served) as pair:
        answer = await dripped(
            pair, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nx: ", b"a"
        )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer


async def test_silence_is_not_prolonged_by_empty_lines(
    served: Served, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(served) as pair:
        assert (await dripped(pair, b"", b"\r\n")).startswith(b"HTTP/1.1 408 ")
    original = http_protocol.BoundedHttp.connection_made

    def connection_made(self: http_protocol.BoundedHttp, transport: asyncio.Transport) -> None:
        original(self, transport)
        self.timeout_keep_alive = 1

    monkeypatch.setattr(http_protocol.BoundedHttp, "connection_made", connection_made)
    async with connected(served) as pair:
        answer = await dripped(pair, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n", b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("framing", "drop"),
    [(b"content-length: 100000\r\n\r\n", b" "), (b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n")],
    ids=["length", "chunked"],
)
async def test_a_body_that_drips_is_refused_and_then_cut(
    served: Served, short: None, framing: bytes, drop: bytes
) -> None:
    async with connected(served) as pair:
        answer = await dripped(pair, HEAD + framing, drop)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"did not arrive within" in answer


async def test_a_body_that_drips_is_cut_even_if_nobody_waits_for_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "_BODY_SECONDS", 0.4)
    async with connected(served) as pair:
        assert await dripped(pair, HEAD + b"content-length: 100000\r\n\r\n", b" ") == b""


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST /v1/sessions", 401),
        (b"POST /v1/nothing", 404),
        (b"PUT /chat", 405),
        (b"GET /livez", 200),
        (b"POST /v1/sessions/s/turns/t/stop", 401),
        (b"GET /v1/sessions", 401),
    ],
)
async def test_the_rest_of_a_body_that_nobody_reads_is_bounded_in_time(
    start: Start, short: None, line: bytes, status: int
) -> None:
    async with start(auth="keys") as served, connected(served) as pair:
        head = line + b" HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n"
        answer = await dripped(pair, head, b" ")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_the_rest_of_a_body_that_nobody_reads_is_bounded_in_bytes(
    served: Served, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0
    original = http_protocol.BoundedHttp.on_body

    def on_body(self: http_protocol.BoundedHttp, body: bytes) -> None:
        nonlocal taken
        taken += len(body)
        original(self, body)

    monkeypatch.setattr(http_protocol.BoundedHttp, "on_body", on_body)
    monkeypatch.setattr(http_protocol, "_MAX_REST", 2_000_000)
    async with connected(served) as (reader, writer):
        writer.write(b"POST /v1/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50000000\r\n\r\n")
        for _ in range(500):
            writer.write(b"x" * 100_000)
        async with asyncio.timeout(20):
            answer = await reader.readuntil(b"\r\n\r\n")
            await eventually_async(writer.is_closing, within=10)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert taken < 3_000_000


async def test_who_sends_all_before_it_reads_is_told_that_a_body_is_too_large(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "_REST_SECONDS", 60.0)
    async with asyncio.timeout(50):
        answer = await served.client.post("/v1/chat/completions", json={"messages": "x" * 20_000_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


async def test_a_body_that_comes_late_but_in_time_leaves_the_connection_open(served: Served) -> None:
    async with connected(served) as (reader, writer):
        writer.write(b"POST /v1/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
            writer.write(b"12345" + END)
            assert b'{"status":"alive"}' in await reader.read()


async def test_an_answer_may_take_longer_than_its_request(served: Served, short: None) -> None:
    body = b'{"user_query":"[[tokens=20 rate=20]]"}'
    head = HEAD.replace(b"/v1/sessions", b"/chat") + b"content-length: %d\r\n\r\n" % len(body)
    async with connected(served) as (reader, writer):
        writer.write(head + body + b"GET /livez HTTP/1.1\r\n")  # the next head has begun
        writer.write(b"host: localhost\r\n")
        async with asyncio.timeout(20):
            answer = await reader.readuntil(b"\r\n0\r\n\r\n")
            writer.write(b"connection: close\r\n\r\n")
            after = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'{"status":"alive"}' in after


async def test_a_large_body_with_the_next_head_behind_it_is_no_large_head(served: Served) -> None:
    body = b'{"id":"s","title":"%s"}' % (b"x" * 90)
    whole = HEAD + b"content-length: %d\r\n\r\n" % 200_000 + body + b" " * (200_000 - len(body))
    async with connected(served) as (reader, writer):
        writer.write(whole + END[:30])
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")
            writer.write(END[30:])
            assert b'{"status":"alive"}' in await reader.read()


async def test_garbage_behind_a_request_does_not_get_into_its_answer(served: Served) -> None:
    body = b'{"user_query":"[[tokens=40 rate=20]]"}'
    head = HEAD.replace(b"/v1/sessions", b"/chat") + b"content-length: %d\r\n\r\n" % len(body)
    async with connected(served) as (reader, writer):
        writer.write(head + body)
        async with asyncio.timeout(20):
            answer = await reader.readuntil(b"\r\n\r\n")
            answer += await reader.readuntil(b"\r\n")
            writer.write(b"\x00garbage\r\n\r\n")
            answer += await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Invalid HTTP" not in answer


async def test_one_connection_too_many_takes_the_place_of_the_idlest(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "most_connections", lambda: 3)
    monkeypatch.setattr(http_protocol, "_EVICTED_AT_ONCE", 1)
    async with (
        start() as served,
        connected(served) as first,
        connected(served) as second,
        connected(served) as third,
    ):
        for reader, writer in (first, second, third):
            writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"200" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        async with connected(served) as (reader, writer):
            writer.write(END)
            assert b'{"status":"alive"}' in await asyncio.wait_for(reader.read(), 5)
        reader, _ = first
        assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"}")
        assert reader.at_eof()
        for reader, _ in (second, third):
            assert not reader.at_eof()


async def test_where_all_are_answering_the_one_too_many_is_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "most_connections", lambda: 1)
    async with start() as served, connected(served) as (reader, writer):
        body = b'{"user_query":"[[tokens=100 rate=20]]"}'
        head = HEAD.replace(b"/v1/sessions", b"/chat") + b"content-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        async with connected(served) as (other, _):
            answer = await asyncio.wait_for(other.read(), 5)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer


def test_the_bound_leaves_descriptors_for_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    most = http_protocol.most_connections.__wrapped__  # without what it remembers
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert most() == 768
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_048_576, 1_048_576))
    assert most() == 8192


@pytest.mark.parametrize("framing", [b"0\r\nx: ", b"1;"], ids=["a trailer", "an extension of a chunk"])
async def test_framing_that_never_ends_is_no_way_to_fill_the_memory(served: Served, framing: bytes) -> None:
    async with connected(served) as (reader, writer):
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n" + framing)
        sent = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while sent < 20_000_000 and not reader.at_eof():
                    writer.write(b"x" * 50_000)
                    sent += 50_000
                    await writer.drain()
                    await asyncio.sleep(0)
    assert sent < 20_000_000
    assert not served.app.state.edge.body_bounds._held


async def test_small_chunks_and_a_trailer_are_no_such_framing(served: Served) -> None:
    body = b'{"id":"s","title":"%b"}' % (b"x" * 200)
    chunks = b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in body) + b"0\r\nx: y\r\n\r\n"
    async with connected(served) as (reader, writer):
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + END)
        answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b'{"status":"alive"}' in answer


async def unread(served: Served, stack: contextlib.AsyncExitStack) -> socket.socket:
    """A client that asks for a page of 1 MiB and takes next to nothing of it."""
    host, port = served.url.removeprefix("http://").split(":")
    end = stack.enter_context(socket.socket())
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    end.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(end, (host, int(port)))
    ask = b"GET /v1/sessions/s/messages?limit=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n"
    await loop.sock_sendall(end, ask)
    return end


async def whole(end: socket.socket) -> bool:
    """Is all of an answer there, for a client that comes round to reading it?"""
    answer = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(end, 65_536), 20):
            answer += piece
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    return len(body) == int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or -1)


async def a_page_of_two_mebibytes(served: Served) -> None:
    history = [{"role": "user", "content": "\u8a9e" * 700} for _ in range(450)]
    body = {"session_id": "s", "user_query": "[[tokens=1]]", "history": history}
    assert (await served.client.post("/chat-with-history", json=body)).status_code == 200


def connections(*, idle: bool = False) -> int:
    """Of the service under test; `idle`: those that have had their answer, as far as the service knows."""
    found = [one for one in gc.get_objects() if type(one) is http_protocol.BoundedHttp and one.parser]
    return sum(not idle or (one.cycle is not None and one.cycle.response_complete) for one in found)


async def test_an_answer_that_is_not_read_ends_with_its_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the answer's end nor a keep-alive's would: they wait for the client to read."""
    monkeypatch.setattr(http_protocol, "_UNREAD_SECONDS", 0.5)
    await a_page_of_two_mebibytes(served)
    async with contextlib.AsyncExitStack() as stack:
        end = await unread(served, stack)
        await eventually_async(lambda: connections() == 2)
        await eventually_async(lambda: connections() == 1, within=10)  # that of the test's client
        assert not await whole(end)


async def test_of_too_much_that_is_not_read_most_goes_first(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsent, "_MOST_BYTES", 3_000_000)
    await a_page_of_two_mebibytes(served)
    async with contextlib.AsyncExitStack() as stack:
        ends = [await unread(served, stack) for _ in range(8)]
        await eventually_async(lambda: connections() == 9)
        await eventually_async(lambda: connections() <= 4, within=10)
        assert 2 <= sum([await whole(end) for end in ends]) <= 4


async def test_whoever_reads_slowly_gets_all_of_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "_UNREAD_SECONDS", 3.0)
    await a_page_of_two_mebibytes(served)
    async with contextlib.AsyncExitStack() as stack:
        end = await unread(served, stack)
        loop, head = asyncio.get_running_loop(), b""
        async with asyncio.timeout(60):
            while b"\r\n\r\n" not in head:
                head += await loop.sock_recv(end, 1)
            size = taken = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while taken:
                piece = await loop.sock_recv(end, 20_000)
                assert piece
                taken -= len(piece)
                await asyncio.sleep(0.08)  # 5 s in all
    assert size > 900_000


async def test_one_that_is_not_read_is_no_idle_connection_that_cannot_be_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_page_of_two_mebibytes(served)
    monkeypatch.setattr(http_protocol, "most_connections", lambda: 3)
    async with contextlib.AsyncExitStack() as stack:
        ends = [await unread(served, stack), await unread(served, stack)]
        await eventually_async(lambda: connections(idle=True) == 3)
        async with connected(served) as (reader, writer):
            writer.write(END)
            assert b'{"status":"alive"}' in await asyncio.wait_for(reader.read(), 5)
        await eventually_async(lambda: connections() == 0)
        assert not any([await whole(end) for end in ends])
