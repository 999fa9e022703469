"""Tools and the form of an answer, asked for through every dialect: passed on, checked, bounded."""

from __future__ import annotations

from typing import Any

import pytest

from tests.double import Double
from tests.support.service import Served
from tests.support.tool_clients import CHAT_FORMED, WEATHER, NativeTools, ToolClient

every_dialect = pytest.mark.parametrize("client", CHAT_FORMED, ids=lambda client: client.__name__)
FORM = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


def asked(double: Double) -> dict[str, Any]:
    params: Any = double.calls.find()[-1].describe()["params"]
    return dict(params)


@every_dialect
async def test_tools_and_choices_are_passed_on(
    served: Served, client: type[ToolClient], double: Double
) -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    asking = client(served, extra={"tool_choice": choice, "parallel_tool_calls": False})
    await asking.ask("[[tokens=3]]")
    told = asked(double)
    assert (told["tools"], told["tool_choice"], told["parallel_tool_calls"]) == ([WEATHER], choice, False)


@every_dialect
async def test_the_form_of_the_answer_is_passed_on(
    served: Served, client: type[ToolClient], double: Double
) -> None:
    await client(served, extra={"tools": None, "tool_choice": "auto", "response_format": FORM}).ask("Rain?")
    told = asked(double)
    assert told["response_format"] == FORM
    assert not told.keys() & {"tools", "tool_choice"}


@every_dialect
@pytest.mark.parametrize(
    "wrong",
    [
        {"tools": [{"type": "function"}]},
        {"tools": [{"function": {"name": "weather"}}]},
        {"tools": "weather"},
        {"tools": [WEATHER] * 129},
        {"tools": [{**WEATHER, "more": "x" * 262_144}]},
        {"tool_choice": {"name": "x" * 1_024}},
        {"parallel_tool_calls": "yes"},
        {"response_format": {"type": "json_schema", "schema": "x" * 65_536}},
        {"response_format": "json"},
    ],
    ids=str,
)
async def test_what_is_no_tool_or_too_large_is_400_and_nothing_is_stored(
    served: Served, client: type[ToolClient], wrong: dict[str, Any]
) -> None:
    said = await client(served, extra=wrong).ask("Rain?")
    assert said.status == 400
    assert (await served.client.get("/v1/sessions/s")).status_code == 404


async def test_tools_may_stand_among_the_params_of_a_native_turn(served: Served, double: Double) -> None:
    native = NativeTools(served, extra={"tools": None, "params": {"tools": [WEATHER], "temperature": 0.5}})
    await native.ask("[[tokens=3]]")
    assert (asked(double)["tools"], asked(double)["temperature"]) == ([WEATHER], 0.5)


async def test_the_tools_that_assistant_ui_sends_by_name_are_taken(served: Served, double: Double) -> None:
    parameters = {"type": "object"}
    body = {
        "id": "s",
        "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "[[tokens=3]]"}]}],
        "tools": {"weather": {"description": "The weather.", "parameters": parameters}, "odd": {}},
    }
    assert (await served.client.post("/api/chat", json=body)).status_code == 200
    assert asked(double)["tools"] == [WEATHER]
