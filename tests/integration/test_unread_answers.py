"""An answer that was ended since nobody read it: a repeat under its key is told so, not that it is whole."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import redis

from tests.conftest import Start
from tests.double import expected_text
from tests.support.dialects import datas
from tests.support.service import Served
from tests.support.waiting import eventually_async

SLOW = "[[tokens=4000 rate=50]]"
SILENT = "[[fault=silence]]"
KEY = {"Idempotency-Key": "k"}


def asked(dialect: str, text: str) -> tuple[str, dict[str, Any]]:
    if dialect == "text":
        return "/chat", {"user_query": text}
    if dialect.startswith("responses"):
        return "/v1/responses", {"input": text, "stream": dialect == "responses"}
    messages = [{"role": "user", "content": text}]
    return "/v1/chat/completions", {"messages": messages, "stream": dialect == "openai"}


async def ended_unread(
    served: Served, store: redis.Redis, dialect: str, text: str
) -> tuple[str, dict[str, Any]]:
    """Send it, leave, and wait until it has been ended."""
    path, body = asked(dialect, text)
    sending = asyncio.create_task(served.client.post(path, json=body, headers=KEY))

    def found(kind: str) -> str:
        return next((str(name) for name in store.scan_iter(f"*:{kind}:t_*")), "")

    await eventually_async(lambda: found("log") and store.xlen(found("log")) > (2 if text == SLOW else 1))
    sending.cancel()
    await eventually_async(lambda: store.hget(found("turn"), "state") == "stopped", within=15)
    assert store.hget(found("turn"), "finish") == "abandoned"
    return path, body


@pytest.mark.parametrize(
    ("dialect", "text"),
    [("text", SILENT), ("openai", SILENT), ("openai-whole", SILENT), ("openai-whole", SLOW)],
)
async def test_of_which_nothing_was_shown_it_is_an_error_with_a_status(
    start: Start, store: redis.Redis, dialect: str, text: str
) -> None:
    async with start(orphan_seconds=0.3) as served:
        path, body = await ended_unread(served, store, dialect, text)
        again = await served.client.post(path, json=body, headers=KEY)
        error = again.json() if dialect == "text" else again.json()["error"]
        assert (again.status_code, error["code"]) == (410, "events_expired")
        assert "new key" in again.text


async def test_of_which_something_was_shown_its_text_is_broken_off(start: Start, store: redis.Redis) -> None:
    async with start(orphan_seconds=0.3) as served:
        path, body = await ended_unread(served, store, "text", SLOW)
        data = b""

        async def read() -> None:
            nonlocal data
            async with served.client.stream("POST", path, json=body, headers=KEY) as again:
                assert again.status_code == 200
                async for piece in again.aiter_raw():
                    data += piece

        with pytest.raises(httpx.RemoteProtocolError):
            await read()
        assert data
        assert expected_text(4000).startswith(data.decode())


async def test_of_which_something_was_shown_chunks_end_in_an_error(start: Start, store: redis.Redis) -> None:
    async with start(orphan_seconds=0.3) as served:
        path, body = await ended_unread(served, store, "openai", SLOW)
        *chunks, last = datas((await served.client.post(path, json=body, headers=KEY)).text)
        assert last["error"]["code"] == "events_expired"
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        assert {choice["finish_reason"] for choice in choices} == {None}
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        assert text
        assert expected_text(4000).startswith(text)


@pytest.mark.parametrize("dialect", ["responses", "responses-whole"])
async def test_a_response_of_it_is_cancelled(start: Start, store: redis.Redis, dialect: str) -> None:
    async with start(orphan_seconds=0.3) as served:
        path, body = await ended_unread(served, store, dialect, SLOW)
        again = await served.client.post(path, json=body, headers=KEY)
        told = again.json() if dialect.endswith("whole") else datas(again.text)[-1]["response"]
        assert (again.status_code, told["status"]) == (200, "cancelled")
