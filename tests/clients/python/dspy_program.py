"""DSPy's programs: streamed by `streamify`, tools by ReAct, an object by the JSON adapter."""

from __future__ import annotations

from typing import Any

import dspy
from playing import Asked, play


def model(asked: Asked, engine: str = "auto") -> Any:
    common = {"cache": False, "num_retries": 0, "max_tokens": 500}
    return dspy.LM(f"openai/{asked.model}", api_base=asked.v1, api_key="none", engine=engine, **common)


async def stream(asked: Asked, question: str) -> None:
    program = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
    )
    # Listeners know LiteLLM's chunks only.
    with dspy.context(lm=model(asked, "litellm"), adapter=dspy.ChatAdapter()):
        async for piece in program(question=question):
            if isinstance(piece, dspy.streaming.StreamResponse):
                asked.show(piece.chunk)


def tools(asked: Asked, question: str) -> str:
    calls = dspy.Predict("question, tools: list[dspy.Tool] -> outputs: dspy.ToolCalls")
    with dspy.context(lm=model(asked), adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        found = calls(question=question, tools=[dspy.Tool(asked.weather)])
    return " ".join(str(asked.weather(**call.args)) for call in found.outputs.tool_calls)


def structured(asked: Asked, question: str) -> Any:
    with dspy.context(lm=model(asked), adapter=dspy.JSONAdapter()):
        found = dspy.Predict("question -> city: str, degrees: int")(question=question)
    return {"city": found.city, "degrees": found.degrees}


play(stream=stream, tools=tools, structured=structured)
