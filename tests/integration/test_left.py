"""Answers whose only reader leaves: what nobody can come back to ends at once, all else goes on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.service import Served
from tests.support.waiting import eventually_async

SLOW = "[[tokens=2000 rate=50]]"
THREE_SECONDS = "[[tokens=150 rate=50]]"
#: as nginx gives them to a send that came without a key
MADE = {"Idempotency-Key": "made", "X-Fallback-Idempotency-Key": "made"}


def asked(path: str, message: str, **fields: Any) -> dict[str, Any]:
    if path.startswith("/chat"):
        return {"user_query": message, **fields}
    return {"messages": [{"role": "user", "content": message}], "stream": True, **fields}


async def leave(served: Served, path: str, body: dict[str, Any], **headers: str) -> dict[str, str]:
    """Read the head and some of the answer, then hang up."""
    async with served.client.stream("POST", path, json=body, headers=headers) as answer:
        async for _ in answer.aiter_raw():
            break
        return dict(answer.headers)


async def end_of_call(double: Double) -> str:
    [call] = await eventually_async(lambda: double.calls.find(ended=True), within=15)
    return call.end


@pytest.mark.parametrize("path", ["/chat", "/chat-with-history", "/v1/chat/completions"])
@pytest.mark.parametrize("headers", [{}, MADE], ids=["no-key", "key-of-a-balancer"])
async def test_an_answer_that_nobody_can_come_back_to_ends_within_a_moment(
    served: Served, double: Double, path: str, headers: dict[str, str]
) -> None:
    await leave(served, path, asked(path, SLOW), **headers)
    left = time.monotonic()
    assert await end_of_call(double) == "client_closed"
    assert 0.9 < time.monotonic() - left < 4  # CHAT_ORPHAN_SECONDS is 10


@pytest.mark.parametrize("stream", [True, False])
async def test_so_does_one_that_has_shown_nothing_yet(served: Served, double: Double, stream: bool) -> None:
    body = asked("/v1/chat/completions", "[[fault=hang]]", stream=stream)
    sending = asyncio.create_task(served.client.post("/v1/chat/completions", json=body))
    await eventually_async(lambda: double.calls.find())
    sending.cancel()
    left = time.monotonic()
    assert await end_of_call(double) == "client_closed"
    assert time.monotonic() - left < 4


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"session_id": "s"}, {}),
        ({"session_id": "s"}, MADE),
        ({}, {"Idempotency-Key": "mine"}),
        ({}, {"Idempotency-Key": "mine", "X-Fallback-Idempotency-Key": "made"}),
    ],
    ids=["session", "session-and-key-of-a-balancer", "key", "key-beside-one-of-a-balancer"],
)
async def test_an_answer_with_a_session_or_a_key_runs_on(
    served: Served, double: Double, fields: dict[str, str], headers: dict[str, str]
) -> None:
    await leave(served, "/chat", asked("/chat", THREE_SECONDS, **fields), **headers)
    assert await end_of_call(double) == "finished"


async def test_a_proxy_that_asks_another_replica_finds_the_answer(start: Start, double: Double) -> None:
    """It has lost its connection to the first, for which that looks like a client that leaves."""
    body = asked("/chat", THREE_SECONDS)
    async with start() as first, start() as second:
        await leave(first, "/chat", body, **MADE)
        answer = await second.client.post("/chat", json=body, headers=MADE)
        assert (answer.status_code, answer.text) == (200, expected_text(150))
        assert len(double.calls.find()) == 1


async def test_a_reader_that_comes_by_the_session_s_id_keeps_the_answer(
    served: Served, double: Double
) -> None:
    headers = await leave(served, "/chat", asked("/chat", THREE_SECONDS))
    path = f"/v1/sessions/{headers['x-session-id']}/turns/{headers['x-turn-id']}"
    assert (await served.client.get(path)).status_code == 200
    assert await end_of_call(double) == "finished"


async def test_one_of_two_readers_that_leaves_takes_nothing_from_the_other(
    served: Served, double: Double
) -> None:
    body = asked("/chat", THREE_SECONDS)
    staying = asyncio.create_task(served.client.post("/chat", json=body, headers=MADE))
    await eventually_async(lambda: double.calls.find())
    await leave(served, "/chat", body, **MADE)
    assert (await staying).text == expected_text(150)


async def test_a_repeat_elsewhere_is_noted_at_once_so_that_its_answer_is_not_ended(
    start: Start, store: redis.Redis
) -> None:
    async with start() as one, start() as other:
        key, body = {"Idempotency-Key": "k"}, asked("/chat", SLOW)
        async with one.client.stream("POST", "/chat", json=body, headers=key) as first:
            name = (
                f"chat:{{none.anonymous/{first.headers['x-session-id']}}}:turn:{first.headers['x-turn-id']}"
            )
            assert store.hget(name, "attended") is None
            again = await other.client.post(
                "/v1/chat/completions", json=asked("/v1/chat/completions", SLOW), headers=key
            )
            assert again.status_code == 409  # of another kind of route: it is not noted
            assert store.hget(name, "attended") is None
            async with other.client.stream("POST", "/chat", json=body, headers=key):
                assert store.hget(name, "attended") == "1"
