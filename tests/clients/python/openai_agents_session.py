"""The OpenAI Agents SDK with its session of conversations: a tool in its second answer, a pop, a clear."""

from __future__ import annotations

import json
from typing import Any

from agents import (
    Agent,
    OpenAIConversationsSession,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from playing import Asked, play

set_tracing_disabled(True)


async def talk(asked: Asked, question: str) -> Any:
    """What the conversation has after each step: the types of its items, or the texts of its messages."""
    client = AsyncOpenAI(base_url=asked.v1, api_key="none", max_retries=0)
    model = OpenAIResponsesModel(model=asked.model, openai_client=client)
    weather = function_tool(asked.weather, name_override="weather")
    agent = Agent(name="a", model=model, tools=[weather])
    session = OpenAIConversationsSession(openai_client=client)
    await Runner.run(agent, "[[say=one]]", session=session)
    asked.show(json.dumps([item["type"] for item in await session.get_items()]))
    answer = (await Runner.run(agent, question, session=session)).final_output
    asked.show(json.dumps([item["type"] for item in await session.get_items()]))
    popped: Any = await session.pop_item()
    asked.show(json.dumps([popped["type"], len(await session.get_items())]))
    await session.clear_session()
    return answer


play(stream=talk)
