"""Rounds of tools are one exchange: written through one dialect, read through each other one, equal."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.double.faults import Fault
from tests.support.service import Served
from tests.support.tool_clients import TOOL_CLIENTS, AiSdkTools, NativeTools, Result, ToolClient
from tests.support.waiting import eventually_async

ARGUMENTS = '{"location":"Berlin"}'
THREE = "Rain? [[tool=weather rounds=3 say=It rains.]]"
TWO_AT_ONCE = "Rain? [[tool=weather fault=tools_without_index say=It rains.]]"

every_dialect = pytest.mark.parametrize("client", TOOL_CLIENTS, ids=lambda client: client.__name__)


async def messages(served: Served, session: str = "s") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await served.client.get(f"/v1/sessions/{session}/messages")).json()["data"]
    return found


async def page(served: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await served.client.get("/api/chat/s/messages")).json()
    return found


async def context(served: Served) -> list[dict[str, Any]]:
    """What a model is told in the next turn, without the system prompt and the question."""
    answer = await served.client.post(
        "/v1/sessions/s/turns",
        json={"content": "[[echo]]"},
        headers={"Accept": "application/json"},
    )
    turn = answer.json()["id"]

    async def text() -> Any:
        found = (await served.client.get(f"/v1/sessions/s/turns/{turn}")).json()
        return found["state"] == "completed" and found["text"]

    return list(json.loads(await eventually_async(text))[1:-1])


def call(call_id: str) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": "weather", "arguments": ARGUMENTS}


def result(call_id: str, content: str, **more: bool) -> dict[str, Any]:
    return {"type": "tool_result", "tool_call_id": call_id, "content": content, **more}


def chat_calls(*ids: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": ARGUMENTS}
    calls = [{"id": one, "type": "function", "function": function} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


@every_dialect
async def test_three_rounds_are_one_question_and_one_answer(served: Served, client: type[ToolClient]) -> None:
    asking = client(served)
    said = await asking.ask(THREE)
    ids = []
    for number in range(3):
        assert (said.text, len(said.calls)) == ("", 1)
        ids += said.calls
        said = await asking.answer({said.calls[0]: Result(f"rain {number}")})
    assert (said.text, said.calls) == ("It rains.", [])

    parts = [part for number, one in enumerate(ids) for part in (call(one), result(one, f"rain {number}"))]
    question, answer = await messages(served)
    assert (question["role"], question["content"]) == ("user", THREE)
    assert (answer["role"], answer["content"], answer["state"]) == ("assistant", "It rains.", "completed")
    assert answer["finish_reason"] == "stop"
    assert answer["parts"] == [*parts, {"type": "text", "text": "It rains."}]
    exported = (await served.client.get("/v1/sessions/s/export")).json()
    assert exported["messages"] == [question, answer]

    shown = (await page(served))[1]
    assert shown["id"] == answer["id"]
    assert [part["type"] for part in shown["parts"]] == ["step-start", "tool-weather"] * 3 + [
        "step-start",
        "text",
    ]
    tools = [part for part in shown["parts"] if part["type"] == "tool-weather"]
    assert [(one["toolCallId"], one["state"], one["input"], one["output"]) for one in tools] == [
        (one, "output-available", json.loads(ARGUMENTS), f"rain {number}") for number, one in enumerate(ids)
    ]

    told = [
        message
        for number, one in enumerate(ids)
        for message in (
            chat_calls(one),
            {"role": "tool", "tool_call_id": one, "content": f"rain {number}"},
        )
    ]
    assert await context(served) == [
        {"role": "user", "content": THREE},
        *told,
        {"role": "assistant", "content": "It rains."},
    ]


async def test_a_page_has_live_what_it_is_given_when_it_is_loaded(served: Served) -> None:
    asking = AiSdkTools(served)
    said = await asking.ask(TWO_AT_ONCE)
    first, second = said.calls
    await asking.answer({first: Result("rain"), second: Result("no such city", is_error=True)})
    assert asking.messages[1]["parts"] == (await page(served))[1]["parts"]


@every_dialect
async def test_calls_at_once_are_answered_at_once_and_a_failure_is_one(
    served: Served, client: type[ToolClient]
) -> None:
    asking = client(served)
    first, second = (await asking.ask(TWO_AT_ONCE)).calls
    said = await asking.answer({second: Result("no such city", is_error=True), first: Result("rain")})
    assert said.text == "It rains."
    failed = {"is_error": True} if asking.tells_errors else {}
    assert (await messages(served))[1]["parts"] == [
        call(first),
        call(second),
        result(first, "rain"),
        result(second, "no such city", **failed),
        {"type": "text", "text": "It rains."},
    ]
    assert (await context(served))[1:4] == [
        chat_calls(first, second),
        {"role": "tool", "tool_call_id": first, "content": "rain"},
        {"role": "tool", "tool_call_id": second, "content": "no such city"},
    ]


@every_dialect
async def test_a_round_that_is_abandoned_is_kept_and_told_to_no_model(
    served: Served, client: type[ToolClient]
) -> None:
    asking = client(served)
    (abandoned,) = (await asking.ask(THREE)).calls
    said = await NativeTools(served).ask("[[say=Fine.]]")
    assert said.text == "Fine."
    kept = await messages(served)
    assert [(one["role"], one["content"]) for one in kept] == [
        ("user", THREE),
        ("assistant", ""),
        ("user", "[[say=Fine.]]"),
        ("assistant", "Fine."),
    ]
    assert kept[1]["parts"] == [call(abandoned)]
    assert (await page(served))[1]["parts"][1]["state"] == "input-available"
    assert await context(served) == [
        {"role": "user", "content": "[[say=Fine.]]"},
        {"role": "assistant", "content": "Fine."},
    ]


@every_dialect
@pytest.mark.parametrize("way", ["regenerate", "edit"])
async def test_a_question_asked_again_drops_all_rounds(
    served: Served, client: type[ToolClient], way: str
) -> None:
    asking = client(served)
    (first,) = (await asking.ask("Rain? [[tool=weather say=It rains.]]")).calls
    await asking.answer({first: Result("rain")})
    question, before = await messages(served)
    body: dict[str, Any] = {"regenerate": True}
    if way == "edit":
        body = {"edit": {"message_id": question["id"], "content": "[[tool=weather say=Snow.]]"}}
    native = NativeTools(served)
    said = await native.post(body)
    assert len(said.calls) == 1
    _, pending = await messages(served)
    assert pending["id"] != before["id"]
    assert pending["parts"] == [call(said.calls[0])]
    said = await native.answer({said.calls[0]: Result("snow")})
    asked, answer = await messages(served)
    assert said.text == answer["content"] == ("Snow." if way == "edit" else "It rains.")
    assert answer["id"] == pending["id"]
    assert asked["id"] == question["id"]


async def test_results_that_are_sent_twice_have_one_turn(served: Served, double: Double) -> None:
    native = NativeTools(served)
    (first,) = (await native.ask("Rain? [[tool=weather say=It rains.]]")).calls
    told = {"tool_results": [{"tool_call_id": first, "content": "rain"}]}
    calls = len(double.calls.find())
    once = await native.post(told, **{"Idempotency-Key": "k"})
    again = await native.post(told, **{"Idempotency-Key": "k"})
    assert (once.text, again.text) == ("It rains.", "It rains.")
    assert len(double.calls.find()) == calls + 1
    other = {"tool_results": [{"tool_call_id": first, "content": "snow"}]}
    assert (await native.post(other, **{"Idempotency-Key": "k"})).status == 409


async def test_results_given_anew_take_the_place_of_the_old_round(served: Served) -> None:
    native = NativeTools(served)
    (first,) = (await native.ask("Rain? [[tool=weather say=It rains.]]")).calls
    await native.answer({first: Result("rain")})
    await native.answer({first: Result("snow")})
    _, answer = await messages(served)
    assert answer["parts"] == [call(first), result(first, "snow"), {"type": "text", "text": "It rains."}]


async def test_values_that_are_no_text_come_back_as_values(served: Served) -> None:
    native = NativeTools(served)
    (first,) = (await native.ask("Rain? [[tool=weather say=It rains.]]")).calls
    await native.post({"tool_results": [{"tool_call_id": first, "content": {"mm": [3, 4.5]}}]})
    assert (await messages(served))[1]["parts"][1] == result(first, '{"mm":[3,4.5]}', json=True)
    assert (await page(served))[1]["parts"][1]["output"] == {"mm": [3, 4.5]}


async def test_what_is_no_round_is_refused_and_changes_nothing(served: Served) -> None:
    native = NativeTools(served)
    assert (await native.post({"tool_results": [{"tool_call_id": "x", "content": ""}]})).status == 404
    first, second = (await native.ask(TWO_AT_ONCE)).calls
    before = await messages(served)
    wrong: list[dict[str, Any]] = [
        {"tool_results": [{"tool_call_id": "unknown", "content": "rain"}]},
        {"tool_results": [{"tool_call_id": first, "content": "rain"}]},
        {"tool_results": []},
        {"tool_results": [{"tool_call_id": first, "content": "rain"}], "content": "And?"},
        {"tool_results": [{"content": "rain"}]},
    ]
    for body in wrong:
        refused = await native.post(body)
        assert (refused.status, json.loads(refused.body)["code"]) == (400, "invalid_request"), body
    assert await messages(served) == before
    assert (await native.answer({first: Result("rain"), second: Result("sun")})).text == "It rains."


async def test_a_turn_that_fails_keeps_the_results_for_the_next_one(served: Served, double: Double) -> None:
    native = NativeTools(served)
    (first,) = (await native.ask("Rain? [[tool=weather say=It rains.]]")).calls
    double.faults.add(Fault(kind="400", times=1))
    assert (await native.answer({first: Result("rain")})).text == ""
    _, answer = await messages(served)
    assert answer["parts"] == [call(first), result(first, "rain")]
    said = await native.answer({first: Result("rain")})
    assert said.text == "It rains."
    _, answer = await messages(served)
    assert answer["parts"] == [call(first), result(first, "rain"), {"type": "text", "text": "It rains."}]


async def test_another_worker_takes_a_round_over_with_its_results(start: Start, double: Double) -> None:
    asked = "[[tool=weather tokens=240 rate=80]]"
    async with start(lease_seconds=0.5) as served:
        native = NativeTools(served)
        (first,) = (await native.ask(asked)).calls
        sending = asyncio.create_task(native.answer({first: Result("rain")}))

        async def begun() -> Any:
            turn = (await served.client.get("/v1/sessions/s")).json()["active_turn"]
            live = served.app.state.edge.engine.running._lives.get(turn)
            return live if live is not None and live.acknowledged > 20 else None

        live = await eventually_async(begun)
        live.interrupt("lost host")
        said = await asyncio.wait_for(sending, 20)
        assert said.body.count("event: turn.restarted") == 1
        question, answer = await messages(served)
        assert (question["content"], answer["content"]) == (asked, expected_text(240))
        text = {"type": "text", "text": expected_text(240)}
        assert answer["parts"] == [call(first), result(first, "rain"), text]
        calls: list[Any] = [one.describe() for one in double.calls]
        assert len(calls) == 3
        assert calls[1]["messages"] == calls[2]["messages"]
        assert calls[2]["messages"][-1] == {"role": "tool", "tool_call_id": first, "content": "rain"}


async def test_a_page_that_comes_back_in_a_round_has_the_rounds_before_it(served: Served) -> None:
    """Its replay begins the message anew, so it has all of it."""
    native = NativeTools(served)
    (first,) = (await native.ask("Rain? [[tool=weather tokens=60 rate=60]]")).calls
    sending = asyncio.create_task(native.answer({first: Result("rain")}))

    async def running() -> Any:
        return (await served.client.get("/v1/sessions/s")).json()["active_turn"]

    await eventually_async(running)
    returning = AiSdkTools(served)
    returning.messages = [{"id": "u", "role": "user", "parts": []}]
    replay = await served.client.get("/api/chat/s/stream")
    returning.replay(replay.text)
    await sending
    assert returning.messages[1]["parts"] == (await page(served))[1]["parts"]
    again = AiSdkTools(served)
    again.messages = [{"id": "u", "role": "user", "parts": []}]
    ended = await served.client.get("/api/chat/s/stream")
    if ended.status_code == 200:
        again.replay(ended.text)
        assert again.messages == returning.messages


async def test_results_while_the_session_answers_are_refused(served: Served) -> None:
    native = NativeTools(served)
    (first,) = (await native.ask("Rain? [[tool=weather tokens=2000 rate=100]]")).calls
    sending = asyncio.create_task(native.answer({first: Result("rain")}))

    async def running() -> Any:
        return (await served.client.get("/v1/sessions/s")).json()["active_turn"]

    turn = await eventually_async(running)
    refused = await native.answer({first: Result("snow")})
    assert (refused.status, json.loads(refused.body)["code"]) == (409, "turn_in_progress")
    await served.client.post(f"/v1/sessions/s/turns/{turn}/stop")
    assert (await sending).status == 200


async def test_results_of_calls_that_no_session_knows_are_kept_with_their_question(served: Served) -> None:
    """The session of an OpenAI client is lost, or it has asked elsewhere: its list is all there is."""
    told = [
        {"role": "user", "content": "Before?"},
        chat_calls("a"),
        {"role": "tool", "tool_call_id": "a", "content": "sun"},
        {"role": "assistant", "content": "It shone."},
        {"role": "user", "content": "Rain? [[say=It rains.]]"},
        chat_calls("b"),
        {"role": "tool", "tool_call_id": "b", "content": "rain"},
    ]
    answer = await served.client.post("/v1/chat/completions", json={"messages": told, "session_id": "s"})
    assert answer.status_code == 200
    kept = await messages(served)
    assert [(one["role"], one["content"]) for one in kept] == [
        ("user", "Before?"),
        ("assistant", "It shone."),
        ("user", "Rain? [[say=It rains.]]"),
        ("assistant", "It rains."),
    ]
    assert await context(served) == [*told, {"role": "assistant", "content": "It rains."}]


async def test_rounds_end_where_an_answer_has_a_mebibyte(served: Served) -> None:
    """Each of them fits into a prompt; but each reads and writes all that were before it."""
    native = NativeTools(served)
    (call_id,) = (await native.ask("Rain? [[tool=weather rounds=9 say=It rains.]]")).calls
    for _ in range(3):
        (call_id,) = (await native.answer({call_id: Result("r" * 300_000)})).calls
    before = await messages(served)
    refused = await native.answer({call_id: Result("r" * 300_000)})
    assert (refused.status, json.loads(refused.body)["code"]) == (413, "context_too_long")
    assert await messages(served) == before
    assert (await native.ask("[[say=Fine.]]")).text == "Fine."


async def test_a_page_is_told_what_is_too_deep_for_json_as_a_text(served: Served) -> None:
    """Of a model, or of a client's list: nothing bounds what stands in a string."""
    for number, arguments in enumerate(
        ["[" * 300 + "]" * 300, "[" + "[]," * 60_000 + "[]]", "[" * 60 + "]" * 60]
    ):
        told = chat_calls("b")
        told["tool_calls"][0]["function"] = {"name": "weather", "arguments": arguments}
        body = {
            "messages": [
                {"role": "user", "content": "Rain? [[say=It rains.]]"},
                told,
                {"role": "tool", "tool_call_id": "b", "content": "rain"},
            ],
            "session_id": f"s{number}",
        }
        assert (await served.client.post("/v1/chat/completions", json=body)).status_code == 200
        loaded = await served.client.get(f"/api/chat/s{number}/messages")
        assert loaded.status_code == 200
        given = loaded.json()[1]["parts"][1]["input"]
        assert given == (json.loads(arguments) if number == 2 else arguments)
