"""What a chat completion asks for, as a send: what Groq takes is passed on, what it refuses is cleaned."""

from __future__ import annotations

from typing import Any

import pytest

from service.dialects.base import MAX_HISTORY, Encoder
from service.dialects.openai import CompletionEncoder, StreamEncoder
from service.dialects.openai_request import parse
from service.engine.sends import Send
from service.errors import ServiceError

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f"}}


def parsed(session: str | None = None, **body: Any) -> tuple[Send, Encoder]:
    return parse({"messages": [USER], **body}, "p", session)


def send_of(**body: Any) -> Send:
    return parsed(**body)[0]


def test_all_that_groq_takes_is_passed_on_under_its_name() -> None:
    given: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["x"],
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
        "user": "u",
    }
    assert send_of(**given).params == given


def test_what_some_clients_send_for_nothing_is_not_passed_on() -> None:
    assert send_of(stop="", user="", reasoning_effort="").params == {}
    assert send_of(stop=[], seed=0, temperature=0).params == {"seed": 0, "temperature": 0}


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("temperature", 0, 2),
        ("top_p", 0, 1),
        ("max_tokens", 1, 1_000_000),
        ("max_completion_tokens", 1, 1_000_000),
    ],
)
def test_a_number_is_taken_within_its_bounds(name: str, least: int, most: int) -> None:
    for value in (least, most):
        assert value in send_of(**{name: value}).params.values()
    for value in (least - 1, most + 1):
        with pytest.raises(ServiceError) as refused:
            send_of(**{name: value})
        assert (refused.value.code, refused.value.param) == ("invalid_request", name)


def test_a_question_is_asked_once_and_results_behind_it_go_on_with_their_answer() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = send_of(messages=[USER, {"role": "assistant", "content": "Yo"}, USER])
    assert (asked.mode, asked.prior, asked.results) == ("append", [], [])
    answered = [
        USER,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    gone_on = send_of(messages=answered)
    assert (gone_on.mode, gone_on.content) == ("continue", "Hi")
    assert [part["content"] for part in gone_on.results] == ["42"]
    assert [part["type"] for part in gone_on.prior] == ["tool_call", "tool_result"]


def test_of_tools_nothing_is_said_without_tools() -> None:
    assert send_of(tool_choice="none", parallel_tool_calls=True).params == {}
    assert send_of(tools=[], tool_choice="auto").params == {}


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
    ],
)
def test_both_names_of_the_completion_limit_are_one(body: dict[str, Any], most: int) -> None:
    assert send_of(**body).params == {"max_completion_tokens": most}


def test_messages_are_what_groq_s_closed_schemas_take() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "index": 0}
    found = send_of(
        messages=[
            {"role": "developer", "content": "Be brief.", "name": "x"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "What "}, {"type": "text", "text": "now?"}],
            },
            {"role": "assistant", "content": "", "tool_calls": [call, call], "id": "m"},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "assistant", "refusal": "No."},
            {"role": "user", "content": "Go on."},
        ]
    )
    told = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert found.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What now?"},
        {"role": "assistant", "content": None, "tool_calls": [told, told]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Go on."},
    ]
    assert (found.content, found.system) == ("Go on.", "Be brief.")
    assert [(seed["role"], seed["content"]) for seed in found.seeds] == [
        ("user", "What now?"),
        ("assistant", "No."),
    ]
    assert not found.seeds_required  # a client sends its whole conversation each time


def test_of_a_long_conversation_the_newest_is_kept_for_the_session() -> None:
    said = [{"role": "user", "content": str(number)} for number in range(MAX_HISTORY + 3)]
    seeds = send_of(messages=[*said, USER]).seeds
    assert (len(seeds), seeds[0]["content"], seeds[-1]["content"]) == (
        MAX_HISTORY,
        "3",
        str(MAX_HISTORY + 2),
    )


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2},
        {"logprobs": True},
        {"top_logprobs": 1},
        {"logit_bias": {"1": 1}},
        {"audio": {}},
        {"modalities": ["audio"]},
        {"functions": [{}]},
        {"function_call": {"name": "f"}},
    ],
)
def test_what_would_change_the_answer_and_cannot_be_had_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ServiceError) as refused:
        parsed(**body)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", next(iter(body)))


def test_what_asks_for_nothing_is_taken() -> None:
    harmless: dict[str, Any] = {
        "n": 1,
        "logprobs": False,
        "top_logprobs": 0,
        "logit_bias": {},
        "audio": None,
        "modalities": ["text"],
        "functions": [],
        "function_call": "auto",
        "unknown": {"x": 1},
    }
    assert send_of(**harmless).params == {}


@pytest.mark.parametrize(
    ("body", "shows", "encoder"),
    [
        ({}, "end", CompletionEncoder),
        ({"stream": True}, "all", StreamEncoder),
        ({"stream": True, "include_reasoning": False}, "text", StreamEncoder),
        ({"stream": True, "reasoning_format": "hidden"}, "text", StreamEncoder),
    ],
)
def test_what_is_shown_before_the_end_is_as_the_stream_shows_it(
    body: dict[str, Any], shows: str, encoder: type[Encoder]
) -> None:
    send, found = parsed(**body)
    assert (send.shows, type(found)) == (shows, encoder)


def test_a_session_in_the_body_wins_over_the_header_s() -> None:
    assert parsed("h")[0].session_id == "h"
    assert parsed("h", session_id="b")[0].session_id == "b"
    assert parsed("")[0].session_id is None
    with pytest.raises(ServiceError):
        parsed("no spaces")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "query_empty"),
        (" \n", "query_empty"),
        ([], "query_empty"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], "invalid_request"),
        ([{"type": "text"}], "invalid_request"),
        (["Hi"], "unsupported_parameter"),
        ([{"type": "text", "text": "Hi"}, {"type": "input_audio"}], "unsupported_parameter"),
        (5, "invalid_request"),
    ],
)
def test_a_question_is_text(content: Any, code: str) -> None:
    with pytest.raises(ServiceError) as refused:
        parsed(messages=[{"role": "user", "content": content}])
    assert refused.value.code == code


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool"])
def test_nobody_but_the_user_says_anything_but_text(role: str) -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "https://x.example/a"}},
    ]
    with pytest.raises(ServiceError) as refused:
        send_of(messages=[{"role": role, "content": parts}, USER])
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "messages.0.content")


def test_what_an_assistant_thought_is_not_what_it_said() -> None:
    parts = [
        {"type": "thinking", "thinking": "Hm"},
        {"type": "text", "text": "Yes"},
        {"type": "refusal", "refusal": "!"},
    ]
    found = send_of(messages=[USER, {"role": "assistant", "content": parts}, USER])
    assert found.messages is not None
    assert found.messages[1]["content"] == "Yes!"


def test_a_conversation_of_system_messages_asks_the_last_of_them() -> None:
    found = send_of(messages=[{"role": "system", "content": "a"}, {"role": "system", "content": "b"}])
    assert (found.content, found.system) == ("b", "a")
    with pytest.raises(ServiceError) as refused:
        send_of(messages=[{"role": "assistant", "content": "a"}])
    assert refused.value.code == "query_empty"


def test_usage_is_told_where_it_was_asked_for() -> None:
    for asked in (True, False):
        _, encoder = parsed(stream=True, stream_options={"include_usage": asked})
        assert isinstance(encoder, StreamEncoder)
        assert encoder._include_usage is asked
