"""What the suite of Open Responses asks in the seven tests of it that need nothing we lack, as rules of ours.

Its schemas want every field of a response, null where nothing is known, and of every event all its fields.
`image-input` is asked in test_images.py; what the suite asks of compaction and WebSockets there is not here.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tests.integration.test_responses import PATH, parsed
from tests.support.service import Served

MODEL = "openai/gpt-oss-120b"
Status = Literal["in_progress", "completed", "incomplete"]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class Text(Strict):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class Summary(Strict):
    type: Literal["summary_text"]
    text: str


class Message(Strict):
    type: Literal["message"]
    id: str
    status: Status
    role: Literal["assistant"]
    content: list[Text]
    phase: Literal["commentary", "final_answer"] | None = None


class Call(Strict):
    type: Literal["function_call"]
    id: str
    call_id: str
    name: str
    arguments: str
    status: Status


class Reasoning(Strict):
    type: Literal["reasoning"]
    id: str
    summary: list[Summary]


Item = Annotated[Message | Call | Reasoning, Field(discriminator="type")]


class Cached(Strict):
    cached_tokens: int


class Thought(Strict):
    reasoning_tokens: int


class Usage(Strict):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: Cached
    output_tokens_details: Thought


class Error(Strict):
    code: str
    message: str


class Reason(Strict):
    reason: str


class Tool(Strict):
    type: Literal["function"]
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class Resource(Strict):
    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    incomplete_details: Reason | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[Item]
    error: Error | None
    tools: list[Tool]
    tool_choice: str | dict[str, Any]
    truncation: Literal["auto", "disabled"]
    parallel_tool_calls: bool
    text: dict[str, Any]
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    temperature: float
    reasoning: dict[str, Any] | None
    usage: Usage | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    store: bool
    background: bool
    service_tier: str
    metadata: dict[str, str]
    safety_identifier: str | None
    prompt_cache_key: str | None


RESOURCE, ITEM = TypeAdapter(Resource), TypeAdapter[Any](Item)
WHERE = {"item_id": str, "output_index": int}
# What an event has besides its type and its number; `response` and `item` are checked whole.
FIELDS: dict[str, dict[str, type]] = {
    "response.created": {"response": dict},
    "response.in_progress": {"response": dict},
    "response.completed": {"response": dict},
    "response.output_item.added": {"output_index": int, "item": dict},
    "response.output_item.done": {"output_index": int, "item": dict},
    "response.content_part.added": {**WHERE, "content_index": int, "part": dict},
    "response.content_part.done": {**WHERE, "content_index": int, "part": dict},
    "response.output_text.delta": {**WHERE, "content_index": int, "delta": str, "logprobs": list},
    "response.output_text.done": {**WHERE, "content_index": int, "text": str, "logprobs": list},
    "response.function_call_arguments.delta": {**WHERE, "delta": str},
    "response.function_call_arguments.done": {**WHERE, "arguments": str},
    "response.reasoning_summary_part.added": {**WHERE, "summary_index": int, "part": dict},
    "response.reasoning_summary_part.done": {**WHERE, "summary_index": int, "part": dict},
    "response.reasoning_summary_text.delta": {**WHERE, "summary_index": int, "delta": str},
    "response.reasoning_summary_text.done": {**WHERE, "summary_index": int, "text": str},
}


def said(role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text, **more}


TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
    },
}
FIRST = said("user", "My name is Alice.")
# Each is one of the suite's tests: what it sends, and the types of the items that have to come back.
ASKED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "basic-response": ({"input": [said("user", "Say hello in three words.")]}, ["message"]),
    "system-prompt": (
        {"input": [said("system", "You are a pirate."), said("user", "Say hello.")]},
        ["message"],
    ),
    "multi-turn": (
        {"input": [FIRST, said("assistant", "Hello Alice!"), said("user", "What is my name?")]},
        ["message"],
    ),
    "assistant-phase": (
        {
            "input": [
                FIRST,
                said("assistant", "Let me think.", phase="commentary"),
                said("assistant", "Hello Alice!", phase="final_answer"),
                said("user", "What is my name?"),
            ]
        },
        ["message"],
    ),
    "response-output-phase-schema": ({"input": "Say hello."}, ["message"]),
    "tool-calling": (
        {"input": [said("user", "[[tool=get_weather]] in San Francisco?")], "tools": [TOOL]},
        ["function_call"],
    ),
}


@pytest.mark.parametrize("name", ASKED)
async def test_an_object_has_all_that_the_suite_asks_for(served: Served, name: str) -> None:
    body, types = ASKED[name]
    answer = await served.client.post(PATH, json={"model": MODEL, **body})
    assert answer.status_code == 200, answer.text
    found = RESOURCE.validate_json(answer.content)
    assert (found.status, found.model, [item.type for item in found.output]) == ("completed", MODEL, types)
    stored = RESOURCE.validate_json((await served.client.get(f"{PATH}/{found.id}")).content)
    assert stored.output == found.output


@pytest.mark.parametrize("name", [*ASKED, "reasoning"])
async def test_a_stream_has_all_that_the_suite_asks_for(served: Served, name: str) -> None:
    asked = {"input": "[[tokens=5 reasoning=3]]", "reasoning": {"summary": "auto"}}
    body, types = ASKED.get(name, (asked, ["reasoning", "message"]))
    answer = await served.client.post(PATH, json={"model": MODEL, "stream": True, **body})
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (
        200,
        "text/event-stream",
    )
    events = parsed(answer.text)
    for event in events:
        for field, kind in {"sequence_number": int, **FIELDS[event["type"]]}.items():
            assert type(event[field]) is kind, event
        if "response" in event:
            RESOURCE.validate_python(event["response"])
        if "item" in event:
            ITEM.validate_python(event["item"])
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert (events[-1]["type"], events[-1]["response"]["status"]) == ("response.completed", "completed")
    assert [item["type"] for item in events[-1]["response"]["output"]] == types
    _check_lives(events)


def _check_lives(events: list[dict[str, Any]]) -> None:
    """Each item is begun once and ended once, with its own events in between, one item after the other."""
    places = [event.get("output_index") for event in events[2:-1]]
    assert [place for place, _ in itertools.groupby(places)] == list(range(len({*places})))
    for place in {*places}:
        mine = [event for event in events[2:-1] if event["output_index"] == place]
        assert mine[0]["type"] == "response.output_item.added"
        assert mine[-1]["type"] == "response.output_item.done"
        assert (
            {event["item_id"] for event in mine[1:-1]} == {mine[0]["item"]["id"]} == {mine[-1]["item"]["id"]}
        )
        deltas = "".join(event["delta"] for event in mine if event["type"].endswith(".delta"))
        item = mine[-1]["item"]
        whole = item.get("arguments") or (item.get("content") or item.get("summary"))[0]["text"]
        assert deltas == whole
        assert item == events[-1]["response"]["output"][place]
