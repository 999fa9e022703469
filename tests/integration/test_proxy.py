"""A provider behind the proxy that the environment names."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import Start
from tests.double import expected_text


class Proxy:
    """Forwards what it is asked for, and remembers the paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        method, address, version = first.split(b" ")
        url = httpx.URL(address.decode())
        self.paths.append(url.path)
        there, back = await asyncio.open_connection(url.host, url.port)
        back.write(b"%b %b %b\r\n%b" % (method, url.raw_path, version, rest))
        await asyncio.gather(_pipe(reader, back), _pipe(there, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    found = Proxy()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    yield found
    server.close()


async def asks(url: str, wish: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        return await client.post(f"{url}/chat", json={"user_query": wish})


async def test_an_answer_comes_through_it_whole(start: Start, proxy: Proxy) -> None:
    async with start() as served:
        answer = await asks(served.url, "[[tokens=200 rate=400 seed=3]]")
        assert (answer.status_code, answer.text) == (200, expected_text(200, 3))
    assert proxy.paths == ["/openai/v1/chat/completions"]


async def test_a_refusal_comes_through_it_as_one(start: Start, proxy: Proxy) -> None:
    async with start() as served:
        answer = await asks(served.url, "[[fault=400]]")
        assert (answer.status_code, answer.json()["code"]) == (400, "upstream_rejected")
    assert proxy.paths == ["/openai/v1/chat/completions"]


async def test_an_answer_that_is_cut_is_not_taken_for_a_whole_one(start: Start, proxy: Proxy) -> None:
    async with start() as served:
        with pytest.raises(httpx.RemoteProtocolError):
            await asks(served.url, "[[tokens=200 rate=400 fault=cut after=20]]")
