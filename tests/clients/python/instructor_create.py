"""instructor on OpenAI's SDK: objects that grow, a tool's arguments, a schema."""

from __future__ import annotations

from typing import Any

import instructor
from openai import OpenAI
from playing import Asked, play
from pydantic import BaseModel
from shapes import Weather, said


class Words(BaseModel):
    words: str


def client(asked: Asked, mode: Any) -> Any:
    return instructor.from_openai(OpenAI(base_url=asked.v1, api_key="none", max_retries=0), mode=mode)


def stream(asked: Asked, question: str) -> None:
    """What has been shown of the one field `words` grows with every piece."""
    create = client(asked, instructor.Mode.JSON_SCHEMA).chat.completions.create_partial
    for partial in create(model=asked.model, response_model=Words, messages=said(question), max_retries=0):
        asked.show((partial.words or "")[len("".join(asked.seen)) :])


def tools(asked: Asked, question: str) -> Any:
    create = client(asked, instructor.Mode.TOOLS).chat.completions.create
    found = create(model=asked.model, response_model=Weather, messages=said(question), max_retries=0)
    asked.weather(found.city)
    return found.model_dump()


def structured(asked: Asked, question: str) -> Any:
    create = client(asked, instructor.Mode.JSON_SCHEMA).chat.completions.create
    return create(
        model=asked.model, response_model=Weather, messages=said(question), max_retries=0
    ).model_dump()


play(stream=stream, tools=tools, structured=structured)
