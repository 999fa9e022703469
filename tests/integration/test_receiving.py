"""Bodies that never end: a worker holds few of their bytes, and one caller fills no other's room."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from service.api import receiving
from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.waiting import eventually_async


async def test_one_caller_may_not_fill_the_room_for_bodies(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "_OF_ONE", 300_000)
    async with start(auth="keys", max_body_bytes=100_000) as served, contextlib.AsyncExitStack() as stack:
        greedy, other = await make_key(served, "greedy"), await make_key(served, "other")
        host, port = served.url.removeprefix("http://").split(":")
        held = served.app.state.edge.receiving._held
        opened = []
        for number in range(3):
            reader, writer = await asyncio.open_connection(host, int(port))
            opened.append((reader, writer))  # a stream that is collected is closed
            stack.callback(writer.transport.abort)
            head = f"authorization: Bearer {greedy}\r\ncontent-type: application/json\r\n"
            writer.write(f"POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\n{head}".encode())
            writer.write(b"content-length: 100000\r\n\r\n" + b" " * 99_000)
            await writer.drain()
            expected = 99_000 * (number + 1)
            await eventually_async(lambda expected=expected: held.total() == expected, within=10)

        async def create(key: str) -> int:
            body = b'{"title": "x"}' + b" " * 50_000
            headers = {**bearer(key), "Content-Type": "application/json"}
            return (await served.client.post("/v1/sessions", content=body, headers=headers)).status_code

        assert await create(greedy) == 429
        assert await create(other) == 201
        await stack.aclose()  # they hang up
        await eventually_async(lambda: not held, within=10)
        assert await create(greedy) == 201
        assert not held
