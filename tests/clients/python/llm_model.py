"""`llm`: its model for servers that speak OpenAI, as `extra-openai-models.yaml` sets it up."""

from __future__ import annotations

import json
from typing import Any

from llm import Tool
from llm.default_plugins.openai_models import Chat
from playing import Asked, play
from shapes import Weather


def model(asked: Asked) -> Any:
    made = Chat("ours", model_name=asked.model, api_base=asked.v1, supports_tools=True, supports_schema=True)
    made.key = "none"
    return made


def stream(asked: Asked, question: str) -> None:
    for piece in model(asked).prompt(question):
        asked.show(piece)


def tools(asked: Asked, question: str) -> str:
    weather = Tool.function(asked.weather, name="weather")
    return str(model(asked).chain(question, tools=[weather]).text())


def structured(asked: Asked, question: str) -> Any:
    return json.loads(model(asked).prompt(question, schema=Weather).text())


play(stream=stream, tools=tools, structured=structured)
