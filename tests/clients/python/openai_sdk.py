"""OpenAI's SDK for Python; with `library: groq` Groq's, which has the same methods."""

from __future__ import annotations

import json
from typing import Any

from playing import Asked, play
from shapes import SCHEMA, TOOL, Weather, said


def client(asked: Asked) -> Any:
    if asked.options["library"] == "groq":
        from groq import Groq

        return Groq(base_url=asked.url, api_key="none", max_retries=0)
    from openai import OpenAI

    return OpenAI(base_url=asked.v1, api_key="none", max_retries=0)


def stream(asked: Asked, question: str) -> None:
    completions = client(asked).chat.completions
    for chunk in completions.create(model=asked.model, messages=said(question), stream=True):
        asked.show(chunk.choices[0].delta.content)


def tools(asked: Asked, question: str) -> str:
    completions = client(asked).chat.completions
    messages = said(question)
    message = completions.create(model=asked.model, messages=messages, tools=[TOOL]).choices[0].message
    messages.append(message)
    for call in message.tool_calls:
        content = asked.weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
    answer = completions.create(model=asked.model, messages=messages, tools=[TOOL])
    return str(answer.choices[0].message.content)


def structured(asked: Asked, question: str) -> Any:
    if asked.options["library"] == "openai":
        return parsed(asked, question)
    schema = {"name": "weather", "strict": True, "schema": SCHEMA}
    answer = client(asked).chat.completions.create(
        model=asked.model,
        messages=said(question),
        response_format={"type": "json_schema", "json_schema": schema},
    )
    return json.loads(answer.choices[0].message.content)


def parsed(asked: Asked, question: str) -> Any:
    """OpenAI's own way, by a class of pydantic's."""
    completions = client(asked).chat.completions
    answer = completions.parse(model=asked.model, messages=said(question), response_format=Weather)
    return answer.choices[0].message.parsed.model_dump()


play(stream=stream, tools=tools, structured=structured)
