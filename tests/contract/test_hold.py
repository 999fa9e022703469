"""How long the status line is held where nothing is to be shown yet, and what follows it then."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

import pytest

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.dialects import DIALECTS, Dialect

#: those whose status line waits for something to show
HOLDING = [dialect for dialect in DIALECTS if dialect.name != "native"]
holding = pytest.mark.parametrize("dialect", HOLDING, ids=lambda dialect: dialect.name)

#: what a quiet answer of each is sent while it has nothing to show
QUIET = {"text": "", "openai-whole": " ", "responses-whole": " ", "aisdk": ": keep-alive\n\n"}


@holding
async def test_the_head_comes_when_it_was_held_long_enough_and_the_answer_later(
    start: Start, double: Double, dialect: Dialect
) -> None:
    asked = "[[tokens=20 first_delay=4]]"
    async with start(hold_seconds=0.3, heartbeat_seconds=0.5) as served:
        begin = time.monotonic()
        sending = served.client.stream("POST", dialect.url("s"), json=dialect.body(asked, "s"))
        async with sending as answer:
            head = time.monotonic() - begin
            assert not any(call.first_token for call in double.calls), "the head came with the answer"
            body = "".join([piece async for piece in answer.aiter_text()])
    assert (answer.status_code, dialect.read(body)) == (
        200,
        (expected_text(20), "" if dialect.name == "text" else "completed"),
    )
    assert head >= 0.3
    quiet = QUIET.get(dialect.name, QUIET["aisdk"])
    assert body.count(quiet) >= 2 if quiet.strip() else body.startswith(2 * quiet)


@holding
async def test_a_failure_after_the_head_takes_the_form_of_one_in_mid_answer(
    start: Start, dialect: Dialect
) -> None:
    async with start(hold_seconds=0.2) as served:
        answer = await dialect.send(served, "[[fault=400 seconds=0.8]]")
    broken = dialect.name == "text" or dialect.whole
    assert (answer.status, answer.text, answer.end) == (200, "", "broken" if broken else "failed")


@holding
async def test_a_failure_before_that_is_a_status(start: Start, dialect: Dialect) -> None:
    async with start(hold_seconds=5) as served:
        answer = await dialect.send(served, "[[fault=400 seconds=0.3]]")
    assert (answer.status, answer.end) == (400, "refused")


@holding
async def test_an_answer_that_was_stopped_after_the_head_is_an_empty_one(
    start: Start, dialect: Dialect
) -> None:
    async with start(hold_seconds=0.1) as served:
        sending = served.client.stream("POST", dialect.url("s"), json=dialect.body("[[fault=hang]]", "s"))
        async with sending as answer:
            session = (await served.client.get("/v1/sessions/s")).json()
            await served.client.post(f"/v1/sessions/s/turns/{session['active_turn']}/stop")
            body = (await asyncio.wait_for(answer.aread(), 10)).decode()
    text, end = dialect.read(body)
    assert (answer.status_code, text) == (200, "")
    assert end in ("", "completed", "stopped")


@holding
async def test_a_lost_worker_before_the_first_token_costs_nothing_after_the_head_either(
    start: Start, dialect: Dialect
) -> None:
    asked = "[[tokens=20 fault=hang times=1]]"
    async with start(hold_seconds=0.1, lease_seconds=0.5) as served:
        sending = served.client.stream("POST", dialect.url("s"), json=dialect.body(asked, "s"))
        async with sending as answer:
            session = (await served.client.get("/v1/sessions/s")).json()
            served.app.state.edge.engine.running._lives[session["active_turn"]].interrupt("lost host")
            body = (await asyncio.wait_for(answer.aread(), 20)).decode()
    assert dialect.read(body)[0] == expected_text(20)


@pytest.mark.parametrize("stream", [True, False])
async def test_thoughts_that_nobody_is_shown_are_no_reason_to_be_silent(start: Start, stream: bool) -> None:
    """They keep the turn alive; a proxy that sees no byte for its idle timeout gives up."""
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "[[reasoning=100 rate=50 tokens=5]]"}],
        "stream": stream,
        "include_reasoning": False,
    }
    arrived: list[float] = []
    async with start(hold_seconds=0.2, heartbeat_seconds=0.2) as served:
        begin = time.monotonic()
        async with served.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            pieces = []
            async for piece in answer.aiter_text():
                arrived.append(time.monotonic() - begin)
                pieces.append(piece)
    text = "".join(pieces)
    before = text.partition('"content":"' + expected_text(5)[0])[0]
    assert before.count(": keep-alive" if stream else " ") >= 4
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrived)]
    assert max(gaps) < 1.5
    if not stream:
        assert json.loads(text)["choices"][0]["message"] == {
            "role": "assistant",
            "content": expected_text(5),
        }
