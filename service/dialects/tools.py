"""Tools, formats of answers, and results of tools, as every dialect except Responses takes them.

Only bounds in bytes and the names of functions are checked; the provider refuses the rest itself. Tools are
for one turn: a client that sends results sends its tools again.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, Field, StrictBool, StrictStr

from service import parts
from service.dialects.base import MAX_TOOLS, Body, Label, at_most
from service.engine.sends import Send
from service.parts import Part

#: Parameters about tools. Groq refuses the last two without `tools`.
OF_TOOLS: Final = ("tools", "tool_choice", "parallel_tool_calls")


def _named(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for tool in tools:
        function = tool.get("function")
        if not isinstance(tool.get("type"), str):
            raise ValueError("a tool has to have a type, a string")
        if tool["type"] == "function" and not (
            isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]
        ):
            raise ValueError("a function has to have a name, a string")
    return tools


# Bounds in bytes, since these are kept with the turn until it ends. Tools and formats also count as tokens of
# the prompt; a choice is one name at most.
_Tools = Annotated[
    list[dict[str, Any]],
    Field(max_length=MAX_TOOLS, fail_fast=True),
    at_most(262_144),
    AfterValidator(_named),
]
_Choice = Annotated[StrictStr | dict[str, Any], at_most(1_024)]
_Format = Annotated[dict[str, Any], at_most(65_536)]


class ToolFields(Body):
    """The tools that a model may call in a turn, and the form of what it answers."""

    tools: _Tools | None = None
    tool_choice: _Choice | None = None
    parallel_tool_calls: StrictBool | None = None
    response_format: _Format | None = None


class ToolResult(Body):
    """The result of a tool for a call. The model is told a text as it is, and any other value as JSON."""

    tool_call_id: Label
    content: Any = Field(description="a text, or any other value")
    is_error: StrictBool | None = None

    def part(self) -> Part:
        return result_part(self.tool_call_id, self.content, is_error=bool(self.is_error))


ToolResults = Annotated[list[ToolResult], Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)]


def result_part(call_id: str, value: Any, *, is_error: bool = False) -> Part:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return parts.result(call_id, text, is_error=is_error, json=not isinstance(value, str))


def go_on(send: Send, since: list[parts.Chat]) -> None:
    """If the messages behind a question end with results of tools, the send goes on with that answer."""
    said = [record for record in parts.folded(since) if record["role"] == "assistant"]
    if not said or since[-1]["role"] != "tool" or not parts.has_results(said[-1].get("parts", ())):
        return
    send.mode, send.prior = "continue", said[-1]["parts"]
    send.results = [part for part in parts.rounds(send.prior)[-1] if part["type"] == parts.RESULT]


def tool_params(fields: ToolFields) -> dict[str, Any]:
    """The fields that are passed on to the provider."""
    return {
        name: value
        for name in ToolFields.model_fields
        if (value := getattr(fields, name)) is not None and (fields.tools or name not in OF_TOOLS)
    }
