"""A useChat page that is loaded again: what it is told of an answer that runs, and of those that ended."""

from __future__ import annotations

import asyncio
import json
import time

from service.double import expected_text
from tests.conftest import Start
from tests.integration.test_aisdk import begin, frames, submit, user
from tests.support.dialects import AiSdk
from tests.support.service import Served


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
