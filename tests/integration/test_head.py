"""HEAD answers where GET does, with GET's status and headers, and at once, whatever GET would stream."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.service import Served
from tests.support.waiting import eventually_async

# Differ from one answer to the next, or say how a body is framed that HEAD has not.
_OWN = {"x-request-id", "date", "transfer-encoding"}


def _told(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in _OWN}


@pytest.fixture
async def turn(served: Served) -> str:
    answer = await served.client.post("/v1/sessions/s/turns", json={"content": "[[say=Hi]]"})
    return answer.headers["x-turn-id"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/ui", 200),
        ("/ui/", 308),
        ("/docs", 200),
        ("/health", 200),
        ("/v1/models", 200),
        ("/v1/models/nothing", 404),
        ("/v1/sessions/s", 200),
        ("/v1/sessions/nobodys", 404),
        ("/v1/sessions/s/messages?limit=0", 400),
        ("/v1/sessions/s/export", 200),
        ("/v1/sessions/s/turns/{turn}", 200),
        ("/v1/sessions/s/turns/{turn}/events", 200),
        ("/v1/sessions/s/turns/{turn}/events?after=4", 204),
        ("/v1/sessions/s/turns/{turn}/events?after=9", 409),
        ("/api/chat/s/messages", 200),
        ("/client/resumable-fetch.js", 200),
        ("/v1/nothing", 404),
        ("/chat", 405),
    ],
)
async def test_it_has_the_status_and_the_headers_of_get(
    served: Served, turn: str, path: str, status: int
) -> None:
    path = path.format(turn=turn)
    head = await served.client.head(path)
    assert (head.status_code, head.content) == (status, b"")
    get = await served.client.get(path)
    assert (get.status_code, _told(get)) == (status, _told(head))


async def _readers(served: Served) -> float:
    text = (await served.client.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("chat_readers_open{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def test_a_stream_that_would_go_on_ends_with_its_head(served: Served) -> None:
    body: dict[str, Any] = {"content": "[[tokens=5 fault=stall]]"}
    answer = await served.client.post("/v1/sessions/s/turns", json=body, headers={"Prefer": "respond-async"})
    turn = answer.headers["location"]
    paths = ("/v1/sessions/s/events", f"{turn}/events", "/api/chat/s/stream")
    async with asyncio.timeout(10):
        for path in paths:
            head = await served.client.head(path)
            assert head.status_code == 200
            assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
        # The connection is free for what comes next, and nobody reads on behind it.
        assert (await served.client.get("/livez")).status_code == 200

        async def nobody_reads() -> bool:
            return await _readers(served) == 0

        await eventually_async(nobody_reads, within=5)
    assert (await served.client.get(turn)).json()["state"] == "running"
    await served.client.post(f"{turn}/stop")


async def test_it_shows_nobody_the_end_of_an_answer(served: Served) -> None:
    """useChat is given the replay until somebody was sent the end; HEAD sends nothing."""
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "[[tokens=30 rate=100]]"}]}
    async with served.client.stream("POST", "/api/chat", json={"id": "s", "messages": [message]}) as answer:
        await anext(answer.aiter_bytes())

    async def ended() -> bool:
        session = (await served.client.get("/v1/sessions/s")).json()
        return session["active_turn"] is None

    await eventually_async(ended, within=10)
    for _ in range(3):
        assert (await served.client.head("/api/chat/s/stream")).status_code == 200
    assert "finish" in (await served.client.get("/api/chat/s/stream")).text
    assert (await served.client.head("/api/chat/s/stream")).status_code == 204


async def test_it_takes_what_get_takes(start: Start) -> None:
    async with start(auth=("keys",), limit_reads="3/hour") as served:
        assert (await served.client.head("/v1/sessions")).status_code == 401
        key = bearer(await make_key(served))
        statuses = [(await served.client.head("/v1/sessions", headers=key)).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
