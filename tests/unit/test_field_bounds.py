"""How much each field of a body may hold: what is at its bound is taken, what is beyond it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from service.api.routes.conversations import ConversationBody, ItemsBody
from service.api.routes.keys import KeyBody
from service.api.routes.live_turns import StopBody
from service.dialects.aisdk_request import UIMessage, UseChatBody
from service.dialects.base import nests_deeper
from service.dialects.native import Edit, Params, SessionBody, SessionPatch, TurnBody
from service.dialects.openai_request import ChatMessage, CompletionBody
from service.dialects.responses_request import ReasoningOptions, ResponseBody
from service.dialects.text import ChatBody, ChatWithHistoryBody

SAID = {"role": "user", "content": "x"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f"}}
RESULT = {"tool_call_id": "c", "content": "x"}
PART = {"type": "text", "text": "x"}


def json_of(size: int) -> dict[str, Any]:
    """An object of so many bytes."""
    return {"a": "x" * (size - len('{"a":""}'))}


def tools_of(size: int) -> list[dict[str, Any]]:
    return [{**TOOL, "a": "x" * (size - len('[{"type":"function","function":{"name":"f"},"a":""}]'))}]


def metadata(count: int, key: int = 1, value: int = 1) -> dict[str, str]:
    return {f"{n:0{key}d}": "v" * value for n in range(count)}


#: a model, one of its fields, and for a number a value of that size; the least and the most
FIELDS: list[tuple[type[BaseModel], str, Any, int | float, int | float]] = [
    (ChatWithHistoryBody, "history", lambda n: [SAID] * n, 0, 1_000),
    (ChatBody, "session_id", lambda n: "s" * n, 1, 128),
    (ChatBody, "system_prompt", lambda n: "x" * n, 0, 65_536),
    (ChatBody, "system_prompt", lambda n: "\u20ac" * (n // 3) + "x" * (n % 3), 0, 131_072),
    (ChatBody, "temperature", float, 0, 2),
    (ChatBody, "max_completion_tokens", int, 1, 1_000_000),
    (CompletionBody, "messages", lambda n: [SAID] * n, 1, 2_000),
    (CompletionBody, "tools", lambda n: [TOOL] * n, 0, 128),
    (CompletionBody, "tools", tools_of, 100, 262_144),
    (CompletionBody, "tool_choice", json_of, 10, 1_024),
    (CompletionBody, "response_format", json_of, 10, 65_536),
    (CompletionBody, "top_p", float, 0, 1),
    (CompletionBody, "stop", lambda n: "x" * n, 0, 1_024),
    (CompletionBody, "stop", lambda n: ["x"] * n, 0, 4),
    (CompletionBody, "max_tokens", int, 1, 1_000_000),
    (CompletionBody, "user", lambda n: "x" * n, 0, 512),
    (ChatMessage, "tool_calls", lambda n: [CALL] * n, 0, 128),
    (ChatMessage, "tool_call_id", lambda n: "x" * n, 0, 512),
    (Params, "stop", lambda n: ["x"] * n, 0, 4),
    (Params, "top_p", float, 0, 1),
    (Params, "temperature", float, 0, 2),
    (TurnBody, "content", lambda n: [PART] * n, 1, 100),
    (TurnBody, "tool_results", lambda n: [RESULT] * n, 1, 128),
    (TurnBody, "message_id", lambda n: "m" * n, 1, 200),
    (Edit, "message_id", lambda n: "m" * n, 1, 200),
    (SessionBody, "title", lambda n: "t" * n, 0, 200),
    (SessionBody, "system_prompt", lambda n: "x" * n, 0, 65_536),
    (SessionPatch, "title", lambda n: "t" * n, 0, 200),
    (SessionPatch, "version", lambda n: "v" * n, 0, 100),
    (ResponseBody, "input", lambda n: [SAID] * n, 0, 2_000),
    (ResponseBody, "instructions", lambda n: "x" * n, 0, 262_144),
    (ResponseBody, "tools", lambda n: [TOOL] * n, 0, 128),
    (ResponseBody, "tools", tools_of, 100, 262_144),
    (ResponseBody, "tool_choice", json_of, 10, 1_024),
    (ResponseBody, "top_p", float, 0, 1),
    (ResponseBody, "metadata", metadata, 0, 16),
    (ResponseBody, "metadata", lambda n: metadata(1, key=n), 2, 64),
    (ResponseBody, "metadata", lambda n: metadata(1, value=n), 0, 512),
    (ResponseBody, "prompt_cache_key", lambda n: "x" * n, 0, 512),
    (ReasoningOptions, "effort", lambda n: "x" * n, 0, 512),
    (UIMessage, "id", lambda n: "m" * n, 1, 200),
    (UseChatBody, "id", lambda n: "s" * n, 1, 128),
    (ConversationBody, "items", lambda n: [SAID] * n, 0, 20),
    (ItemsBody, "items", lambda n: [SAID] * n, 1, 20),
    (KeyBody, "name", lambda n: "x" * n, 1, 200),
    (KeyBody, "owner", lambda n: "x" * n, 1, 200),
    (StopBody, "principal", lambda n: "x" * n, 1, 400),
    (StopBody, "turn_id", lambda n: "x" * n, 1, 128),
]


def refused(model: type[BaseModel], field: str, value: Any) -> bool:
    """For itself; other fields may be missing."""
    try:
        model.model_validate({field: value})
    except ValidationError as error:
        return any(one["loc"][0] == field for one in error.errors())
    return False


@pytest.mark.parametrize(
    ("model", "field", "of", "least", "most"), FIELDS, ids=[f"{one[0].__name__}-{one[1]}" for one in FIELDS]
)
def test_a_field_takes_what_is_within_its_bounds(
    model: type[BaseModel], field: str, of: Any, least: float, most: float
) -> None:
    assert not refused(model, field, of(least))
    assert not refused(model, field, of(most))
    assert refused(model, field, of(most + (0.001 if of is float else 1)))
    if of is float:
        assert refused(model, field, -0.001)
    elif of is int or least == 1:
        assert refused(model, field, of(least - 1))


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        (ChatBody, "user_query", 7),
        (ChatBody, "temperature", "1"),
        (ChatBody, "max_completion_tokens", "5"),
        (ChatBody, "max_completion_tokens", 5.0),
        (CompletionBody, "stream", 1),
        (CompletionBody, "stream", "true"),
        (TurnBody, "regenerate", "yes"),
        (SessionBody, "title", 7),
        (KeyBody, "name", "a\x7fb"),
        (TurnBody, "message_id", "a\nb"),
        (ChatBody, "session_id", "a b"),
        (ChatBody, "session_id", ".."),
    ],
)
def test_a_field_is_of_its_type_and_no_other_is_made_into_it(
    model: type[BaseModel], field: str, value: Any
) -> None:
    assert refused(model, field, value)


def test_a_value_nests_so_deep_and_no_deeper() -> None:
    def nested(levels: int) -> Any:
        value: Any = []
        for n in range(levels):
            value = [value] if n % 2 else {"a": value}
        return value

    assert not nests_deeper("text", 0)
    for levels in (0, 1, 2, 64):
        assert not nests_deeper(nested(levels), levels)
        assert nests_deeper(nested(levels + 1), levels)
