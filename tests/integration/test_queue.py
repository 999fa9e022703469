"""Turns that wait for the one before them in their session."""

from __future__ import annotations

import asyncio
import json

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.integration.test_turns import SLOW, begin, read
from tests.support.service import Served
from tests.support.sse import check_gapless


async def test_queued_turns_run_in_order_with_the_history_before_them(start: Start) -> None:
    async with start(max_queued_turns=2) as served:
        await begin(served, "s", {"content": "[[tokens=40 rate=25]]"})
        queued = [
            await begin(served, "s", {"content": f"[[echo]] {n}", "on_busy": "queue"}) for n in range(2)
        ]
        assert [answer.json()["state"] for answer in queued] == ["queued", "queued"]
        assert queued[0].json()["attempt"] == 0
        over = await served.client.post("/v1/sessions/s/turns", json={"content": "x", "on_busy": "queue"})
        assert (over.status_code, over.json()["code"]) == (409, "turn_in_progress")
        for answer in queued:
            events = await read(served, answer.headers["location"] + "/events")
            check_gapless(events)
            assert events[-1].event == "turn.completed"
        messages = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
        assert [m["role"] for m in messages] == ["user", "assistant"] * 3
        assert messages[2]["content"] == "[[echo]] 0"
        contexts = [json.loads(messages[3]["content"]), json.loads(messages[5]["content"])]
        assert contexts[0][2] == {"role": "assistant", "content": expected_text(40, 0)}
        assert [len(context) for context in contexts] == [4, 6]


async def test_a_queued_turn_that_is_stopped_ends_at_once_is_never_asked_and_lets_the_next_one_pass(
    served: Served, double: Double
) -> None:
    first = await begin(served, "s", {"content": SLOW})
    stops, goes = [
        await begin(served, "s", {"content": f"[[say=answer {n}]]", "on_busy": "queue"}) for n in range(2)
    ]
    reading = asyncio.create_task(read(served, stops.headers["location"] + "/events"))
    stopped = (await served.client.post(stops.headers["location"] + "/stop")).json()
    assert (stopped["state"], stopped["attempt"], stopped["text"]) == ("stopped", 0, "")
    events = await asyncio.wait_for(reading, 10)
    assert [event.event for event in events] == ["turn.started", "turn.stopped"]
    assert (await served.client.get(first.headers["location"])).json()["state"] == "running"
    await served.client.post(first.headers["location"] + "/stop")
    events = await read(served, goes.headers["location"] + "/events")
    assert events[-1].event == "turn.completed"
    messages = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert [(message["role"], message["content"]) for message in messages[2:]] == [
        ("user", "[[say=answer 0]]"),
        ("user", "[[say=answer 1]]"),
        ("assistant", "answer 1"),
    ]
    assert len(double.calls.find()) == 2
