"""LlamaIndex: `OpenAILike` and `Groq`."""

from __future__ import annotations

from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from playing import Asked, play
from shapes import Weather


def model(asked: Asked) -> Any:
    common = {"model": asked.model, "api_key": "none", "max_retries": 0}
    if asked.options["library"] == "groq":
        from llama_index.llms.groq import Groq

        return Groq(api_base=f"{asked.url}/openai/v1", **common)
    from llama_index.llms.openai_like import OpenAILike

    return OpenAILike(
        api_base=asked.v1,
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        **common,
    )


def stream(asked: Asked, question: str) -> None:
    for piece in model(asked).stream_chat([ChatMessage(role="user", content=question)]):
        asked.show(piece.delta)


def tools(asked: Asked, question: str) -> str:
    llm, offered = model(asked), [FunctionTool.from_defaults(asked.weather, name="weather")]
    messages = [ChatMessage(role="user", content=question)]
    answer = llm.chat_with_tools(offered, chat_history=messages)
    messages.append(answer.message)
    for call in llm.get_tool_calls_from_response(answer):
        content = asked.weather(**call.tool_kwargs)
        extra = {"tool_call_id": call.tool_id}
        messages.append(ChatMessage(role="tool", content=content, additional_kwargs=extra))
    return str(llm.chat_with_tools(offered, chat_history=messages).message.content)


def structured(asked: Asked, question: str) -> Any:
    answer = model(asked).as_structured_llm(Weather).chat([ChatMessage(role="user", content=question)])
    return answer.raw.model_dump()


play(stream=stream, tools=tools, structured=structured)
