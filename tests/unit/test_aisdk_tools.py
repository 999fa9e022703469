"""Tools, ends and earlier rounds as useChat of the AI SDK is told of them, and as it sends them back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service import events, parts
from service.dialects import aisdk_request
from service.dialects.aisdk import AiSdkEncoder, ended_metadata, given_input, given_output
from service.engine.sends import Send
from service.errors import ServiceError
from service.events import Event

TURN = "t_1"
STARTED = {"turn_id": TURN, "session_id": "s", "model": "m", "created": 1_790_000_000_123}
USAGE: dict[str, Any] = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
ENDED = {"finish_reason": "stop", "usage": USAGE}
CALL: parts.Part = {"type": "tool_call", "id": "a", "name": "f", "arguments": '{"q":1}'}


def chunks(encoder: AiSdkEncoder, *log: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """All but `[DONE]`."""
    found = [events.structured(name, body) for name, body in ((events.STARTED, STARTED), *log)]
    data = b"".join([encoder.encode(Event(place, one)) for place, one in enumerate(found, 1)]).decode()
    told = [frame.partition("\nid: ")[0].removeprefix("data: ") for frame in data.split("\n\n")[:-1]]
    return [json.loads(one) for one in told if one != "[DONE]"]


@pytest.mark.parametrize(
    ("state", "finish", "reason"),
    [
        ("completed", "stop", "stop"),
        ("completed", "length", "length"),
        ("completed", "content_filter", "content-filter"),
        ("completed", "tool_calls", "tool-calls"),
        ("completed", "of the future", "other"),
        ("completed", None, "other"),
        ("stopped", "stop", "stop"),
        ("failed", None, "error"),
        ("failed", "length", "error"),
    ],
)
def test_an_end_has_a_reason_that_the_ai_sdk_knows(state: str, finish: str | None, reason: str) -> None:
    assert ended_metadata(state, finish, "m", None) == {"state": state, "finishReason": reason, "model": "m"}


def test_usage_has_the_ai_sdk_s_names_and_details_where_there_are_any() -> None:
    told = {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}
    assert ended_metadata("completed", "stop", "m", USAGE)["usage"] == told
    details = {
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    found = ended_metadata("completed", "stop", "m", {**USAGE, **details})["usage"]
    assert found == {**told, "reasoningTokens": 2, "cachedInputTokens": 3}


def test_the_model_of_an_end_is_the_one_that_has_answered() -> None:
    log = [(events.ATTEMPT, {"attempt": number, "model": model}) for number, model in ((1, "m"), (2, "m2"))]
    *_, last = chunks(AiSdkEncoder(TURN), *log, (events.COMPLETED, ENDED))
    assert last["messageMetadata"]["model"] == "m2"


def test_earlier_rounds_of_an_answer_are_told_as_steps_that_are_over() -> None:
    before = [
        {"type": "reasoning", "text": "Hm"},
        CALL,
        {**CALL, "id": "b", "arguments": "nonsense"},
        parts.result("a", '{"x":1}', json=True),
        parts.result("b", "no", is_error=True),
    ]
    start, *told, finish_step, finish = chunks(AiSdkEncoder(TURN, before=before), (events.COMPLETED, ENDED))
    assert [one["type"] for one in (start, finish_step, finish)] == ["start", "finish-step", "finish"]
    assert told == [
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "before-0-0"},
        {"type": "reasoning-delta", "id": "before-0-0", "delta": "Hm"},
        {"type": "reasoning-end", "id": "before-0-0"},
        {"type": "tool-input-available", "toolCallId": "a", "toolName": "f", "input": {"q": 1}},
        {"type": "tool-input-available", "toolCallId": "b", "toolName": "f", "input": "nonsense"},
        {"type": "tool-output-available", "toolCallId": "a", "output": {"x": 1}},
        {"type": "tool-output-error", "toolCallId": "b", "errorText": "no"},
        {"type": "finish-step"},
        {"type": "start-step"},
    ]


def test_pieces_of_two_calls_are_told_apart_and_given_whole_before_their_step_ends() -> None:
    def piece(index: int, **function: str) -> tuple[str, dict[str, Any]]:
        named = {"id": f"c{index}"} if "name" in function else {}
        return events.TOOL_CALL, {"index": index, **named, "function": function}

    _, _, *told, last = chunks(
        AiSdkEncoder(TURN),
        piece(0, name="f", arguments='{"q"'),
        piece(1, name="g"),
        piece(0, arguments=":1}"),
        (events.COMPLETED, {**ENDED, "finish_reason": "tool_calls"}),
    )
    assert told == [
        {"type": "tool-input-start", "toolCallId": "c0", "toolName": "f"},
        {"type": "tool-input-delta", "toolCallId": "c0", "inputTextDelta": '{"q"'},
        {"type": "tool-input-start", "toolCallId": "c1", "toolName": "g"},
        {"type": "tool-input-delta", "toolCallId": "c0", "inputTextDelta": ":1}"},
        {"type": "tool-input-available", "toolCallId": "c0", "toolName": "f", "input": {"q": 1}},
        {"type": "tool-input-available", "toolCallId": "c1", "toolName": "g", "input": {}},
        {"type": "finish-step"},
    ]
    assert (last["type"], last["finishReason"]) == ("finish", "tool-calls")


def test_a_name_in_pieces_is_whole_when_the_call_is() -> None:
    pieces = [{"name": "get_"}, {"name": "weather", "arguments": "{}"}]
    *_, available, _, _ = chunks(
        AiSdkEncoder(TURN),
        *((events.TOOL_CALL, {"index": 0, "id": "c0", "function": piece}) for piece in pieces),
        (events.COMPLETED, {**ENDED, "finish_reason": "tool_calls"}),
    )
    assert (available["type"], available["toolName"]) == ("tool-input-available", "get_weather")


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("", {}),
        ('{"q":[1]}', {"q": [1]}),
        ("{", "{"),
        ("[" * 66 + "]" * 66, "[" * 66 + "]" * 66),
        ("[" * 65 + "]" * 65, json.loads("[" * 65 + "]" * 65)),
    ],
)
def test_a_tool_is_given_a_value_or_the_model_s_words(arguments: str, value: Any) -> None:
    assert given_input(arguments) == value
    many = "[" + ",".join(["{}"] * 20_000) + "]"
    assert given_input(many) == many


def test_what_a_tool_gave_is_told_as_it_was_given() -> None:
    assert given_output(parts.result("a", '{"x":1}', json=True)) == {"x": 1}
    assert given_output(parts.result("a", '{"x":1}')) == '{"x":1}'


# What a page sends back


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool-f", "toolCallId": name, "state": "output-available", "input": {"q": 1}, **more}


def page(*told: dict[str, Any], **body: Any) -> Send:
    asked = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "?"}]}
    answer = {"id": "a1", "role": "assistant", "parts": list(told)}
    return aisdk_request.parse({"id": "s", "messages": [asked, answer], **body}, "p")


STEP = {"type": "step-start"}


def test_results_of_the_last_step_go_on_with_the_answer_each_time_under_another_key() -> None:
    first = page(STEP, tool("a", output={"x": 1}), tool("b", state="output-error", errorText="no"))
    assert (first.mode, first.message_id, first.must_exist) == ("continue", "u1", False)
    assert first.results == [
        parts.result("a", '{"x":1}', json=True),
        parts.result("b", "no", is_error=True),
    ]
    assert [part["id"] for part in first.prior if part["type"] == "tool_call"] == ["a", "b"]
    second = page(STEP, tool("a", output="1"), STEP, tool("c", output="2"))
    assert second.results == [parts.result("c", "2")]
    assert first.key is not None
    assert second.key is not None
    assert first.key.startswith("a1.")
    assert len({first.key, second.key, page(STEP, tool("a", output="1")).key}) == 3
    assert page(STEP, tool("a", output="1")).key == page(STEP, tool("a", output="1")).key


def test_the_rest_of_an_answer_is_wished_for_where_there_is_one() -> None:
    found = page({"type": "text", "text": "Half"}, **{"continue": True})
    assert (found.mode, found.must_exist, found.content, found.key) == ("continue", True, "", None)
    assert (found.results, found.prior) == ([], [])
    with pytest.raises(ServiceError) as refused:
        page({"type": "text", "text": "Whole"})
    assert refused.value.code == "invalid_request"
