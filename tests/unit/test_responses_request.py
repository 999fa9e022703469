"""What a Response asks for, as a send: parameters by Groq's names, one context, an echo to repeat."""

from __future__ import annotations

from typing import Any

import pytest

from service.dialects.responses_request import Call, begin_with, go_on_with, parse
from service.errors import ServiceError

FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}


def begun(given: Any = "Hi", **body: Any) -> Call:
    """As a new session begins with it."""
    call = parse({"input": given, **body}, "p")
    begin_with(call, call.items)
    return call


def gone_on(given: Any = "Hi", **body: Any) -> Call:
    call = parse({"input": given, **body}, "p")
    go_on_with(call, call.items)
    return call


def refused(given: Any = "Hi", **body: Any) -> tuple[str, str | None]:
    with pytest.raises(ServiceError) as caught:
        begun(given, **body)
    return caught.value.code, caught.value.param


def test_parameters_have_groq_s_names() -> None:
    found = begun(
        temperature=0.5,
        top_p=0.9,
        user="u",
        max_output_tokens=77,
        reasoning={"effort": "low"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}},
        tools=[FUNCTION],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
    ).send.params
    assert found == {
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "u",
        "max_completion_tokens": 77,
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {}, "strict": True},
        },
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"type": "object"}, "strict": True},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
    }


def test_a_plain_format_and_no_tools_ask_for_nothing() -> None:
    assert (
        begun(text={"format": {"type": "text"}}, tool_choice="auto", parallel_tool_calls=True).send.params
        == {}
    )


def test_the_echo_is_what_was_asked_for() -> None:
    body: dict[str, Any] = {
        "instructions": "Be brief.",
        "max_output_tokens": 5,
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "truncation": "auto",
        "user": "u",
    }
    assert begun(**body).send.response == {**body, "store": True}
    assert begun(store=False).send.response == {"store": False}
    assert begun(background=True).send.response == {"background": True, "store": True}
    assert begun(conversation={"id": "c"}).send.response == {"store": True, "conversation": "c"}
    form = {"type": "json_schema", "name": "n", "schema": {}}
    assert begun(text={"format": form}).send.response == {"store": True, "format": form}
    reasoning = {"effort": "low", "summary": None}
    assert begun(reasoning={"effort": "low"}).send.response == {"store": True, "reasoning": reasoning}
    asked = begun(tools=[{"type": "function", "name": "f"}], tool_choice="auto", parallel_tool_calls=False)
    assert asked.send.response == {
        "store": True,
        "tools": [{"type": "function", "name": "f", "description": None, "parameters": None, "strict": None}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
    }


def test_a_long_conversation_is_cut_where_that_was_asked_for() -> None:
    assert [begun(truncation=word).send.trims for word in ("auto", "disabled", None)] == [True, False, False]


@pytest.mark.parametrize(
    ("body", "shows"),
    [
        ({}, "end"),
        ({"stream": True}, "text"),
        ({"stream": True, "reasoning": {"summary": "auto"}}, "all"),
        ({"reasoning": {"summary": "auto"}}, "end"),
    ],
)
def test_what_is_shown_before_the_end(body: dict[str, Any], shows: str) -> None:
    assert begun(**body).send.shows == shows


def test_input_is_one_context_with_the_instructions_before_it() -> None:
    items = [
        {"role": "system", "content": "S"},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c"}]},
        {"type": "reasoning", "summary": []},
        {"role": "user", "content": "d"},
    ]
    found = begun(items, instructions="I").send
    assert found.messages == [
        {"role": "system", "content": "I"},
        {"role": "system", "content": "S"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    assert (found.content, found.system) == ("d", "S")
    assert found.seeds == [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]


def test_calls_of_one_answer_are_of_one_message_and_outputs_answer_them() -> None:
    items = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": ""},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "x"},
        {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "y"}]},
    ]
    found = begun(items).send
    assert found.messages is not None
    assert [(one["role"], one["content"]) for one in found.messages] == [
        ("user", "?"),
        ("assistant", None),
        ("tool", "x"),
        ("tool", "y"),
    ]
    assert [call["id"] for call in found.messages[1]["tool_calls"]] == ["1", "2"]
    assert [one.get("tool_call_id") for one in found.messages[2:]] == ["1", "2"]


@pytest.mark.parametrize(
    ("given", "body", "code", "param"),
    [
        (None, {}, "query_empty", "input"),
        (" ", {}, "query_empty", "input"),
        ("x", {"previous_response_id": "a", "conversation": "b"}, "invalid_request", "conversation"),
        ("x", {"background": True, "store": False}, "invalid_request", "store"),
        ("x", {"include": ["message.output_text.logprobs"]}, "unsupported_parameter", "include"),
        ("x", {"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
        ("x", {"top_logprobs": 2}, "unsupported_parameter", "top_logprobs"),
        ("x", {"max_tool_calls": 2}, "unsupported_parameter", "max_tool_calls"),
        ("x", {"service_tier": "flex"}, "unsupported_parameter", "service_tier"),
        ("x", {"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0].type"),
        ("x", {"tools": [{"type": "function"}]}, "invalid_request", "tools[0].name"),
        ("x", {"tools": [FUNCTION], "tool_choice": "any"}, "unsupported_parameter", "tool_choice"),
        ("x", {"tool_choice": {"type": "web_search"}}, "unsupported_parameter", "tool_choice"),
        ("x", {"text": {"format": {"type": "grammar"}}}, "unsupported_parameter", "text.format.type"),
        ([{"role": "robot", "content": "x"}], {}, "invalid_request", "input[0].role"),
        ([{"role": "user", "content": 5}], {}, "invalid_request", "input[0].content"),
        (
            [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x.example/a"}]}],
            {},
            "unsupported_parameter",
            "input[0].content[0].type",
        ),
        (
            [{"role": "user", "content": [{"type": "input_image"}]}],
            {},
            "invalid_request",
            "input[0].content[0].image_url",
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}],
            {},
            "unsupported_parameter",
            "input[0].content[0].file_id",
        ),
        (
            [{"role": "system", "content": [{"type": "input_image", "image_url": "https://x.example/a"}]}],
            {},
            "unsupported_parameter",
            "input[0].content[0].type",
        ),
        ([{"type": "web_search_call"}], {}, "unsupported_parameter", "input[0].type"),
        (
            [{"type": "function_call", "name": "f", "arguments": "{}"}],
            {},
            "invalid_request",
            "input[0].call_id",
        ),
        (
            [
                {"role": "user", "content": "?"},
                {"type": "function_call_output", "call_id": "1", "output": "x"},
            ],
            {},
            "invalid_request",
            "input[1].call_id",
        ),
    ],
)
def test_what_cannot_be_had_names_its_field(given: Any, body: dict[str, Any], code: str, param: str) -> None:
    assert refused(given, **body) == (code, param)


def test_what_a_conversation_goes_on_with_is_one_message_and_its_instructions() -> None:
    items = [
        {"role": "developer", "content": "D"},
        {"role": "user", "content": "a"},
        {"role": "user", "content": " "},
        {"role": "user", "content": "b"},
    ]
    found = gone_on(items, instructions="I").send
    assert (found.content, found.instructions, found.messages) == ("a\n\nb", "I\n\nD", None)
    assert gone_on().send.instructions is None
    for item in (
        {"role": "assistant", "content": "x"},
        {"type": "function_call_output", "call_id": "1", "output": "x"},
    ):
        with pytest.raises(ServiceError) as caught:
            gone_on([{"role": "user", "content": "a"}, item])
        assert caught.value.code == "unsupported_parameter"


def test_images_are_parts_of_what_the_user_says() -> None:
    url = "https://x.example/a.png"
    shown = {"type": "input_image", "image_url": url, "detail": "high"}
    content = [{"type": "input_text", "text": "what is it"}, shown]
    found = begun([{"role": "user", "content": content}]).send
    parts = [{"type": "text", "text": "what is it"}, {"type": "image", "url": url}]
    assert (found.content, found.parts) == ("what is it", parts)
    chat = [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": url}}]
    assert found.messages == [{"role": "user", "content": chat}]
    later = gone_on([{"role": "user", "content": "b"}, {"role": "user", "content": [shown]}]).send
    assert later.content == "b\n\n"
    assert later.parts[-1] == {"type": "image", "url": url}
    assert begun([{"role": "user", "content": [shown]}]).send.content == ""


def test_another_way_to_read_it_is_the_same_send_and_another_body_is_not() -> None:
    def of(**body: Any) -> str:
        return parse({"input": "Hi", **body}, "p").send.fingerprint()

    assert of(stream=True) == of()
    assert of(temperature=0.5) != of()
    assert of(previous_response_id="resp_1") != of()


CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "x"}
ASKED = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": 5, "schema": {}}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "", "schema": {}}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": "x"}}}, "text.format.schema"),
        ({"tools": [{**FUNCTION, "name": ""}]}, "tools[0].name"),
        ({"tools": [{**FUNCTION, "parameters": "x"}]}, "tools[0].parameters"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": 5}}, "tool_choice.name"),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice.name",
        ),
        ({"conversation": ""}, "conversation"),
        ({"conversation": {"id": "a/b"}}, "conversation"),
        ({"given": [ASKED, {**CALL, "call_id": ""}, OUTPUT]}, "input[1].call_id"),
        ({"given": [ASKED, {**CALL, "name": ""}, OUTPUT]}, "input[1].name"),
        ({"given": [ASKED, {**CALL, "name": "é" * 257}, OUTPUT]}, "input[1].name"),
        ({"given": [ASKED, CALL, {**OUTPUT, "call_id": "c" * 513}]}, "input[2].call_id"),
        ({"given": [ASKED, CALL]}, "input"),
        ({"given": [ASKED, CALL, ASKED]}, "input"),
    ],
)
def test_what_no_provider_would_take_is_named(body: dict[str, Any], param: str) -> None:
    assert refused(**body) == ("invalid_request", param)


def test_what_an_assistant_refused_is_what_it_said() -> None:
    said = [{"type": "output_text", "text": "Well. "}, {"type": "refusal", "refusal": "No."}]
    found = begun([ASKED, {"role": "assistant", "content": said}, ASKED]).send.messages
    assert found is not None
    assert found[1] == {"role": "assistant", "content": "Well. No."}


def test_a_reference_may_go_without_its_type() -> None:
    [item] = parse({"input": [{"id": "msg_1"}]}, "p").items
    assert (item.kind, item.id) == ("reference", "msg_1")
    [item] = parse({"input": [{"id": "msg_1", **ASKED}]}, "p").items
    assert (item.kind, item.text) == ("message", "Hi")


def test_outputs_may_come_in_any_order_behind_their_calls() -> None:
    other = {**CALL, "call_id": "d"}
    items = [ASKED, CALL, other, {**OUTPUT, "call_id": "d"}, OUTPUT, ASKED]
    found = begun(items).send.messages
    assert found is not None
    assert [one["role"] for one in found] == ["user", "assistant", "tool", "tool", "user"]
