"""Refusals by servers before the provider, which are not always whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

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
