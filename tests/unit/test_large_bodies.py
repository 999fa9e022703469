"""Large bodies that come at once are parsed one after the other, and others have their turn between."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
from fastapi import Request

from service.api import bodies
from service.api.body_bounds import BodyBounds

LARGE = orjson.dumps({"content": "x" * 2 * bodies.SMALL_BYTES})
SMALL = b'{"content": "x"}'


def requests(body: bytes, number: int) -> list[Request]:
    settings = SimpleNamespace(max_body_bytes=1_048_576)
    state = SimpleNamespace(edge=SimpleNamespace(settings=settings, body_bounds=BodyBounds(1_048_576)))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    request_state = SimpleNamespace(caller="", principal="", body_bytes=0)
    scope = {
        "chat.request_state": request_state,
        "type": "http",
        "method": "POST",
        "headers": headers,
        "app": SimpleNamespace(state=state),
    }
    return [Request(dict(scope), receive) for _ in range(number)]


async def turns_of_others_while(body: bytes, number: int) -> int:
    """How often another task goes on while so many bodies that came at once are read."""
    reading = [asyncio.create_task(bodies.read_json(request)) for request in requests(body, number)]
    turns = 0
    while not all(task.done() for task in reading):
        turns += 1
        await asyncio.sleep(0)
    assert [await task for task in reading] == [orjson.loads(body)] * number
    return turns


async def test_others_have_a_turn_after_each_step_of_each_large_body() -> None:
    assert await turns_of_others_while(LARGE, 20) >= 3 * 20


async def test_small_bodies_wait_for_nobody() -> None:
    assert await turns_of_others_while(SMALL, 20) <= 3
