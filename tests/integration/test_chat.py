"""The original contract over a real server, a real Redis and the real SDK."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
import redis

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.service import Served
from tests.support.waiting import eventually_async


async def test_an_answer_is_the_exact_text_and_nothing_else(served: Served) -> None:
    answer = await served.client.post("/chat", json={"user_query": "[[tokens=200 seed=7]]"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == expected_text(200, 7)
    assert {"x-session-id", "x-turn-id", "x-request-id"} <= set(answer.headers)


@pytest.mark.alone
async def test_the_answer_arrives_as_it_is_generated(served: Served) -> None:
    loop = asyncio.get_running_loop()
    times = []
    async with served.client.stream(
        "POST", "/chat", json={"user_query": "[[tokens=200 rate=100]]"}
    ) as answer:
        async for _ in answer.aiter_raw():
            times.append(loop.time())
    assert len(times) >= 10
    assert times[-1] - times[0] > 0.25


@pytest.mark.parametrize("way", ["header", "body"])
@pytest.mark.parametrize("path", ["/chat", "/chat-with-history"])
async def test_a_second_call_with_the_session_id_has_the_first_exchange_in_its_context(
    served: Served, path: str, way: str
) -> None:
    first = await served.client.post("/chat", json={"user_query": "[[say=Blue light scatters.]]"})
    session = first.headers["x-session-id"]
    fields = {"session_id": session} if way == "body" else {}
    headers = {"X-Session-Id": session} if way == "header" else {}
    body = {"user_query": "[[echo]] and now?", **fields}
    second = await served.client.post(path, json=body, headers=headers)
    assert second.headers["x-session-id"] == session
    assert json.loads(second.text) == [
        {"role": "system", "content": "You are a helpful AI assistant."},
        {"role": "user", "content": "[[say=Blue light scatters.]]"},
        {"role": "assistant", "content": "Blue light scatters."},
        {"role": "user", "content": "[[echo]] and now?"},
    ]


async def test_the_session_of_the_body_wins_over_that_of_the_header(served: Served) -> None:
    body = {"user_query": "[[say=Hi]]", "session_id": "body"}
    answer = await served.client.post("/chat", json=body, headers={"X-Session-Id": "header"})
    assert answer.headers["x-session-id"] == "body"
    refused = await served.client.post("/chat", json=body, headers={"X-Session-Id": "no id"})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


async def test_history_is_sent_in_order_between_system_prompt_and_query(served: Served) -> None:
    history = [
        {"role": "user", "content": "one"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "three"},
    ]
    answer = await served.client.post(
        "/chat-with-history",
        json={"user_query": "[[echo]]", "system_prompt": "Be brief.", "history": history},
    )
    assert json.loads(answer.text) == [
        {"role": "system", "content": "Be brief."},
        *history,
        {"role": "user", "content": "[[echo]]"},
    ]


async def test_history_for_a_session_that_has_messages_is_refused(served: Served) -> None:
    await served.client.post("/chat", json={"user_query": "[[tokens=1]]", "session_id": "s1"})
    answer = await served.client.post(
        "/chat-with-history",
        json={"user_query": "hi", "session_id": "s1", "history": [{"role": "user", "content": "x"}]},
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "session_has_history")


@pytest.mark.alone
async def test_fifty_streams_on_one_worker_progress_together(served: Served) -> None:
    loop = asyncio.get_running_loop()

    async def ask(number: int) -> tuple[str, float]:
        body = {"user_query": f"[[tokens=60 rate=60 seed={number}]]"}
        answer = await served.client.post("/chat", json=body)
        return answer.text, loop.time()

    begin = loop.time()
    answers = await asyncio.gather(*(ask(n) for n in range(50)))
    assert [text for text, _ in answers] == [expected_text(60, n) for n in range(50)]
    # Alone, one takes 1 s; one after the other they would take 50.
    assert max(end for _, end in answers) - begin < 10


async def test_reasoning_never_leaks_into_plain_text(served: Served) -> None:
    answer = await served.client.post("/chat", json={"user_query": "[[reasoning=20 tokens=20]]"})
    assert answer.text == expected_text(20, 0)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("400", 400, "upstream_rejected"),
        ("model_decommissioned", 502, "upstream_unavailable"),
        ("context_length_exceeded", 413, "context_too_long"),
        ("blocked_api_access", 502, "upstream_unavailable"),
        ("401", 502, "upstream_unavailable"),
        ("403", 502, "upstream_unavailable"),
        ("413", 413, "context_too_long"),
        ("429_tpm retry_after=30", 429, "upstream_rate_limited"),
        ("429_rpd", 429, "upstream_rate_limited"),
        ("498", 502, "upstream_unavailable"),
        ("500", 502, "upstream_unavailable"),
        ("502", 502, "upstream_unavailable"),
        ("503", 502, "upstream_unavailable"),
        ("drop", 502, "upstream_unavailable"),
        ("error_event after=0 code=500", 502, "upstream_unavailable"),
        ("error_event after=0 code=tool_use_failed", 400, "upstream_rejected"),
        ("x_groq_error after=0", 502, "upstream_unavailable"),
        ("eof after=0", 502, "upstream_unavailable"),
        ("done after=0", 502, "upstream_unavailable"),
        ("torn after=0", 502, "upstream_unavailable"),
    ],
)
async def test_a_fault_before_the_first_delta_is_a_status_with_a_code(
    start: Start, store: redis.Redis, fault: str, status: int, code: str
) -> None:
    async with start(retry_budget_seconds=1) as served:
        answer = await served.client.post(
            "/chat", json={"user_query": f"[[fault={fault}]] {fault}", "session_id": "s"}
        )
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
        messages = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
        assert [message["role"] for message in messages] == ["user"]
        assert (await served.client.get("/v1/sessions/s")).json()["active_turn"] is None


async def test_a_refusal_names_the_session_and_the_turn_that_began(served: Served) -> None:
    answer = await served.client.post("/chat", json={"user_query": "[[fault=400]]"})
    assert (answer.status_code, answer.json()["code"]) == (400, "upstream_rejected")
    session, turn = answer.headers["x-session-id"], answer.headers["x-turn-id"]
    resource = await served.client.get(f"/v1/sessions/{session}/turns/{turn}")
    assert (resource.status_code, resource.json()["state"]) == (200, "failed")
    before = await served.client.post("/chat", json={"user_query": ""})
    assert not {"x-session-id", "x-turn-id"} & set(before.headers)


@pytest.mark.parametrize(
    "fault", ["cut", "rst", "eof", "done", "error_event", "error_data", "x_groq_error", "garbage"]
)
async def test_a_fault_after_the_first_delta_breaks_the_connection(served: Served, fault: str) -> None:
    body = {"user_query": f"[[tokens=50 rate=200 fault={fault} after=20]]", "session_id": "s"}
    received = bytearray()

    async def ask() -> None:
        async with served.client.stream("POST", "/chat", json=body) as answer:
            assert answer.status_code == 200
            async for chunk in answer.aiter_raw():
                received.extend(chunk)

    with pytest.raises(httpx.RemoteProtocolError):
        await ask()
    assert received
    assert expected_text(50, 0).encode().startswith(bytes(received))
    messages = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert [message["state"] for message in messages] == ["completed", "failed"]
    assert expected_text(50, 0).startswith(messages[1]["content"])


async def test_one_fault_is_retried_before_anything_is_shown(served: Served, double: Double) -> None:
    answer = await served.client.post("/chat", json={"user_query": "[[tokens=5 fault=500 times=1]] once"})
    assert (answer.status_code, answer.text) == (200, expected_text(5, 0))
    assert len(double.calls.find()) == 2


async def test_silence_is_a_timeout(start: Start) -> None:
    async with start(first_token_timeout_seconds=0.3, retry_budget_seconds=0.1) as served:
        answer = await served.client.post("/chat", json={"user_query": "[[fault=silence]]"})
        assert (answer.status_code, answer.json()["code"]) == (504, "upstream_timeout")


async def test_a_client_that_leaves_does_not_stop_a_named_session(start: Start) -> None:
    """Nobody reads for five times as long as an answer in an unnamed session would go on."""
    async with start(orphan_seconds=0.2) as served:
        body = {"user_query": "[[tokens=60 rate=60]]", "session_id": "kept"}
        async with served.client.stream("POST", "/chat", json=body) as answer:
            async for _ in answer.aiter_raw():
                break

        async def ended() -> list[dict[str, str]] | None:
            messages: list[dict[str, str]] = (await served.client.get(path)).json()["data"]
            return messages if len(messages) > 1 else None

        path = "/v1/sessions/kept/messages"
        said = [
            (message["content"], message["state"]) for message in await eventually_async(ended, within=20)
        ]
        assert said == [("[[tokens=60 rate=60]]", "completed"), (expected_text(60, 0), "completed")]


async def test_an_answer_nobody_reads_in_an_unnamed_session_is_stopped(start: Start, double: Double) -> None:
    async with start(orphan_seconds=0.4) as served:
        async with served.client.stream(
            "POST", "/chat", json={"user_query": "[[tokens=2000 rate=50]]"}
        ) as answer:
            async for _ in answer.aiter_raw():
                break
        calls = await eventually_async(lambda: double.calls.find(ended=True))
        assert calls[0].end == "client_closed"
        assert calls[0].tokens < 150
