"""Function calls over chains and conversations of OpenAI's Responses: outputs go on with the same answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.double import Double
from tests.integration.test_responses import PATH, TOOL, ask, sent
from tests.support.service import Served

THREE = "Rain? [[tool=weather rounds=3 say=It rains.]]"


def output(call: dict[str, Any], text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call["call_id"], "output": text}


async def kept(served: Served, session: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await served.client.get(f"/v1/sessions/{session}/messages")).json()["data"]
    return found


@pytest.mark.parametrize("way", ["chain", "conversation"])
async def test_three_rounds_are_one_question_and_one_answer(served: Served, double: Double, way: str) -> None:
    more: dict[str, Any] = {"tools": [TOOL]}
    if way == "conversation":
        more["conversation"] = "s"
    answer = await ask(served, THREE, **more)
    calls = []
    for number in range(3):
        (call,) = answer["output"]
        assert call["type"] == "function_call"
        calls.append(call["call_id"])
        if way == "chain":
            more["previous_response_id"] = answer["id"]
        answer = await ask(served, [output(call, f"rain {number}")], **more)
        listed = (await served.client.get(f"{PATH}/{answer['id']}/input_items")).json()["data"]
        assert [(one["type"], one["call_id"], one["output"]) for one in listed] == [
            ("function_call_output", call["call_id"], f"rain {number}")
        ]
    assert [item["type"] for item in answer["output"]] == ["message"]
    assert answer["output"][0]["content"][0]["text"] == "It rains."
    assert [message["role"] for message in sent(double)[1:]] == ["user"] + ["assistant", "tool"] * 3

    session = answer["id"].split("_", 2)[2]
    question, whole = await kept(served, session)
    assert (question["content"], whole["content"]) == (THREE, "It rains.")
    assert [part["tool_call_id"] for part in whole["parts"] if part["type"] == "tool_result"] == calls
    listed = (await served.client.get(f"/v1/conversations/{session}/items?order=asc")).json()["data"]
    assert [item["type"] for item in listed] == [
        "message",
        *["function_call", "function_call_output"] * 3,
        "message",
    ]
    assert len({item["id"] for item in listed}) == 8

    more.pop("tools")
    if way == "chain":
        more["previous_response_id"] = answer["id"]
    await ask(served, "[[say=Bye.]]", **more)
    assert [message["role"] for message in sent(double)[1:]] == [
        "user",
        *["assistant", "tool"] * 3,
        "assistant",
        "user",
    ]


async def test_a_chain_that_lacks_an_output_is_refused(served: Served) -> None:
    first = await ask(served, "[[tool=weather fault=tools_without_index say=Rain.]]", tools=[TOOL])
    one, other = first["output"]
    for wrong in (
        "And?",
        [output(one, "rain")],
        [output(one, "rain"), output({"call_id": "unknown"}, "rain")],
        [output(one, "rain"), output(other, "rain"), {"role": "user", "content": "And?"}],
    ):
        body = {"input": wrong, "previous_response_id": first["id"]}
        refused = await served.client.post(PATH, json=body)
        assert refused.status_code == 400, wrong
    done = await ask(served, [output(one, "rain"), output(other, "sun")], previous_response_id=first["id"])
    assert done["output"][0]["content"][0]["text"] == "Rain."


async def test_a_loop_that_names_earlier_items_only_is_a_loop_too(served: Served, double: Double) -> None:
    """@ai-sdk/openai sends its whole list, with the calls as references, and chains nothing."""
    items: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "input_text", "text": THREE}]}]
    answer = await ask(served, items, tools=[TOOL])
    for number in range(3):
        (call,) = answer["output"]
        items += [{"type": "item_reference", "id": call["id"]}, output(call, f"rain {number}")]
        answer = await ask(served, items, tools=[TOOL])
    assert answer["output"][0]["content"][0]["text"] == "It rains."
    assert [message["role"] for message in sent(double)] == ["user"] + ["assistant", "tool"] * 3
    question, whole = await kept(served, answer["id"].split("_", 2)[2])
    assert (question["content"], whole["content"]) == (THREE, "It rains.")
    assert [part["type"] for part in whole["parts"]] == ["tool_call", "tool_result"] * 3 + ["text"]


async def test_what_goes_on_from_an_older_response_takes_its_rounds_along(
    served: Served, double: Double
) -> None:
    first = await ask(served, "[[tool=weather say=It rains.]]", tools=[TOOL])
    told = [output(first["output"][0], "rain")]
    second = await ask(served, told, tools=[TOOL], previous_response_id=first["id"])
    third = await ask(served, "[[say=one]]", previous_response_id=second["id"])
    branch = await ask(served, "[[say=other]]", previous_response_id=second["id"])
    assert branch["id"].split("_", 2)[2] != third["id"].split("_", 2)[2]
    assert [message["role"] for message in sent(double)[1:]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
