"""The OpenAI Agents SDK on its chat completions model, or on its Responses model."""

from __future__ import annotations

from typing import Any

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from playing import Asked, play
from shapes import Weather

set_tracing_disabled(True)


def agent(asked: Asked, **options: Any) -> Any:
    client = AsyncOpenAI(base_url=asked.v1, api_key="none", max_retries=0, default_headers=asked.headers)
    kind = OpenAIResponsesModel if asked.options.get("responses") else OpenAIChatCompletionsModel
    return Agent(name="a", model=kind(model=asked.model, openai_client=client), **options)


async def stream(asked: Asked, question: str) -> None:
    run = Runner.run_streamed(agent(asked), question)
    async for event in run.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            asked.show(event.data.delta)


async def tools(asked: Asked, question: str) -> str:
    weather = function_tool(asked.weather, name_override="weather")
    return str((await Runner.run(agent(asked, tools=[weather]), question)).final_output)


async def structured(asked: Asked, question: str) -> Any:
    return (await Runner.run(agent(asked, output_type=Weather), question)).final_output.model_dump()


play(stream=stream, tools=tools, structured=structured)
