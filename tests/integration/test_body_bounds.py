"""Bodies that never end: a worker holds few of their bytes, and one caller fills no other's room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from service.api import body_bounds
from service.errors import ServiceError
from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.waiting import eventually_async


async def test_one_caller_may_not_fill_the_room_for_bodies(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_bounds, "_PER_PRINCIPAL", 300_000)
    async with (
        start(auth="keys", max_body_bytes=100_000, max_image_body_bytes=100_000) as served,
        contextlib.AsyncExitStack() as stack,
    ):
        greedy, other = await make_key(served, "greedy"), await make_key(served, "other")
        host, port = served.url.removeprefix("http://").split(":")
        held = served.app.state.edge.body_bounds._held
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


async def test_a_body_may_be_as_large_as_it_says_and_no_larger(start: Start) -> None:
    """Whether its length is announced or not."""
    async with start(max_body_bytes=2_000) as served:

        async def create(size: int, *, announced: bool) -> tuple[int, str]:
            body = b'{"title": "x"}'.ljust(size)

            async def pieces() -> AsyncIterator[bytes]:
                yield body

            content = body if announced else pieces()
            headers = {"Content-Type": "application/json"}
            answer = await served.client.post("/v1/sessions", content=content, headers=headers)
            return answer.status_code, answer.json().get("detail", "")

        for announced in (True, False):
            assert await create(2_000, announced=announced) == (201, "")
            refused = await create(2_001, announced=announced)
            assert refused == (413, "The body has more than 2000 bytes.")


async def test_large_bodies_that_are_refused_are_soon_refused_unread(start: Start) -> None:
    """Reading one takes 15 ms, and a refusal costs one of 1,200 reads a minute."""
    history = [{"role": ("user", "assistant")[place % 2], "content": "x" * 20} for place in range(5_000)]
    async with start(auth="keys") as served:
        flooder, other = await make_key(served, "flooder"), await make_key(served, "other")
        # Nothing is forgiven meanwhile: on a slow machine these take longer than one more has to wait.
        served.app.state.edge.refused_bodies._now = lambda: 0.0
        routes: dict[str, tuple[str, dict[str, object]]] = {
            "/chat-with-history": ("POST", {"user_query": "x", "history": history}),
            "/v1/chat/completions": ("POST", {"messages": history, "n": 2}),
            "/v1/sessions/none": ("PATCH", {"title": "x" * 300_000}),
        }

        async def ask(key: str, route: str) -> httpx.Response:
            method, body = routes[route]
            return await served.client.request(method, route, json=body, headers=bearer(key))

        refused = [(await ask(flooder, route)).status_code for route in list(routes) * 9]
        assert refused[:6] == [400] * 6
        assert refused[-3:] == [429] * 3  # 2 MiB are read, in whichever routes
        answer = await ask(flooder, "/chat-with-history")
        assert answer.json()["code"] == "rate_limited"
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        small = {"user_query": "[[tokens=2]]"}
        assert (await served.client.post("/chat", json=small, headers=bearer(flooder))).status_code == 200
        assert (await ask(other, "/chat-with-history")).status_code == 400


async def test_large_bodies_that_are_taken_are_bound_by_no_more_than_the_limit_of_sends(start: Start) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served)
        for number in range(16):
            body = {"user_query": f"[[tokens=1]] {number} " + "word " * 60_000}
            assert (await served.client.post("/chat", json=body, headers=bearer(key))).status_code == 200


def test_what_was_refused_is_forgotten_with_time_and_for_the_oldest_of_10_000() -> None:
    now = 0.0
    refused = body_bounds.RefusedBodies(lambda: now)
    refused.add("a", 2 * 1_048_576 + 65_536)
    with pytest.raises(ServiceError) as over:
        refused.check("a")
    assert (over.value.code, over.value.retry_after) == ("rate_limited", 1)
    now = 1.1
    refused.check("a")
    refused.add("a", 100_000)
    for number in range(10_000):
        refused.check(f"b{number}")
        refused.add(f"b{number}", 5_000_000)
    refused.check("a")
    with pytest.raises(ServiceError):
        refused.check("b0")
