"""A call to the provider: what it is asked with, what its answer says, how each way to fail is told."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from service.config.settings import Settings
from service.errors import UpstreamError
from service.upstream.base import Batch, Limits, Request
from service.upstream.groq import Groq
from service.upstream.models import load_catalogue
from service.upstream.transport import SENT, Origin, Transport, origin_of

MODEL = load_catalogue(None, None).default
Answer = Callable[[httpx.Request], httpx.Response]
EVENTS = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
ALL_PARAMS: dict[str, Any] = {
    "temperature": 0,
    "top_p": 0.5,
    "seed": 7,
    "stop": ["x"],
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "user": "u",
}


class Stream(httpx.AsyncByteStream):
    """Pieces, and then an error, if any."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self._pieces, self._error = pieces, error
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += len(piece)
            yield piece
        if self._error is not None:
            raise self._error


def request(**more: Any) -> Request:
    given: dict[str, Any] = {"params": {}, "api_key": "gsk_1", **more}
    return Request(MODEL, [{"role": "user", "content": "Hi"}], 9, turn_id="t_1", **given)


@asynccontextmanager
async def asking(answer: Answer, base: str | None = None) -> AsyncIterator[Groq]:
    """Through httpx, as behind a proxy."""
    provider = Groq(Settings(_env_file=None, groq_base_url=base))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        provider._calls.http, provider._calls.direct = http, None
        yield provider
    await provider.close()


async def read(provider: Groq, asked: Request | None = None) -> tuple[list[Batch], Any]:
    batches: list[Batch] = []
    async with provider.call(asked or request()) as answer:
        await answer.read_into(batches.append)
    return batches, answer


async def failure(answer: Answer, asked: Request) -> UpstreamError:
    async with asking(answer) as provider:
        with pytest.raises(UpstreamError) as caught:
            await read(provider, asked)
    return caught.value


async def test_a_call_says_all_that_was_asked_and_nothing_else() -> None:
    seen: list[httpx.Request] = []

    def answer(call: httpx.Request) -> httpx.Response:
        seen.append(call)
        return httpx.Response(200, stream=Stream(WORD, END), headers=EVENTS)

    said = {"model": MODEL.id, "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 9}
    async with asking(answer) as provider:
        await read(provider, request(params={**ALL_PARAMS, "n": 5, "secret": 1}, traceparent="00-a-b-01"))
        await read(provider, request(params={"seed": None}, whole=True, api_key=""))
    streamed, whole = (json.loads(call.content) for call in seen)
    assert streamed == {**said, **ALL_PARAMS, "stream": True, "stream_options": {"include_usage": True}}
    assert whole == {**said, "stream": False}
    assert [call.headers["authorization"] for call in seen] == ["Bearer gsk_1", "Bearer none"]
    assert [call.headers.get("traceparent") for call in seen] == ["00-a-b-01", None]
    assert [str(call.url) for call in seen] == ["https://api.groq.com/openai/v1/chat/completions"] * 2


def streaming(*pieces: bytes, error: Exception | None = None, limits: dict[str, str] | None = None) -> Answer:
    """A provider that answers each call with this stream."""
    return lambda _: httpx.Response(
        200, stream=Stream(*pieces, error=error), headers={**EVENTS, **(limits or {})}
    )


async def test_what_an_answer_says_of_its_limits_is_each_under_its_name() -> None:
    told = {
        "x-ratelimit-limit-requests": "11",
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-limit-tokens": "13",
        "x-ratelimit-remaining-tokens": "14",
    }
    for headers, limits in (
        (told, Limits(limit_requests=11, remaining_requests=12, limit_tokens=13, remaining_tokens=14)),
        ({"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "many"}, Limits()),
    ):
        async with asking(streaming(WORD, END, limits=headers)) as provider:
            _, answer = await read(provider)
        assert answer.limits == limits


async def test_an_answer_that_had_ended_is_whole_whatever_becomes_of_its_connection() -> None:
    lost = httpx.ReadError("reset")
    async with asking(streaming(WORD, END, error=lost)) as provider:
        batches, _ = await read(provider)
    assert [batch.finish_reason for batch in batches] == [None, "stop"]
    for pieces in ((WORD,), ()):
        assert (await failure(streaming(*pieces, error=lost), request())).kind == "cut"


MIB = b"x" * 1_048_576


@pytest.mark.parametrize(
    ("status", "headers", "kind", "most"), [(200, JSON, "garbled", 5), (503, JSON, "capacity", 2)]
)
async def test_of_an_answer_without_an_end_a_bounded_part_is_read(
    status: int, headers: dict[str, str], kind: str, most: int
) -> None:
    body = Stream(*[MIB] * 20)
    found = await failure(lambda _: httpx.Response(status, stream=body, headers=headers), request(whole=True))
    assert (found.kind, body.taken // len(MIB)) == (kind, most)


@pytest.mark.parametrize(
    ("status", "billable"),
    [(200, True), (400, False), (401, False), (429, False), (500, False), (503, False)],
)
async def test_a_refused_call_is_not_billed(status: int, billable: bool) -> None:
    def answer(call: httpx.Request) -> httpx.Response:
        return httpx.Response(
            status, stream=Stream(WORD, END) if status == 200 else Stream(b"{}"), headers=EVENTS
        )

    asked = request()
    async with asking(answer) as provider:
        try:
            await read(provider, asked)
        except UpstreamError:
            assert not billable
    assert asked.billable is billable


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EMFILE, "overloaded"),
        (errno.ENFILE, "overloaded"),
        (errno.ECONNREFUSED, "upstream_unavailable"),
        (errno.EHOSTUNREACH, "upstream_unavailable"),
    ],
)
async def test_who_is_to_blame_for_a_call_that_never_left_is_told_and_nothing_billed(
    number: int, code: str
) -> None:
    def answer(call: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=call) from OSError(number, "no")

    asked = request()
    found = await failure(answer, asked)
    assert (found.code, found.kind, found.retryable, asked.billable) == (code, "connect", True, False)


async def test_a_provider_that_does_not_take_a_connection_in_time_has_not_seen_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never, raising=False)
    transport = Transport(keepalive_connections=1, keepalive_seconds=1)
    noted: dict[str, Any] = {"timeout": {"connect": 0.01}}
    with pytest.raises(httpx.ConnectTimeout):
        await transport.ask((b"http", b"provider.example", 80), b"", noted)
    assert SENT not in noted


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[tuple[asyncio.Server, Origin]]:
    """Each connection is talked to until its client has no more to say."""
    talks: set[asyncio.Task[Any]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            talks.add(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await talk(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    found = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield found, (b"http", b"127.0.0.1", found.sockets[0].getsockname()[1])
    finally:
        found.close()
        async with asyncio.timeout(10):
            await asyncio.gather(*talks)


ASK = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(("said", "connections"), [("close", 2), ("keep-alive", 1)])
async def test_a_connection_is_kept_where_the_provider_keeps_it(said: str, connections: int) -> None:
    opened = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: {said}\r\n\r\nok".encode())

    transport = Transport(keepalive_connections=1, keepalive_seconds=60)
    async with server(talk) as (_, origin):
        for _ in range(2):
            head = await transport.ask(origin, ASK, {})
            assert await head.body.read() == b"ok"
            assert await head.body.read() == b""
            await head.aclose()
        await transport.aclose()
    assert opened == connections


async def test_a_call_that_a_kept_connection_did_not_take_and_no_other_could_has_not_left() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")

    transport = Transport(keepalive_connections=1, keepalive_seconds=60)
    noted: dict[str, Any] = {}
    async with server(talk) as (listening, origin):
        head = await transport.ask(origin, ASK, {})
        assert await head.body.read() == b""
        await head.aclose()
        listening.close()
        with pytest.raises(httpx.ConnectError):
            await transport.ask(origin, ASK, noted)
        assert SENT not in noted
        await transport.aclose()


@pytest.mark.parametrize(
    ("url", "port"),
    [("https://a.example/v1", 443), ("http://a.example/v1", 80), ("https://a.example:8443", 8443)],
)
def test_an_address_has_the_port_of_its_scheme_unless_it_names_one(url: str, port: int) -> None:
    assert origin_of(httpx.URL(url)) == (url.partition(":")[0].encode(), b"a.example", port)


async def test_the_first_address_that_there_is_is_kept() -> None:
    asked: list[str] = []

    def answer(call: httpx.Request) -> httpx.Response:
        asked.append(call.url.path)
        known = call.url.path == "/v1/chat/completions"
        return httpx.Response(
            200 if known else 404, stream=Stream(WORD, END) if known else Stream(b"{}"), headers=EVENTS
        )

    async with asking(answer, "http://127.0.0.1:9") as provider:
        await read(provider)
        await read(provider)
    assert asked == ["/openai/v1/chat/completions", "/v1/chat/completions", "/v1/chat/completions"]
