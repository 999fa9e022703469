"""Readers whose connections are full: they hold up nobody, and get everything in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from tests.conftest import Start
from tests.double import expected_text
from tests.support.service import Served
from tests.support.waiting import eventually_async

TOKENS = 120
LONG = {"user_query": f"[[tokens={TOKENS} rate=200]]", "session_id": "s"}


class Connection:
    """A client's end of one request; each part of the body from the second on waits for `space`."""

    def __init__(self) -> None:
        self.space = asyncio.Event()
        self.body: list[bytes] = []
        self.began = 0  # parts, also those that wait
        self.ended = False
        self.left = asyncio.Event()
        self.turn = ""

    async def request(self, served: Served, body: dict[str, Any]) -> None:
        asked = [{"type": "http.request", "body": orjson.dumps(body), "more_body": False}]

        async def receive() -> dict[str, Any]:
            if asked:
                return asked.pop()
            await self.left.wait()
            return {"type": "http.disconnect"}

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": "POST",
            "path": "/chat",
            "raw_path": b"/chat",
            "query_string": b"",
            "root_path": "",
            "state": {},
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("x", 1),
        }
        send: Callable[[dict[str, Any]], Awaitable[None]] = self.send
        await served.app(scope, receive, send)  # type: ignore[arg-type]  # Starlette's are mutable mappings

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            self.turn = dict(message["headers"])[b"x-turn-id"].decode()
            return
        self.began += 1
        if self.began > 1:
            await self.space.wait()
        self.body.append(message["body"])
        self.ended = not message.get("more_body", False)


async def turn_of(served: Served, turn: str) -> dict[str, Any]:
    answer = await served.client.get(f"/v1/sessions/s/turns/{turn}")
    found: dict[str, Any] = answer.json()
    return found


async def test_an_answer_ends_without_its_reader_and_the_reader_gets_all_of_it_later(start: Start) -> None:
    async with start() as served:
        slow = Connection()
        request = asyncio.create_task(slow.request(served, LONG))
        await eventually_async(lambda: slow.began == 2)

        async def completed() -> bool:
            return bool((await turn_of(served, slow.turn))["state"] == "completed")

        await eventually_async(completed, within=10)
        assert (slow.began, len(slow.body)) == (2, 1)  # nothing is begun behind what waits
        slow.space.set()
        await asyncio.wait_for(request, 10)
        assert slow.ended
        assert b"".join(slow.body).decode() == expected_text(TOKENS)


async def test_a_reader_that_leaves_while_its_connection_is_full_leaves_the_turn_alone(start: Start) -> None:
    async with start() as served:
        gone = Connection()
        request = asyncio.create_task(gone.request(served, LONG))
        await eventually_async(lambda: gone.began == 2)
        gone.left.set()
        await asyncio.wait_for(request, 5)
        assert not gone.ended
        path = f"/v1/sessions/s/turns/{gone.turn}/events"
        events = await served.client.get(path, headers={"Accept": "text/event-stream"})
        assert events.text.count("event: turn.completed") == 1
        assert (await turn_of(served, gone.turn))["text"] == expected_text(TOKENS)
