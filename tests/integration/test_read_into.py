"""What a response brings is given to whoever takes it in the callback that brings it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.talking import END, HEAD, asking, body_of, chunk, serving
from tests.support.waiting import eventually_async


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with asking() as client:
        yield client


async def test_what_comes_is_poured_until_there_is_enough_and_the_rest_is_kept(
    client: httpx.AsyncClient,
) -> None:
    taken = asyncio.Event()

    async def tells(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for word in (b"one", b"two", b"enough"):
            writer.write(chunk(word))
            await taken.wait()
            taken.clear()
        writer.write(chunk(b"three") + chunk(b"four") + END)

    got: list[bytes] = []

    def push(data: bytes) -> bool:
        got.append(data)
        taken.set()
        return data == b"enough"

    async with serving(tells) as server, client.stream("GET", server.url) as response:
        body = body_of(response)
        assert await body.read_into(push)
        assert got == [b"one", b"two", b"enough"]
        await eventually_async(lambda: body.complete)
        assert not await body.read_into(push)
        assert b"".join(got[3:]) == b"threefour"


async def test_a_cut_ends_the_pouring_with_an_error(client: httpx.AsyncClient) -> None:
    async def cuts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"hello"))
        writer.close()

    got: list[bytes] = []

    def push(data: bytes) -> bool:
        got.append(data)
        return False

    async with serving(cuts) as server, client.stream("GET", server.url) as response:
        with pytest.raises(httpx.RemoteProtocolError):
            await body_of(response).read_into(push)
    assert got == [b"hello"]


async def test_a_fault_of_whoever_takes_what_comes_is_told_to_whoever_waits(
    client: httpx.AsyncClient,
) -> None:
    said = asyncio.Event()

    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        await writer.drain()
        await said.wait()
        writer.write(chunk(b"hello"))

    def faulty(data: bytes) -> bool:
        raise AssertionError(data)

    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context["exception"]))
    async with serving(says) as server, client.stream("GET", server.url) as response:
        pouring = asyncio.create_task(body_of(response).read_into(faulty))
        await asyncio.sleep(0)
        said.set()
        with pytest.raises(AssertionError, match="hello"):
            await pouring
        await eventually_async(lambda: server.open == 0, within=2)
    assert len(seen) == 1  # and the loop has heard of it, too


async def test_so_is_one_in_the_read_that_ends_the_answer(client: httpx.AsyncClient) -> None:
    said = asyncio.Event()

    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        await writer.drain()
        await said.wait()
        writer.write(chunk(b"hello") + END)

    def faulty(data: bytes) -> bool:
        raise AssertionError(data)

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with serving(says) as server, client.stream("GET", server.url) as response:
        pouring = asyncio.create_task(body_of(response).read_into(faulty))
        await asyncio.sleep(0)
        said.set()
        with pytest.raises(AssertionError, match="hello"):
            await asyncio.wait_for(pouring, 2)
