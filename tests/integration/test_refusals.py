"""Refusals by servers before the provider, which are not always whole."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator

import orjson
import pytest

from tests.conftest import Start

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 200\r\nConnection: close\r\n\r\n<html>"
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    b'data: {"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


@contextlib.asynccontextmanager
async def saying(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that says these, one to each connection, and then closes it; what it has said."""
    said: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        said.append(answers[len(said)])
        writer.write(said[-1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", said


async def test_one_whose_body_is_cut_is_retried_by_its_status(start: Start) -> None:
    async with saying(BUSY, ANSWER) as (url, said), start(groq_base_url=url) as served:
        answer = await served.client.post("/chat", json={"user_query": "Hello?"})
        assert (answer.status_code, answer.text) == (200, "Hello")
        assert said == [BUSY, ANSWER]


def refused(body: bytes, *headers: bytes, status: bytes = b"503 Service Unavailable") -> bytes:
    head = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body), b"Connection: close"]
    return b"\r\n".join([*head, b"", body])


@pytest.mark.parametrize(
    "refusal",
    [
        refused(gzip.compress(b"{}" * 99)[:-9], b"Content-Encoding: gzip"),
        refused(b"no gzip", b"Content-Encoding: gzip"),
        refused(orjson.dumps({"error": {"code": "blocked_api_access", "message": "x" * 2_000_000}})),
        refused(b"[" * 100_000),
    ],
    ids=["a packed body that is cut", "one that is none", "too long", "nested"],
)
async def test_one_whose_body_cannot_be_read_is_retried_by_its_status(start: Start, refusal: bytes) -> None:
    async with saying(refusal, ANSWER) as (url, said), start(groq_base_url=url) as served:
        answer = await served.client.post("/chat", json={"user_query": "Hello?"})
        assert (answer.status_code, answer.text) == (200, "Hello")
        assert said == [refusal, ANSWER]


HUGE = b"1" + b"0" * 30


@pytest.mark.parametrize(
    "more",
    [
        b'"x_groq":{"id":"r","seed":%b}' % HUGE,
        b'"usage":{"prompt_tokens":1000000000000000000,"completion_tokens":%b}' % HUGE,
        b'"usage":{"prompt_tokens":3,"completion_tokens":1,"queue_time":%b,"total_time":-1}' % HUGE,
        b'"x":%b' % (b"[" * 300 + b"]" * 300),
    ],
    ids=["seed", "tokens", "times", "what we do not know"],
)
async def test_absurd_figures_beside_an_answer_neither_fail_it_nor_are_booked(
    start: Start, more: bytes
) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + (
        b'data: {"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}],%b}\n\ndata: [DONE]\n\n'
        % more
    )
    async with saying(said, ANSWER) as (url, calls), start(groq_base_url=url) as served:
        answer = await served.client.post("/chat", json={"user_query": "Hello?"})
        assert (answer.status_code, answer.text) == (200, "Hello")
        assert len(calls) == 1
        usage = (await served.client.get("/v1/usage")).json()["data"]
        assert [(day["turns"], day["completion_tokens"]) for day in usage] == [(1, 1)]
        assert usage[0]["prompt_tokens"] < 1_000


async def test_a_limit_that_is_no_number_is_none(start: Start) -> None:
    odd = ANSWER.replace(b"\r\nConn", b"\r\nx-ratelimit-remaining-tokens: \xb2\r\nConn")
    async with saying(odd) as (url, _), start(groq_base_url=url) as served:
        answer = await served.client.post("/chat", json={"user_query": "Hello?"})
        assert (answer.status_code, answer.text) == (200, "Hello")


async def test_what_is_nested_deeper_than_can_be_read_is_a_garbled_attempt(start: Start) -> None:
    deep = ANSWER.replace(b'{"content"', b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b',"content"')
    async with saying(deep, ANSWER) as (url, said), start(groq_base_url=url) as served:
        answer = await served.client.post("/chat", json={"user_query": "Hello?"})
        assert (answer.status_code, answer.text) == (200, "Hello")
        assert said == [deep, ANSWER]
