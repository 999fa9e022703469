"""What does not begin a turn costs a read and no send: repeats, other bodies under a key, refusals, stops."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.conftest import Start
from tests.support.service import Served

WINDOWS = pytest.mark.parametrize("window", ["fixed", "moving"])
SLOW = "[[tokens=2000 rate=20]]"


async def ask(served: Served, words: str = "[[tokens=2]]", key: str = "", **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await served.client.post("/chat", json={"user_query": words, **body}, headers=headers)


async def begin(served: Served, session: str, words: str = SLOW) -> httpx.Response:
    return await served.client.post(
        f"/v1/sessions/{session}/turns", json={"content": words}, headers={"Prefer": "respond-async"}
    )


async def left(served: Served) -> tuple[int, int]:
    """Reads and sends that the caller has, after a read and a send of this function's own."""
    read = await served.client.get("/v1/sessions")
    send = await ask(served)
    assert (read.status_code, send.status_code) == (200, 200)
    return int(read.headers["ratelimit-remaining"]), int(send.headers["ratelimit-remaining"])


async def repeat(served: Served) -> int:
    return (await ask(served, key="known")).status_code


async def other_body(served: Served) -> int:
    return (await ask(served, "other words", key="known")).status_code


async def busy(served: Served) -> int:
    return (await ask(served, session_id="busy")).status_code


async def seeded(served: Served) -> int:
    history = [{"role": "user", "content": "a"}]
    body = {"user_query": "hi", "session_id": "done", "history": history}
    return (await served.client.post("/chat-with-history", json=body)).status_code


async def post(served: Served, path: str, body: Any, **headers: str) -> int:
    return (await served.client.post(path, json=body, headers=headers)).status_code


async def nobody(served: Served) -> int:
    return await post(served, "/chat", {"user_query": "a", "model": "x"})


async def too_long(served: Served) -> int:
    return await post(served, "/chat", {"user_query": "word " * 190_000})


CASES: dict[str, tuple[int, Any]] = {
    "a repeat": (200, repeat),
    "another body under a key": (409, other_body),
    "a busy session": (409, busy),
    "a history for a session that has one": (409, seeded),
    "an empty message": (400, lambda served: post(served, "/chat", {"user_query": " "})),
    "a body that is no object": (400, lambda served: post(served, "/chat-with-history", [1])),
    "a wrong field": (400, lambda served: post(served, "/v1/sessions/s/turns", {"content": 1})),
    "a wrong header": (400, lambda served: post(served, "/chat", {"user_query": "a"}, **{"X-On-Busy": "x"})),
    "a wrong session id": (400, lambda served: post(served, "/v1/sessions/a%20b/turns", {"content": "a"})),
    "a wrong cursor": (
        400,
        lambda served: post(served, "/v1/sessions/s/turns", {"content": "a"}, **{"Last-Event-ID": "x"}),
    ),
    "a parameter that nobody has": (
        400,
        lambda served: post(
            served, "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "n": 2}
        ),
    ),
    "a model that is not there": (404, nobody),
    "an edit in no session": (
        404,
        lambda served: post(served, "/v1/sessions/none/turns", {"edit": {"message_id": "m", "content": "a"}}),
    ),
    "an edit of no message": (
        404,
        lambda served: post(served, "/v1/sessions/done/turns", {"edit": {"message_id": "m", "content": "a"}}),
    ),
    "a message that fits no model": (413, too_long),
    "a stop of no turn": (404, lambda served: post(served, "/v1/sessions/done/turns/t_none/stop", None)),
    "a stop in no session": (404, lambda served: post(served, "/v1/sessions/none/turns/t_none/stop", None)),
    "a stop of no answer": (200, lambda served: post(served, "/api/chat/done/stop", None)),
    "a stop of no chat": (404, lambda served: post(served, "/api/chat/none/stop", None)),
}


@WINDOWS
@pytest.mark.parametrize("case", CASES)
async def test_it_costs_a_read_and_no_send(start: Start, window: str, case: str) -> None:
    status, act = CASES[case]
    async with start(limit_sends="50/hour", limit_reads="50/hour", limit_window=window) as served:
        running = await begin(served, "busy")
        await ask(served, session_id="done")
        await ask(served, key="known")
        reads, sends = await left(served)
        for _ in range(3):
            assert await act(served) == status
        assert await left(served) == (reads - 4, sends - 1)
        await served.client.post(f"{running.headers['location']}/stop")


async def test_who_has_no_read_left_pays_for_refusals_with_sends_and_then_is_refused(start: Start) -> None:
    async with start(limit_sends="2/minute", limit_reads="2/minute") as served:
        answers = [await ask(served, " ") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 429, 429]
        assert (await ask(served)).status_code == 429


async def test_repeats_end_with_the_reads(start: Start) -> None:
    async with start(limit_sends="9/minute", limit_reads="2/minute") as served:
        answers = [await ask(served, key="k") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[3].headers["ratelimit-limit"] == "2"


async def test_stops_of_what_does_not_run_end_with_the_reads_and_those_of_what_runs_never(
    start: Start,
) -> None:
    async with start(limit_reads="2/minute") as served:
        running = [await begin(served, session) for session in ("a", "b")]
        path = running[0].headers["location"]
        unknown = [await post(served, f"{path[:-4]}none/stop", None) for _ in range(4)]
        assert unknown == [404, 404, 429, 429]
        stopped = await served.client.post(f"{path}/stop")
        assert (stopped.status_code, stopped.json()["state"]) == (200, "stopped")
        assert await post(served, f"{path}/stop", None) == 429
        assert await post(served, "/api/chat/b/stop", None) == 200
        assert await post(served, "/api/chat/b/stop", None) == 429


@WINDOWS
async def test_a_refusal_that_has_given_its_charge_back_leaves_no_free_send_behind(
    start: Start, window: str
) -> None:
    """The mark of a key's charge goes with the charge: the same send is charged when it begins."""
    async with start(limit_sends="9/minute", limit_reads="9/minute", limit_window=window) as served:
        running = await begin(served, "s")
        assert (await ask(served, key="k", session_id="s")).status_code == 409
        await served.client.post(f"{running.headers['location']}/stop")
        begun = await ask(served, key="k", session_id="s")
        assert (begun.status_code, begun.headers["ratelimit-remaining"]) == (200, "7")


@WINDOWS
async def test_another_body_under_a_key_that_is_on_its_way_is_charged_by_itself(
    start: Start, monkeypatch: pytest.MonkeyPatch, window: str
) -> None:
    async with start(limit_sends="1/minute", limit_reads="9/minute", limit_window=window) as served:
        beginning = served.app.state.edge.engine.beginning
        enter, charged, goes_on = beginning._enter, asyncio.Event(), asyncio.Event()

        async def held(*rest: Any) -> Any:
            charged.set()
            await goes_on.wait()
            return await enter(*rest)

        monkeypatch.setattr(beginning, "_enter", held)
        first = asyncio.create_task(ask(served, key="k", session_id="s"))
        await asyncio.wait_for(charged.wait(), 5)
        other = asyncio.create_task(ask(served, "other words", key="k", session_id="s"))
        done, _ = await asyncio.wait([other], timeout=5)
        goes_on.set()
        assert done, "it had a way in without a charge"
        assert (other.result().status_code, other.result().json()["code"]) == (429, "rate_limited")
        assert (await first).status_code == 200


@WINDOWS
@pytest.mark.parametrize("session", [None, "s"])
async def test_a_repeat_that_looked_before_its_twin_began_and_is_charged_after_is_no_refusal(
    start: Start, monkeypatch: pytest.MonkeyPatch, window: str, session: str | None
) -> None:
    """P4: the window is full by then, and the mark of the twin's charge is gone."""
    body = {"session_id": session} if session else {}
    async with start(limit_sends="1/minute", limit_reads="9/minute", limit_window=window) as served:
        repeats = served.app.state.edge.engine.beginning.repeats
        known, looked, goes_on = repeats.known, asyncio.Event(), asyncio.Event()

        async def late(send: Any) -> Any:
            found = await known(send)
            if not looked.is_set():
                assert found is None
                looked.set()
                await goes_on.wait()
            return found

        monkeypatch.setattr(repeats, "known", late)
        repeated = asyncio.create_task(ask(served, key="k", **body))
        await asyncio.wait_for(looked.wait(), 5)
        first = await ask(served, key="k", **body)
        goes_on.set()
        second = await repeated
        assert (first.status_code, second.status_code) == (200, 200), second.text
        assert first.headers["x-turn-id"] == second.headers["x-turn-id"]


@WINDOWS
async def test_a_repeat_that_meets_its_twin_in_the_store_gives_its_charge_back(
    start: Start, monkeypatch: pytest.MonkeyPatch, window: str
) -> None:
    async with start(limit_sends="9/minute", limit_reads="9/minute", limit_window=window) as served:
        repeats = served.app.state.edge.engine.beginning.repeats
        known, looked, goes_on = repeats.known, asyncio.Event(), asyncio.Event()

        async def late(send: Any) -> Any:
            found = await known(send)
            if not looked.is_set():
                looked.set()
                await goes_on.wait()
            return found

        monkeypatch.setattr(repeats, "known", late)
        repeated = asyncio.create_task(ask(served, key="k"))
        await asyncio.wait_for(looked.wait(), 5)
        first = await ask(served, key="k")
        goes_on.set()
        second = await repeated
        assert first.headers["x-turn-id"] == second.headers["x-turn-id"]
        assert await left(served) == (7, 7)
