"""What a worker that leaves must not take from those that stay, and what a turn may outlive."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.api.middleware import EdgeMiddleware
from service.config.settings import Settings
from service.errors import ServiceError
from service.eventloop.aligned_sleep import aligned_sleep
from service.upstream.models import Catalogue
from tests.conftest import Start
from tests.double import Double
from tests.support.redis import RedisServer
from tests.support.service import serve
from tests.support.sse import Parser


async def test_a_draining_worker_does_not_ask_for_what_is_due(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks hides what is due from the others for a second."""
    asked = beats = 0
    over = asyncio.Event()
    async with start() as served:
        engine = served.app.state.edge.engine
        due = engine.store.leases.due

        async def asking(index: str) -> Any:
            nonlocal asked
            asked += 1
            return await due(index)

        async def beating(seconds: float) -> float:
            nonlocal beats
            beats += 1
            if beats > 12:  # the loops that beat are four
                over.set()
            return await aligned_sleep(seconds)

        engine.running.closed = True
        monkeypatch.setattr(engine.store.leases, "due", asking)
        monkeypatch.setattr("service.engine.recovery.aligned_sleep", beating)
        await asyncio.wait_for(over.wait(), 10)
        assert asked <= 1  # by the sweep that was under way


async def test_readers_are_told_to_come_again_also_while_the_store_is_silent(
    tmp_path: Path, double_server: tuple[Double, str]
) -> None:
    redis = RedisServer(tmp_path / "redis")
    try:
        async with serve(redis.url, double_server[1]) as served:
            engine = served.app.state.edge.engine
            turns, asked = "/v1/sessions/s/turns", {"content": "[[tokens=900 rate=20]]"}
            async with served.client.stream("POST", turns, json=asked) as answer:
                chunks = answer.aiter_raw()
                while b"delta" not in await anext(chunks):
                    pass
                redis.stall()
                releasing = asyncio.create_task(engine.release())
                async with asyncio.timeout(10):
                    [_ async for _ in chunks]  # a clean end, and no last event
                assert not releasing.done()  # it still waits for the store
                redis.go_on()
                await releasing
    finally:
        redis.close()


async def test_a_turn_whose_model_has_left_the_catalogue_says_so(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(catalogue: Catalogue, name: str | None) -> Any:
        raise ServiceError("model_not_found", f"There is no model {name}.")

    async with start() as served:
        turns = "/v1/sessions/s/turns"
        soon = {"Prefer": "respond-async", "X-On-Busy": "queue"}
        first = await served.client.post(turns, json={"content": "[[tokens=2000 rate=100]]"}, headers=soon)
        queued = await served.client.post(turns, json={"content": "[[say=Hello]]"}, headers=soon)
        assert (first.status_code, queued.status_code) == (202, 202)
        monkeypatch.setattr(Catalogue, "resolve", resolve)
        await served.client.post(f"{first.headers['location']}/stop")
        answer = await served.client.get(f"{queued.headers['location']}/events")
        events = list(Parser().feed(answer.content))
        assert events[-1].event == "turn.failed"
        assert events[-1].data["code"] == "model_not_found"


async def test_what_the_end_of_a_drain_cancels_before_its_head_is_told_to_come_again() -> None:
    begun = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "DELETE", "scheme": "http", "path": "/v1/sessions/s"}
    scope |= {"query_string": b"", "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1)}
    asked = asyncio.create_task(EdgeMiddleware(waits, Settings())(scope, receive, send))
    await asyncio.wait_for(begun.wait(), 5)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    head, body = sent
    headers = dict(head["headers"])
    assert (head["status"], headers[b"retry-after"]) == (503, b"1")
    assert json.loads(body["body"])["code"] == "draining"


async def test_a_replica_that_leaves_begins_nothing_and_a_worker_that_is_replaced_goes_on(
    start: Start,
) -> None:
    async with start() as served:
        engine = served.app.state.edge.engine

        async def ask(key: str) -> Any:
            return await served.client.post(
                "/chat", json={"user_query": "[[say=Hello]]"}, headers={"Idempotency-Key": key}
            )

        engine.drain(refuse=False)
        assert (await ask("k1")).text == "Hello"
        engine.drain()
        engine.drain(refuse=False)  # a replica that leaves does not come back
        refused = await ask("k2")
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert refused.headers["retry-after"]
        assert (await ask("k1")).text == "Hello"  # known, and begun before
