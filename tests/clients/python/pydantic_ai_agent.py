"""pydantic-ai's agents on its models of OpenAI (chat and Responses) and Groq."""

from __future__ import annotations

from typing import Any

from playing import Asked, play
from pydantic_ai import Agent
from shapes import Weather


def model(asked: Asked) -> Any:
    if asked.options["library"] == "groq":
        from groq import AsyncGroq
        from pydantic_ai.models.groq import GroqModel
        from pydantic_ai.providers.groq import GroqProvider

        groq = AsyncGroq(base_url=asked.url, api_key="none", max_retries=0, default_headers=asked.headers)
        return GroqModel(asked.model, provider=GroqProvider(groq_client=groq))
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    openai = AsyncOpenAI(base_url=asked.v1, api_key="none", max_retries=0, default_headers=asked.headers)
    kind = OpenAIResponsesModel if asked.options.get("responses") else OpenAIChatModel
    return kind(asked.model, provider=OpenAIProvider(openai_client=openai))


async def stream(asked: Asked, question: str) -> None:
    agent = Agent(model(asked), model_settings=asked.options.get("settings"))
    async with agent.run_stream(question) as answer:
        async for piece in answer.stream_text(delta=True, debounce_by=None):
            asked.show(piece)


async def tools(asked: Asked, question: str) -> str:
    agent = Agent(model(asked), tools=[asked.weather])
    return str((await agent.run(question)).output)


async def structured(asked: Asked, question: str) -> Any:
    """By a tool that the library makes up, `final_result`: its default."""
    agent = Agent(model(asked), output_type=Weather)
    return (await agent.run(question)).output.model_dump()


play(stream=stream, tools=tools, structured=structured)
