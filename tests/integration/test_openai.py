"""OpenAI's dialect beyond what all dialects share: parameters, sessions, errors, models."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.dialects import datas
from tests.support.service import Served
from tests.support.waiting import eventually_async

PATH = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def asking(content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **fields}


async def ask(served: Served, body: dict[str, Any], path: str = PATH, **headers: str) -> dict[str, Any]:
    answer = await served.client.post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def stream(served: Served, body: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    answer = await served.client.post(PATH, json={**body, "stream": True})
    assert answer.status_code == 200, answer.text
    return datas(answer.text), answer.text


async def test_role_first_finish_reason_last_one_id_and_done(served: Served) -> None:
    chunks, raw = await stream(served, asking("[[tokens=9 reasoning=2]]"))
    assert raw.endswith("data: [DONE]\n\n")
    assert "\nid:" not in raw
    assert "event:" not in raw
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[1:-1]]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == expected_text(2, -1)
    assert "".join(delta.get("content", "") for delta in deltas) == expected_text(9)
    assert chunks[-1]["x_groq"]["usage"]["completion_tokens"] == 11
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_comes_alone_and_only_when_asked_for(served: Served) -> None:
    chunks, _ = await stream(served, asking("[[tokens=9]]", stream_options={"include_usage": True}))
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 9
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks[:-1])


async def test_a_quiet_stream_is_kept_alive_by_comments(start: Start) -> None:
    async with start(heartbeat_seconds=0.1) as served:
        _, raw = await stream(served, asking("[[tokens=12 fault=stall after=6 seconds=0.6]]"))
    assert raw.count(": keep-alive\n\n") >= 2


async def test_parameters_are_passed_on_and_messages_reduced_to_what_groq_takes(
    served: Served, double: Double
) -> None:
    body = {
        "model": "qwen/qwen3.8-27b",
        "messages": [
            {"role": "developer", "content": [part("Be "), part("kind.")]},
            {"role": "user", "content": "Weather?", "name": "ann", "timestamp": 1},
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "annotations": [],
                "tool_calls": [{**CALL, "x": 1}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "Rain.", "name": "weather"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["END"],
        "max_tokens": 99,
        "user": "ann",
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning_effort": "low",
        "n": 1,
        "store": False,
        "metadata": {"a": "b"},
        "frequency_penalty": 0,
        "service_tier": "auto",
        "response_format": {"type": "text"},
        "logit_bias": {},
        "logprobs": None,
        "nobody_knows": [1],
    }
    await ask(served, body)
    [call] = [call.describe() for call in double.calls]
    assert call["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [CALL],
        },
        {"role": "tool", "content": "Rain.", "tool_call_id": "c1"},
    ]
    assert call["model"] == "qwen/qwen3.8-27b"
    assert call["params"] == {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["END"],
        "max_completion_tokens": 99,
        "user": "ann",
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning_effort": "low",
        "response_format": {"type": "text"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_without_a_system_message_none_is_invented(served: Served, double: Double) -> None:
    await ask(served, asking("[[tokens=1]]"))
    assert [call.describe()["messages"] for call in double.calls] == [
        [{"role": "user", "content": "[[tokens=1]]"}]
    ]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"logprobs": True}, "unsupported_parameter", "logprobs"),
        ({"logit_bias": {"1": 5}}, "unsupported_parameter", "logit_bias"),
        ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
        ({"audio": {"voice": "x"}}, "unsupported_parameter", "audio"),
        ({"functions": [{"name": "f"}]}, "unsupported_parameter", "functions"),
        ({"temperature": 3}, "invalid_request", "temperature"),
        ({"temperature": "hot"}, "invalid_request", "temperature"),
        ({"stop": ["a"] * 5}, "invalid_request", None),
        ({"stream": "yes"}, "invalid_request", "stream"),
        ({"session_id": "a b"}, "invalid_request", "session_id"),
        ({"model": "gpt-9"}, "model_not_found", "model"),
        ({"model": "openai/gpt-oss-safeguard-20b", "tools": [TOOL]}, "unsupported_parameter", "tools"),
        ({"reasoning_effort": "none"}, "unsupported_parameter", "reasoning_effort"),
        ({"messages": []}, "invalid_request", "messages"),
        ({"messages": None}, "invalid_request", "messages"),
        ({"messages": [{"role": "system", "content": " "}]}, "query_empty", "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "query_empty", "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}]},
            "unsupported_parameter",
            "messages.0.content.0",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "refusal"}]}]},
            "invalid_request",
            "messages.0.content",
        ),
        ({"messages": [{"role": "user", "content": " \n"}]}, "query_empty", "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_request", "messages.0.content"),
        ({"messages": [{"role": "king", "content": "x"}]}, "invalid_request", "messages.0.role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "invalid_request",
            "messages.0.content.0",
        ),
    ],
)
async def test_what_cannot_be_had_is_refused_by_name(
    served: Served, double: Double, fields: dict[str, Any], code: str, param: str | None
) -> None:
    for streamed in (True, False):
        answer = await served.client.post(PATH, json={**asking("hi", stream=streamed), **fields})
        assert answer.status_code == (404 if code == "model_not_found" else 400)
        error = answer.json()["error"]
        assert (error["code"], set(error)) == (code, {"message", "type", "param", "code"})
        if param is not None:
            assert error["param"] == param
    assert len(list(double.calls)) == 0


async def test_errors_are_openai_s_objects_on_every_status_and_path(served: Served) -> None:
    client = served.client
    answers = {
        404: await client.post("/v1/chat/nothing", json={}),
        405: await client.get(PATH),
        415: await client.post(PATH, content=b"x", headers={"Content-Type": "text/plain"}),
        400: await client.post(f"/openai{PATH}", content=b"{", headers={"Content-Type": "application/json"}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert answer.headers["x-request-id"]
    missing = await client.get("/openai/v1/models/none")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_conversation_too_long_for_the_model_is_413(served: Served, double: Double) -> None:
    messages = [{"role": "user", "content": "word " * 2000}, {"role": "assistant", "content": "ok"}] * 70
    body = {"messages": [*messages, {"role": "user", "content": "[[tokens=1]]"}]}
    answer = await served.client.post(PATH, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "context_too_long")
    assert len(list(double.calls)) == 0


async def test_a_call_that_names_no_session_gets_one_that_can_be_continued(served: Served) -> None:
    body = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "[[say=three]]"},
        ]
    }
    answer = await served.client.post(PATH, json=body)
    session = answer.headers["x-session-id"]
    assert (await served.client.get("/v1/sessions")).json()["data"] == []
    further = await served.client.post("/chat", json={"user_query": "[[echo]]", "session_id": session})
    assert json.loads(further.text) == [
        *body["messages"][:3],
        {"role": "user", "content": "[[say=three]]"},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "[[echo]]"},
    ]


async def test_a_system_message_too_long_for_a_session_is_for_its_call_only(
    served: Served, double: Double
) -> None:
    for name, length in (("short", 65_536), ("long", 65_537)):
        messages = [{"role": "system", "content": "x" * length}, {"role": "user", "content": "[[tokens=1]]"}]
        await ask(served, {"messages": messages, "session_id": name})
        assert double.calls.find()[-1].describe()["messages"] == messages
    kept = [(await served.client.get(f"/v1/sessions/{name}")).json() for name in ("short", "long")]
    assert [session["system_prompt"] for session in kept] == ["x" * 65_536, None]


@pytest.mark.parametrize("way", ["header", "body"])
async def test_a_named_session_keeps_the_last_message_and_the_answer(served: Served, way: str) -> None:
    fields = {"session_id": "mine"} if way == "body" else {}
    headers = {"X-Session-Id": "mine"} if way == "header" else {}
    first = [{"role": "user", "content": "[[say=one]]"}]
    await ask(served, {"messages": first, **fields}, **headers)
    whole = [*first, {"role": "assistant", "content": "edited here"}, {"role": "user", "content": "[[echo]]"}]
    answer = await ask(served, {"messages": whole, **fields}, **headers)
    assert json.loads(answer["choices"][0]["message"]["content"]) == whole, "the caller's context counts"
    data = (await served.client.get("/v1/sessions/mine/messages")).json()["data"]
    contents = [message["content"] for message in data]
    assert contents == ["[[say=one]]", "one", "[[echo]]", answer["choices"][0]["message"]["content"]]


async def test_a_busy_session_is_409_unless_told_to_interrupt(served: Served) -> None:
    body = asking("[[tokens=900 rate=100]]", session_id="s")
    first = asyncio.create_task(served.client.post(PATH, json=body))

    async def begun() -> bool:
        session = await served.client.get("/v1/sessions/s")
        return session.status_code == 200 and session.json()["active_turn"] is not None

    await eventually_async(begun)
    refused = await served.client.post(PATH, json=asking("[[say=now]]", session_id="s"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "turn_in_progress")
    assert "x-should-retry" not in refused.headers, "waiting helps here"
    again = await ask(served, asking("[[say=now]]", session_id="s"), **{"X-On-Busy": "interrupt"})
    assert again["choices"][0]["message"]["content"] == "now"
    stopped = (await asyncio.wait_for(first, 10)).json()["choices"][0]
    assert stopped["finish_reason"] == "stop"
    assert expected_text(900).startswith(stopped["message"]["content"])


async def test_a_tool_call_and_its_result(served: Served) -> None:
    body = asking("[[tool=weather tokens=4]]", tools=[TOOL])
    choice = (await ask(served, body))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    [call] = choice["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (
        "weather",
        {"location": "Berlin"},
    )
    result = {"role": "tool", "tool_call_id": call["id"], "content": "Rain."}
    body["messages"] += [choice["message"], result]
    answer = await ask(served, body)
    assert answer["choices"][0]["message"]["content"] == expected_text(4)


@pytest.mark.parametrize("fault", ["tool_parts", "tool_without_id"])
async def test_tool_calls_in_odd_shapes_arrive_whole(served: Served, fault: str) -> None:
    choice = (await ask(served, asking(f"[[tool=weather fault={fault}]]", tools=[TOOL])))["choices"][0]
    [call] = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"location": "Berlin"}


@pytest.mark.parametrize("fault", ["tools_without_index", "tools_with_one_index"])
async def test_two_calls_that_are_not_numbered_stay_two(served: Served, fault: str) -> None:
    choice = (await ask(served, asking(f"[[tool=weather fault={fault}]]", tools=[TOOL])))["choices"][0]
    calls = choice["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"location": "Berlin"}] * 2
    assert len({call["id"] for call in calls}) == 2
    chunks, _ = await stream(served, asking(f"[[tool=weather fault={fault}]]", tools=[TOOL]))
    deltas = [delta for chunk in chunks for delta in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [delta["index"] for delta in deltas] == [0, 1]


async def test_pieces_that_could_be_of_either_call_fail_the_attempt(served: Served, double: Double) -> None:
    body = asking("[[tool=weather fault=tools_unclear times=1]]", tools=[TOOL])
    [call] = (await ask(served, body))["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"location": "Berlin"}
    assert len(list(double.calls)) == 2


@pytest.mark.parametrize("size", ["", " size=1"])
@pytest.mark.parametrize("shape", ["crlf", "cr", "bom", "data_lines", "nulls", "partial_usage"])
async def test_an_answer_is_the_same_in_every_shape_that_it_may_come_in(
    served: Served, double: Double, shape: str, size: str
) -> None:
    chunks, _ = await stream(
        served,
        asking(f"[[tokens=9 reasoning=2 fault={shape}{size}]]", stream_options={"include_usage": True}),
    )
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == expected_text(9)
    assert "".join(delta.get("reasoning", "") for delta in deltas) == expected_text(2, -1)
    usage = chunks[-1]["usage"]
    assert (usage["completion_tokens"], usage["prompt_tokens"]) == (
        11,
        next(iter(double.calls)).prompt_tokens,
    )
    assert len(list(double.calls)) == 1


async def test_json_mode_is_passed_on(served: Served) -> None:
    answer = await ask(served, asking("Say hi.", response_format={"type": "json_object"}))
    assert set(json.loads(answer["choices"][0]["message"]["content"])) == {"answer"}


async def test_models_are_listed_at_both_addresses(served: Served) -> None:
    ours = (await served.client.get("/v1/models")).json()
    assert ours == (await served.client.get("/openai/v1/models")).json()
    assert ours["object"] == "list"
    for model in ours["data"]:
        assert {"id", "object", "created", "owned_by"} <= set(model)
        for root in ("/v1", "/openai/v1"):
            assert (await served.client.get(f"{root}/models/{model['id']}")).json() == model


async def test_a_null_model_is_the_default_one_and_a_dead_one_its_successor(served: Served) -> None:
    assert (await ask(served, asking("hi", model=None)))["model"] == "openai/gpt-oss-120b"
    assert (await ask(served, asking("hi", model="llama3-8b-8192")))["model"] == "openai/gpt-oss-20b"


async def test_reasoning_can_be_hidden(served: Served) -> None:
    for fields in ({"include_reasoning": False}, {"reasoning_format": "hidden"}):
        message = (await ask(served, asking("[[tokens=3 reasoning=5]]", **fields)))["choices"][0]["message"]
        assert message == {"role": "assistant", "content": expected_text(3)}
