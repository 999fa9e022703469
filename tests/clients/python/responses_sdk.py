"""OpenAI's SDK for Python and its Responses: the raw loop, or with `helper` its `.stream()`, which checks."""

from __future__ import annotations

import json
from typing import Any

from openai import OpenAI
from playing import Asked, play
from shapes import PARAMETERS, Weather

TOOL = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}


def responses(asked: Asked) -> Any:
    return OpenAI(base_url=asked.v1, api_key="none", max_retries=0).responses


def stream(asked: Asked, question: str) -> None:
    if asked.options["helper"]:
        with responses(asked).stream(model=asked.model, input=question) as events:
            for event in events:
                if event.type == "response.output_text.delta":
                    asked.show(event.delta)
            assert events.get_final_response().output_text == "".join(asked.seen)
        return
    for event in responses(asked).create(model=asked.model, input=question, stream=True):
        if event.type == "response.output_text.delta":
            asked.show(event.delta)


def tools(asked: Asked, question: str) -> str:
    """The whole input again; `previous_response_id` with the outputs alone where the helper is used."""
    create = responses(asked).create
    given: list[Any] = [{"role": "user", "content": question}]
    first = create(model=asked.model, input=given, tools=[TOOL])
    calls = [item for item in first.output if item.type == "function_call"]
    outputs = [
        {
            "type": "function_call_output",
            "call_id": call.call_id,
            "output": asked.weather(**json.loads(call.arguments)),
        }
        for call in calls
    ]
    answer = create(model=asked.model, input=[*given, *first.output, *outputs], tools=[TOOL])
    return str(answer.output_text)


def structured(asked: Asked, question: str) -> Any:
    parsed = responses(asked).parse(model=asked.model, input=question, text_format=Weather)
    return parsed.output_parsed.model_dump()


play(stream=stream, tools=tools, structured=structured)
