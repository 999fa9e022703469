"""A useChat page that is loaded again: what it is told of an answer that runs, and of those that ended."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from service.api.ui_messages import ui_message
from service.store.messages import Message
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.double.faults import Fault
from tests.integration.test_aisdk import begin, frames, post, submit, user
from tests.support.dialects import AiSdk
from tests.support.service import Served
from tests.support.waiting import eventually_async


async def test_a_page_that_is_loaded_before_the_first_token_is_told_at_once_that_a_turn_runs(
    start: Start,
) -> None:
    async with start(hold_seconds=15) as served:
        turn = await begin(served, submit(user(1, "[[tokens=20 first_delay=2]]")))
        before = time.monotonic()
        async with served.client.stream("GET", "/api/chat/c/stream") as answer:
            pieces = answer.aiter_text()
            first = await asyncio.wait_for(anext(pieces), 1)
            assert time.monotonic() - before < 1
            assert answer.status_code == 200
            rest = "".join([piece async for piece in pieces])
    started = json.loads(frames(first)[0][1])
    assert (started["type"], started["messageMetadata"]["turnId"]) == ("start", turn)
    assert AiSdk().read(first + rest) == (expected_text(20), "completed")


async def test_a_failure_of_a_turn_that_was_resumed_while_it_ran_is_told_by_the_stream(
    served: Served,
) -> None:
    await begin(served, submit(user(1, "[[fault=400 seconds=1]]")))
    answer = await served.client.get("/api/chat/c/stream")
    assert answer.status_code == 200
    assert AiSdk().read(answer.text) == ("", "failed")
    assert (await served.client.get("/api/chat/c/stream")).status_code == 204


# Metadata: what the stream has told and what the history tells is the same


def told(stream: str) -> dict[str, Any]:
    """The metadata of a message whose stream this was, merged as AI SDK does it."""
    found: dict[str, Any] = {}
    for _, data in frames(stream):
        if data != "[DONE]":
            for name, value in json.loads(data).get("messageMetadata", {}).items():
                merged = isinstance(value, dict) and isinstance(found.get(name), dict)
                found[name] = {**found[name], **value} if merged else value
    return found


async def reloaded(served: Served) -> dict[str, Any]:
    last = (await served.client.get("/api/chat/c/messages")).json()[-1]
    assert last["role"] == "assistant"
    metadata: dict[str, Any] = last["metadata"]
    return metadata


@pytest.mark.parametrize(
    ("asked", "state", "reason"),
    [
        ("[[tokens=20]]", "completed", "stop"),
        ("[[tokens=20 finish=length]]", "completed", "length"),
        ("[[tokens=20 finish=content_filter]]", "completed", "content-filter"),
        ("[[tool=weather]]", "completed", "tool-calls"),
        ("[[tokens=60 fault=cut after=30 rate=200]]", "failed", "error"),
        ("[[tokens=60 fault=error_event after=30 rate=200]]", "failed", "error"),
        ("[[reasoning=60 rate=200 tokens=5 fault=cut after=30]]", "failed", "error"),
    ],
)
async def test_an_answer_s_metadata_is_the_same_live_and_reloaded(
    served: Served, asked: str, state: str, reason: str
) -> None:
    live = told(await post(served, submit(user(1, asked))))
    assert live == await reloaded(served)
    assert (live["state"], live["finishReason"]) == (state, reason)
    assert live["model"] == "openai/gpt-oss-120b"
    usage = live["usage"]
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"] > 0
    assert abs(live["createdAt"] - time.time() * 1000) < 30_000
    assert live["turnId"].startswith("t_")


@pytest.mark.parametrize("shown", ["[[tokens=2000 rate=100]]", "[[reasoning=2000 rate=100 tokens=5]]"])
async def test_so_is_that_of_a_stopped_one(served: Served, shown: str) -> None:
    sending = asyncio.create_task(post(served, submit(user(1, shown))))
    await begin(served, submit(user(1, shown)))
    engine = served.app.state.edge.engine
    await eventually_async(lambda: any(live.acknowledged > 5 for live in engine.running._lives.values()))
    await served.client.post("/api/chat/c/stop")
    live = told(await sending)
    assert live == await reloaded(served)
    assert (live["state"], live["finishReason"]) == ("stopped", "stop")


async def test_so_is_that_of_one_that_another_model_has_answered(served: Served, double: Double) -> None:
    double.faults.add(Fault.parse({"kind": "404", "model": "openai/gpt-oss-120b"}, times=None))
    live = told(await post(served, submit(user(1, "[[tokens=20]]"))))
    assert live == await reloaded(served)
    assert live["model"] == "openai/gpt-oss-20b"


async def test_so_is_that_of_one_whose_worker_was_lost(start: Start) -> None:
    async with start(lease_seconds=0.5) as served:
        body = submit(user(1, "[[tokens=200 rate=100 vary]]"))
        turn = await begin(served, body)
        lives = served.app.state.edge.engine.running._lives
        await eventually_async(lambda: lives[turn].acknowledged > 5)
        lives[turn].interrupt("lost host")

        async def completed() -> bool:
            found = await served.client.get(f"/v1/sessions/c/turns/{turn}")
            return bool(found.json()["state"] == "completed")

        await eventually_async(completed, within=20)
        live = told((await served.client.get("/api/chat/c/stream")).text)
        assert live == await reloaded(served)


def test_an_answer_of_before_has_what_is_known_of_it() -> None:
    old = Message("m_1", "assistant", "Hi", "t_1", "completed", 1)
    assert ui_message(old, "")["metadata"] == {"turnId": "t_1"}
