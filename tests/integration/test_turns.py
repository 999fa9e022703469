"""The native API: send, resume, stop, busy sessions, idempotency."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import redis

from service.engine import relay
from service.engine.live import Live
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.service import Served
from tests.support.sse import Frame, Parser, check_gapless, frames, text_of
from tests.support.waiting import eventually_async

SLOW = "[[tokens=2000 rate=100]]"
PART = {"type": "text", "text": "[[tokens=5]]"}


async def read(served: Served, path: str, **headers: str) -> list[Frame]:
    async with served.client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        return [frame async for frame in frames(answer)]


async def begin(served: Served, session: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    """Start a turn without reading it."""
    answer = await served.client.post(
        f"/v1/sessions/{session}/turns", json=body, headers={"Prefer": "respond-async", **headers}
    )
    assert answer.status_code == 202, answer.text
    return answer


async def test_a_turn_is_a_gapless_log_from_started_to_completed(served: Served) -> None:
    async with served.client.stream(
        "POST", "/v1/sessions/s/turns", json={"content": "[[tokens=80 rate=400 seed=3]]"}
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        location = answer.headers["location"]
        events = [frame async for frame in frames(answer)]
    check_gapless(events)
    turn = answer.headers["x-turn-id"]
    assert location == f"/v1/sessions/s/turns/{turn}/events"
    assert [events[0].event, events[1].event, events[-1].event] == [
        "turn.started",
        "attempt.started",
        "turn.completed",
    ]
    assert events[0].data["turn_id"] == turn
    assert events[0].data["session_id"] == "s"
    assert set(events[0].data) == {"turn_id", "session_id", "model", "created"}
    assert events[1].data == {"attempt": 1, "model": "openai/gpt-oss-120b"}
    assert text_of(events) == expected_text(80, 3)
    assert events[-1].data["finish_reason"] == "stop"
    assert events[-1].data["usage"]["completion_tokens"] == 80
    assert await read(served, location) == events
    again = await served.client.get(location)
    named = [again.headers[name] for name in ("x-session-id", "x-turn-id", "location")]
    assert named == ["s", turn, location]
    resource = (await served.client.get(f"/v1/sessions/s/turns/{turn}")).json()
    assert resource["state"] == "completed"
    assert resource["text"] == expected_text(80, 3)
    assert resource["attempt"] == 1
    assert resource["usage"] == events[-1].data["usage"]


@pytest.mark.parametrize("local_cache", [True, False])
async def test_a_cut_at_any_byte_loses_and_doubles_nothing(start: Start, local_cache: bool) -> None:
    async with start(local_cache=local_cache) as served:
        answer = await begin(served, "s", {"content": "[[tokens=60 rate=300]]"})
        path = answer.headers["location"] + "/events"
        whole = await read(served, path)
        raw = (await served.client.get(path)).content
        for cut in range(0, len(raw), 97):
            seen = list(Parser().feed(raw[:cut]))
            last = seen[-1].id if seen else None
            headers = {} if last is None else {"Last-Event-ID": str(last)}
            assert seen + await read(served, path, **headers) == whole


async def test_readers_that_are_cut_all_the_time_read_the_exact_text(served: Served) -> None:
    answer = await begin(served, "s", {"content": "[[tokens=300 rate=300 seed=5]]"})
    path = answer.headers["location"] + "/events"

    async def patchy(number: int) -> list[Frame]:
        events: list[Frame] = []
        while not events or not events[-1].event.startswith("turn.completed"):
            headers = {"Last-Event-ID": str(events[-1].id)} if events else {}
            async with served.client.stream("GET", path, headers=headers) as response:
                count = 0
                async for frame in frames(response):
                    events.append(frame)
                    count += 1
                    if count > 3 + number:
                        break
        return events

    for events in await asyncio.gather(*(patchy(n) for n in range(8))):
        check_gapless(events)
        assert text_of(events) == expected_text(300, 5)


async def test_cursors_are_checked(served: Served) -> None:
    answer = await begin(served, "s", {"content": "[[tokens=5]]"})
    path = answer.headers["location"] + "/events"
    last = (await read(served, path))[-1].id
    assert last is not None

    async def code(value: str) -> tuple[int, str | None]:
        reply = await served.client.get(path, headers={"Last-Event-ID": value})
        return reply.status_code, reply.json()["code"] if reply.content else None

    assert await code(str(last)) == (204, None)
    assert await code(str(last + 1)) == (409, "cursor_ahead")
    assert await code("9" * 5000) == (409, "cursor_ahead")
    assert await code(f"000{last}") == (204, None)
    assert await code("abc") == (400, "bad_cursor")
    assert await code("-1") == (400, "bad_cursor")
    assert (await served.client.get(f"{path}?after={last}")).status_code == 204
    both = await served.client.get(f"{path}?after=1", headers={"Last-Event-ID": str(last)})
    assert both.status_code == 204
    assert (await read(served, f"{path}?after={last - 1}"))[0].id == last


async def test_a_log_that_has_expired_is_410(start: Start, store: Any) -> None:
    async with start() as served:
        answer = await begin(served, "s", {"content": "[[tokens=5]]"})
        path = answer.headers["location"]
        await read(served, path + "/events")
        for key in store.scan_iter("*:log:*"):
            store.delete(key)
        reply = await served.client.get(path + "/events")
        assert (reply.status_code, reply.json()["code"]) == (410, "events_expired")
        assert (await served.client.get(path)).json()["text"] == expected_text(5, 0)


async def test_a_repeat_of_a_send_whose_log_has_expired_is_410(start: Start, store: Any) -> None:
    async with start() as served:
        sent: dict[str, Any] = {"json": {"content": "[[tokens=5]]"}, "headers": {"Idempotency-Key": "k"}}
        first = await served.client.post("/v1/sessions/s/turns", **sent)
        for key in store.scan_iter("*:log:*"):
            store.delete(key)
        again = await served.client.post("/v1/sessions/s/turns", **sent)
        assert (first.status_code, again.status_code) == (200, 410)
        assert again.json()["code"] == "events_expired"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat", {"user_query": "[[tokens=5]]"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "[[tokens=5]]"}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "[[tokens=5]]"}], "stream": True}),
        ("/api/chat", {"id": "s", "messages": [{"id": "m", "role": "user", "parts": [PART]}]}),
        ("/v1/responses", {"input": "[[tokens=5]]"}),
        ("/v1/responses", {"input": "[[tokens=5]]", "stream": True}),
    ],
)
async def test_in_each_dialect_a_repeat_of_a_send_whose_log_has_expired_is_410(
    served: Served, store: Any, path: str, body: dict[str, Any]
) -> None:
    sent: dict[str, Any] = {"json": body, "headers": {"Idempotency-Key": "k"}}
    first = await served.client.post(path, **sent)
    for key in store.scan_iter("*:log:*"):
        store.delete(key)
    again = await served.client.post(path, **sent)
    assert (first.status_code, again.status_code) == (200, 410), again.text
    assert "no longer kept" in again.text


async def test_stop_keeps_what_was_said_and_closes_upstream(served: Served, double: Double) -> None:
    answer = await begin(served, "s", {"content": SLOW})
    path = answer.headers["location"]
    async with served.client.stream("GET", path + "/events") as response:
        events = []
        async for frame in frames(response):
            events.append(frame)
            if len(events) == 10:
                stopped = (await served.client.post(path + "/stop")).json()
                assert stopped["state"] == "stopped"
    check_gapless(events)
    assert events[-1].event == "turn.stopped"
    assert stopped["text"] == text_of(events)
    assert expected_text(2000, 0).startswith(stopped["text"])
    assert stopped["usage"]["completion_tokens"] > 0
    messages = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert [m["state"] for m in messages] == ["completed", "stopped"]
    assert messages[1]["content"] == stopped["text"]
    calls = await eventually_async(lambda: double.calls.find(ended=True))
    assert calls[0].end == "client_closed"
    again = (await served.client.post(path + "/stop")).json()
    assert again == stopped


async def test_stop_before_the_first_token_is_an_empty_200_for_text(served: Served, double: Double) -> None:
    body = {"user_query": "[[first_delay=20 tokens=5]]", "session_id": "s"}
    asking = asyncio.create_task(served.client.post("/chat", json=body))
    await eventually_async(double.calls.find)
    turn = (await served.client.get("/v1/sessions/s")).json()["active_turn"]
    stopped = (await served.client.post(f"/v1/sessions/s/turns/{turn}/stop")).json()
    answer = await asyncio.wait_for(asking, 5)
    assert (answer.status_code, answer.content, stopped["state"]) == (200, b"", "stopped")
    messages = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert [m["role"] for m in messages] == ["user"]


async def test_a_busy_session_rejects_with_the_running_turn(served: Served) -> None:
    first = await begin(served, "s", {"content": SLOW})
    second = await served.client.post("/v1/sessions/s/turns", json={"content": "me too"})
    assert (second.status_code, second.json()["code"]) == (409, "turn_in_progress")
    assert second.headers["location"] == first.headers["location"] + "/events"
    await served.client.post(first.headers["location"] + "/stop")


@pytest.mark.parametrize("on_busy", ["interrupt", "reject", "queue"])
async def test_what_is_refused_anyway_interrupts_nothing(served: Served, on_busy: str) -> None:
    first = await begin(served, "s", {"content": SLOW})
    policy = {"X-On-Busy": on_busy}
    history = {"user_query": "x", "session_id": "s", "history": [{"role": "user", "content": "old"}]}
    answer = await served.client.post("/chat-with-history", json=history, headers=policy)
    assert (answer.status_code, answer.json()["code"]) == (409, "session_has_history")
    unknown = {"edit": {"message_id": "nope", "content": "x"}}
    answer = await served.client.post("/v1/sessions/s/turns", json=unknown, headers=policy)
    assert (answer.status_code, answer.json()["code"]) == (404, "message_not_found")
    assert (await served.client.get(first.headers["location"])).json()["state"] == "running"
    await served.client.post(first.headers["location"] + "/stop")


ASKED = "[[tokens=3]]"
PARTS = [{"type": "text", "text": ASKED}]
SENDS: list[tuple[str, dict[str, Any]]] = [
    ("/chat", {"user_query": ASKED, "session_id": "s"}),
    ("/chat-with-history", {"user_query": ASKED, "session_id": "s"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": ASKED}], "session_id": "s"}),
    ("/api/chat", {"id": "s", "messages": [{"id": "u", "role": "user", "parts": PARTS}]}),
    ("/v1/sessions/s/turns", {"content": ASKED}),
]


@pytest.mark.parametrize(("path", "body"), SENDS)
async def test_the_body_of_any_send_may_say_what_to_do_in_a_busy_session(
    served: Served, path: str, body: dict[str, Any]
) -> None:
    first = await begin(served, "s", {"content": SLOW})

    async def send(body_says: str, header_says: str) -> int:
        headers = {"X-On-Busy": header_says}
        answer = await served.client.post(path, json={**body, "on_busy": body_says}, headers=headers)
        return answer.status_code

    assert await send("wait", "reject") == 400
    assert await send("reject", "interrupt") == 409
    assert (await served.client.get(first.headers["location"])).json()["state"] == "running"
    assert await send("interrupt", "reject") == 200
    assert (await served.client.get(first.headers["location"])).json()["state"] == "stopped"


async def test_interrupt_stops_the_running_turn_and_starts(served: Served) -> None:
    first = await begin(served, "s", {"content": SLOW})
    second = await begin(served, "s", {"content": "[[tokens=3]]", "on_busy": "interrupt"})
    await read(served, second.headers["location"] + "/events")
    states = [
        (await served.client.get(answer.headers["location"])).json()["state"] for answer in (first, second)
    ]
    assert states == ["stopped", "completed"]


async def test_the_same_key_sent_fifty_times_is_one_turn(served: Served, double: Double) -> None:
    async def send() -> httpx.Response:
        return await served.client.post(
            "/chat", json={"user_query": "[[tokens=30 rate=100]]"}, headers={"Idempotency-Key": "k1"}
        )

    answers = await asyncio.gather(*(send() for _ in range(50)))
    assert {answer.text for answer in answers} == {expected_text(30, 0)}
    assert len({answer.headers["x-turn-id"] for answer in answers}) == 1
    assert len(double.calls.find()) == 1


async def test_a_key_with_another_body_or_route_is_a_mismatch(served: Served) -> None:
    key = {"Idempotency-Key": "k1"}
    await served.client.post("/chat", json={"user_query": "[[tokens=1]]"}, headers=key)
    for path, body in (
        ("/chat", {"user_query": "[[tokens=2]]"}),
        ("/chat-with-history", {"user_query": "[[tokens=1]]"}),
    ):
        other = await served.client.post(path, json=body, headers=key)
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")
        assert other.headers["x-should-retry"] == "false"


async def test_a_turn_that_failed_with_nothing_shown_frees_its_key(served: Served) -> None:
    key = {"Idempotency-Key": "k1"}
    body = {"user_query": "[[tokens=4 fault=401 times=1]] free"}
    assert (await served.client.post("/chat", json=body, headers=key)).status_code == 502
    again = await served.client.post("/chat", json=body, headers=key)
    assert (again.status_code, again.text) == (200, expected_text(4, 0))


async def test_a_history_that_failed_can_be_sent_again_with_its_key(served: Served, double: Double) -> None:
    history = [{"role": "user", "content": "old"}, {"role": "assistant", "content": "answer"}]
    body = {"user_query": "[[tokens=4 fault=400 times=1]]", "history": history}
    key = {"Idempotency-Key": "k1"}
    failed = await served.client.post("/chat-with-history", json=body, headers=key)
    assert failed.status_code == 400
    again = await served.client.post("/chat-with-history", json=body, headers=key)
    assert (again.status_code, again.text) == (200, expected_text(4, 0))
    session = again.headers["x-session-id"]
    messages = (await served.client.get(f"/v1/sessions/{session}/messages")).json()["data"]
    said = [(message["role"], message["content"]) for message in messages]
    asked = ("user", body["user_query"])
    assert said == [("user", "old"), ("assistant", "answer"), asked, ("assistant", expected_text(4, 0))]
    context: Any = double.calls.find()[-1].describe()["messages"]
    assert [(item["role"], item["content"]) for item in context[1:]] == said[:3]
    assert messages[2]["turn_id"] == messages[3]["turn_id"] == again.headers["x-turn-id"]


async def test_another_history_under_a_key_that_was_freed_is_not_taken_for_the_first(served: Served) -> None:
    body: dict[str, Any] = {"user_query": "[[tokens=4 fault=400]]"}
    key = {"Idempotency-Key": "k1"}
    for content, status in (("one", 400), ("two", 409)):
        body["history"] = [{"role": "user", "content": content}]
        answer = await served.client.post("/chat-with-history", json=body, headers=key)
        assert answer.status_code == status


async def test_regenerate_replaces_the_last_answer_and_edit_drops_what_followed(served: Served) -> None:
    for content in ("[[say=one]]", "[[say=two]]"):
        answer = await begin(served, "s", {"content": content})
        await read(served, answer.headers["location"] + "/events")
    answer = await begin(served, "s", {"regenerate": True})
    await read(served, answer.headers["location"] + "/events")
    messages = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert [m["content"] for m in messages] == ["[[say=one]]", "one", "[[say=two]]", "two"]
    assert messages[3]["turn_id"] == answer.json()["id"]
    edit = {"edit": {"message_id": messages[0]["id"], "content": "[[echo]]"}}
    answer = await begin(served, "s", edit)
    await read(served, answer.headers["location"] + "/events")
    messages = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert len(messages) == 2
    assert messages[0]["content"] == "[[echo]]"
    assert "one" not in messages[1]["content"]
    unknown = await served.client.post(
        "/v1/sessions/s/turns", json={"edit": {"message_id": "nope", "content": "x"}}
    )
    assert unknown.status_code == 404


async def test_what_comes_while_the_store_is_silent_is_bounded_and_nothing_of_it_is_lost(
    start: Start, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_MAX_HELD", 40)
    came = []
    flushed = Live.flushed

    async def counting(live: Live) -> None:
        before = live.tokens
        await flushed(live)
        if before:  # else it has waited for its attempt to be in the log
            came.append(live.tokens - before)

    monkeypatch.setattr(Live, "flushed", counting)
    async with start(redis_timeout_seconds=0.2) as served:
        body = {"content": "[[tokens=600 rate=300 seed=5]]"}
        async with served.client.stream("POST", "/v1/sessions/s/turns", json=body) as answer:
            events = []
            async for frame in frames(answer):
                events.append(frame)
                if len(events) == 5:
                    store.client_pause(1000)
    assert came == [0]  # it waited once, and nothing came while it did
    check_gapless(events)
    assert text_of(events) == expected_text(600, 5)
    assert [event.event for event in events].count("attempt.started") == 1
