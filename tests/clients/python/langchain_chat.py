"""LangChain's chat models of OpenAI and Groq."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from playing import Asked, play
from shapes import Weather


def model(asked: Asked) -> Any:
    common = {
        "model": asked.model,
        "api_key": "none",
        "max_retries": 0,
        "default_headers": asked.headers,
    }
    if asked.options["library"] == "groq":
        from langchain_groq import ChatGroq

        return ChatGroq(base_url=asked.url, **common)
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(base_url=asked.v1, use_responses_api=asked.options.get("responses"), **common)


def stream(asked: Asked, question: str) -> None:
    for piece in model(asked).stream(question):
        asked.show(piece.text)


def tools(asked: Asked, question: str) -> str:
    bound = model(asked).bind_tools([tool(asked.weather)])
    messages: list[Any] = [HumanMessage(question)]
    answer = bound.invoke(messages)
    while answer.tool_calls:
        messages.append(answer)
        for call in answer.tool_calls:
            messages.append(ToolMessage(asked.weather(**call["args"]), tool_call_id=call["id"]))
        answer = bound.invoke(messages)
    return str(answer.text)


def structured(asked: Asked, question: str) -> Any:
    return model(asked).with_structured_output(Weather, method="json_schema").invoke(question).model_dump()


play(stream=stream, tools=tools, structured=structured)
