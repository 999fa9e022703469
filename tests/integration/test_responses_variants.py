"""What clients of Responses and Conversations may send besides what most do, and what a model is told."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.double import Double
from tests.integration.test_responses import sent
from tests.support.service import Served

PATH = "/v1/responses"
ASKED = {"role": "user", "content": "[[say=ok]] x"}
CALL = {"type": "function_call", "call_id": "c1", "name": "w", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "r"}
TOLD = {"role": "user", "content": "[[say=ok]] x"}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "w", "arguments": "{}"}}],
}
OPTIONAL = (
    *("model", "instructions", "previous_response_id", "conversation", "stream", "background", "store"),
    *("max_output_tokens", "temperature", "top_p", "reasoning", "text", "tools", "tool_choice"),
    *("parallel_tool_calls", "truncation", "metadata", "include", "user", "safety_identifier", "prompt"),
    *("prompt_cache_key", "top_logprobs", "max_tool_calls", "service_tier", "stream_options", "unknown"),
)


async def post(served: Served, /, path: str = PATH, **body: Any) -> Any:
    return await served.client.post(path, json=body)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([{"type": None, **ASKED, "id": None, "status": None, "name": "bob", "phase": "x"}], [TOLD]),
        (
            [{"role": "developer", "content": "D"}, {"role": "system", "content": "S"}, ASKED],
            [{"role": "system", "content": "D"}, {"role": "system", "content": "S"}, TOLD],
        ),
        (
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, ASKED],
            [{"role": "assistant", "content": "no"}, TOLD],
        ),
        ([{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None}, ASKED], [TOLD]),
        (
            [ASKED, CALL, {"type": "reasoning", "summary": []}, {**OUTPUT, "output": ""}],
            [TOLD, CALLED, {"role": "tool", "tool_call_id": "c1", "content": ""}],
        ),
        (
            [{"role": "user", "content": "\u2028 \U0001f600 \u0085 \ufeff"}, ASKED],
            [{"role": "user", "content": "\u2028 \U0001f600 \u0085 \ufeff"}, TOLD],
        ),
        (
            [ASKED, {**CALL, "arguments": "x" * 200_000}, OUTPUT],
            [
                TOLD,
                {
                    **CALLED,
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "w", "arguments": "x" * 200_000},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "r"},
            ],
        ),
    ],
    ids=["fields", "systems", "refusal", "reasoning", "empty output", "unicode", "long arguments"],
)
async def test_input_of_all_kinds_is_told(
    served: Served, double: Double, given: list[Any], told: list[Any]
) -> None:
    answer = await post(served, input=given, truncation="auto")
    assert (answer.status_code, answer.json()["status"]) == (200, "completed"), answer.text
    assert sent(double) == told


async def test_a_null_is_a_field_that_is_not_there(served: Served, double: Double) -> None:
    nothing: dict[str, Any] = dict.fromkeys(OPTIONAL)
    answer = await served.client.post(PATH, json={"input": "[[say=ok]] x", **nothing})
    assert answer.status_code == 200, answer.text
    plain = await post(served, input="[[say=ok]] x")
    own = ("id", "created_at", "output")
    assert {**answer.json(), **dict.fromkeys(own)} == {**plain.json(), **dict.fromkeys(own)}
    first, second = (call.describe() for call in double.calls.find())
    assert {**first, "body": None}.keys() == {**second, "body": None}.keys()
    assert sent(double) == [TOLD]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"reasoning": {"effort": "minimal"}}, "reasoning.effort"),
        ({"conversation": ""}, "conversation"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"input": [ASKED, CALL]}, "input"),
    ],
)
async def test_a_refusal_names_the_field_as_the_request_does(
    served: Served, body: dict[str, Any], param: str
) -> None:
    answer = await post(served, **{"input": "x", **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), answer.text
    assert "reasoning_effort" not in error["message"]


async def test_a_reference_needs_no_type(served: Served, double: Double) -> None:
    first = (await post(served, input="[[say=red]]")).json()
    refers = [{"role": "user", "content": "q"}, {"id": first["output"][0]["id"]}, ASKED]
    assert (await post(served, input=refers)).status_code == 200
    assert sent(double)[1] == {"role": "assistant", "content": "red"}
    missing = await post(served, input=[{"id": "msg_none"}, ASKED])
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "input[0].id")


async def test_null_takes_the_metadata_of_a_conversation_away(served: Served) -> None:
    made = (await post(served, "/v1/conversations", metadata={"a": "b"})).json()
    path = f"/v1/conversations/{made['id']}"
    assert (await post(served, path, metadata=None)).json()["metadata"] == {}
    assert (await post(served, path)).status_code == 400
    assert (await served.client.get(path)).json()["metadata"] == {}


async def test_a_list_behind_an_item_that_is_not_there_is_refused(served: Served) -> None:
    made = (await post(served, input="[[say=ok]]", conversation="c")).json()
    for path in (f"{PATH}/{made['id']}/input_items", "/v1/conversations/c/items"):
        answer = await served.client.get(path, params={"after": "msg_none"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "after"), answer.text


async def test_an_empty_stop_is_none(served: Served, double: Double) -> None:
    empty: tuple[Any, ...] = ("", [])
    for stop in empty:
        body = {"messages": [ASKED], "stop": stop, "user": "", "temperature": 0}
        answer = await served.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        asked: Any = orjson.loads(double.calls.find()[-1].body)
        assert (asked.keys() & {"stop", "user"}, asked["temperature"]) == (set(), 0)
