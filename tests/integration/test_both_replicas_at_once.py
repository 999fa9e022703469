"""Calls for one session that meet at two replicas in one moment: one thing comes of them, everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.conftest import Start
from tests.double import expected_text
from tests.support.readers import follow
from tests.support.service import Served
from tests.support.sse import Frame, text_of

Both = list[Served]
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
async def both(start: Start) -> AsyncIterator[Both]:
    settings: dict[str, Any] = {"max_queued_turns": 20}
    async with start(**settings) as first, start(**settings) as second:
        yield [first, second]


def _ui(session: str, text: str) -> dict[str, Any]:
    return {
        "id": session,
        "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": text}]}],
    }


BODIES = {
    "/chat": lambda session, text: {"user_query": text, "session_id": session},
    "/v1/sessions/{}/turns": lambda session, text: {"content": text},
    "/v1/chat/completions": lambda session, text: {
        "messages": [{"role": "user", "content": text}],
        "session_id": session,
    },
    "/v1/responses": lambda session, text: {"input": text, "conversation": session},
    "/api/chat": _ui,
}


async def messages(served: Served, session: str) -> list[dict[str, Any]]:
    answer = await served.client.get(f"/v1/sessions/{session}/messages?limit=200")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def begin(served: Served, text: str, on_busy: str) -> str:
    body = {"content": text, "on_busy": on_busy}
    answer = await served.client.post("/v1/sessions/s/turns", json=body, headers=ASYNC)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


async def read(both: Both, path: str) -> list[Frame]:
    return await follow(both[0].client, [str(one.client.base_url).rstrip("/") for one in both], path)


@pytest.mark.parametrize("route", BODIES)
async def test_of_two_bodies_under_one_key_one_is_asked_and_the_other_is_told(both: Both, route: str) -> None:
    for number in range(5):
        session = f"s{number}"

        async def send(place: int, session: str = session) -> httpx.Response:
            return await both[place].client.post(
                route.format(session),
                json=BODIES[route](session, f"[[tokens={3 + place} seed={place}]]"),
                headers={"Idempotency-Key": session},
            )

        answers = await asyncio.gather(send(0), send(1))
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        won = 0 if answers[0].status_code == 200 else 1
        question, answer = await messages(both[1 - won], session)
        assert question["content"] == f"[[tokens={3 + won} seed={won}]]"
        assert answer["content"] == expected_text(3 + won, won)


async def test_of_many_that_interrupt_each_other_one_is_answered_and_all_are_there(both: Both) -> None:
    asked = [f"[[tokens=60 rate=200 seed={number}]] {number}." for number in range(10)]
    paths = await asyncio.gather(*(begin(both[n % 2], text, "interrupt") for n, text in enumerate(asked)))
    logs = await asyncio.gather(*(read(both, path) for path in paths))
    ends = [log[-1].event for log in logs]
    assert sorted(ends) == ["turn.completed"] + ["turn.stopped"] * 9
    won = ends.index("turn.completed")
    assert text_of(logs[won]) == expected_text(60, won)
    said = await messages(both[0], "s")
    assert sorted(one["content"] for one in said if one["role"] == "user") == sorted(asked)
    assert said == await messages(both[1], "s")
    assert (said[-1]["state"], said[-1]["content"]) == ("completed", expected_text(60, won))


async def test_a_stop_at_both_in_the_moment_of_the_end_says_one_thing(both: Both) -> None:
    for number in range(10):
        path = await begin(both[number % 2], f"[[tokens=8 rate=400 seed={number}]]", "reject")
        reading = asyncio.create_task(read(both, path))
        await asyncio.sleep(0.004 * number)  # spread over the answer, not waiting for anything
        stops = await asyncio.gather(*(served.client.post(f"{path}/stop") for served in both))
        told = [stop.json() for stop in stops]
        assert told[0] == told[1]
        log = await reading
        assert log[-1].event == f"turn.{told[0]['state']}"
        assert text_of(log) == told[0]["text"]
        if told[0]["state"] == "completed":
            assert told[0]["text"] == expected_text(8, number)
        else:
            assert expected_text(8, number).startswith(told[0]["text"])


async def test_in_a_queue_of_both_those_that_are_stopped_go_and_the_others_are_answered_in_order(
    both: Both,
) -> None:
    first = await begin(both[0], "[[tokens=40 rate=100]]", "queue")
    waiting = [await begin(both[n % 2], f"[[tokens=4 seed={n}]] {n}.", "queue") for n in range(18)]
    stopped = [n for n in range(18) if n % 3 == 1]
    await asyncio.gather(*(both[n // 3 % 2].client.post(f"{waiting[n]}/stop") for n in stopped))
    logs = await asyncio.gather(*(read(both, path) for path in (first, *waiting)))
    assert text_of(logs[0]) == expected_text(40, 0)
    for number, log in enumerate(logs[1:]):
        if log[-1].event == "turn.completed":
            assert text_of(log) == expected_text(4, number)
        else:
            assert number in stopped
    said = await messages(both[1], "s")
    asked = [one["content"].rpartition("]] ")[2] for one in said[2:] if one["role"] == "user"]
    assert asked == [f"{n}." for n in range(18)]
    assert not (await both[0].client.get("/v1/sessions/s")).json()["active_turn"]
