"""LiteLLM, with its providers `openai/` and `groq/`."""

from __future__ import annotations

import json
from typing import Any

import litellm
from playing import Asked, play
from shapes import TOOL, Weather, said


def complete(asked: Asked, messages: list[Any], **options: Any) -> Any:
    groq = asked.options["library"] == "groq"
    return litellm.completion(
        model=f"{'groq' if groq else 'openai'}/{asked.model}",
        api_base=f"{asked.url}/openai/v1" if groq else asked.v1,
        api_key="none",
        messages=messages,
        num_retries=0,
        max_retries=0,
        **options,
    )


def stream(asked: Asked, question: str) -> None:
    for chunk in complete(asked, said(question), stream=True):
        asked.show(chunk.choices[0].delta.content)


def tools(asked: Asked, question: str) -> str:
    messages = said(question)
    message = complete(asked, messages, tools=[TOOL]).choices[0].message
    messages.append(message)
    for call in message.tool_calls:
        content = asked.weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
    return str(complete(asked, messages, tools=[TOOL]).choices[0].message.content)


def structured(asked: Asked, question: str) -> Any:
    answer = complete(asked, said(question), response_format=Weather)
    return json.loads(answer.choices[0].message.content)


play(stream=stream, tools=tools, structured=structured)
