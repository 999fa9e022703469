"""Results of tools that are sent again, as by a client that has heard nothing: one turn, one bill."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from service.engine.budgets import Budgets
from service.engine.sends import Candidate
from service.store.ledger import Need
from tests.contract.test_tool_rounds import THREE, every_dialect, messages
from tests.double import Double
from tests.support.service import Served
from tests.support.tool_clients import NativeTools, Result, ToolClient
from tests.support.waiting import eventually_async

Again = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def again(served: Served) -> Again:
    """Send a request to the model once more, the newest or any other, byte by byte, without a key."""
    sent: list[httpx.Request] = []

    async def note(request: httpx.Request) -> None:
        if request.method == "POST":
            sent.append(request)

    served.client.event_hooks = {"request": [note], "response": []}

    async def send(place: int = -1) -> httpx.Response:
        last = sent[place]
        headers = {"content-type": "application/json"}
        return await served.client.post(last.url, content=last.content, headers=headers)

    return send


@every_dialect
async def test_the_same_results_again_are_the_same_turn(
    served: Served, double: Double, client: type[ToolClient], again: Again
) -> None:
    asking = client(served)
    said = await asking.ask(THREE)
    for number in range(3):
        said = await asking.answer({said.calls[0]: Result(f"rain {number}")})
        before, calls = await messages(served), len(double.calls.find())
        answers = [await again(), *await asyncio.gather(again(), again())]
        assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
        assert len({answer.headers["x-turn-id"] for answer in answers}) == 1
        assert len(double.calls.find()) == calls
        assert await messages(served) == before
    assert said.text == "It rains."
    assert "It rains." in answers[0].text
    assert (await served.client.get("/v1/sessions/s")).json()["turns"] == 4


@every_dialect
async def test_the_results_of_an_earlier_round_again_are_its_turn(
    served: Served, double: Double, client: type[ToolClient], again: Again
) -> None:
    asking = client(served)
    said, turns = await asking.ask(THREE), []
    for number in range(3):
        said = await asking.answer({said.calls[0]: Result(f"rain {number}")})
        turns.append((await again()).headers["x-turn-id"])
    assert len(set(turns)) == 3
    before, calls = await messages(served), len(double.calls.find())
    sent = 1  # requests: the question, and each round's results twice
    for place in (sent, sent + 2, sent, sent + 4):
        answer = await again(place)
        assert (answer.status_code, answer.headers["x-turn-id"]) == (200, turns[(place - 1) // 2])
    assert len(double.calls.find()) == calls
    assert await messages(served) == before


@every_dialect
async def test_while_a_later_round_is_answered_results_of_an_earlier_one_are_known(
    served: Served, double: Double, client: type[ToolClient], again: Again
) -> None:
    asking = client(served)
    question = "Rain? [[tool=weather rounds=2 tokens=60 rate=60]]"
    said = await asking.ask(question)
    said = await asking.answer({said.calls[0]: Result("rain 0")})
    first = (await again()).headers["x-turn-id"]
    last = asyncio.create_task(asking.answer({said.calls[0]: Result("rain 1")}))
    await eventually_async(lambda: len(double.calls.find()) == 3)
    answer = await again(1)
    assert (answer.status_code, answer.headers["x-turn-id"]) == (200, first)
    assert (await last).text
    assert len(double.calls.find()) == 3


@every_dialect
async def test_the_same_results_at_once_are_one_turn(
    served: Served, double: Double, client: type[ToolClient], again: Again
) -> None:
    asking = client(served)
    said = await asking.ask("Rain? [[tool=weather tokens=40 rate=80]]")
    first = asyncio.create_task(asking.answer({said.calls[0]: Result("rain")}))
    await eventually_async(lambda: len(double.calls.find()) == 2)
    others = await asyncio.gather(*(again() for _ in range(4)))
    whole = await first
    assert {answer.status_code for answer in others} == {200}
    assert len({answer.headers["x-turn-id"] for answer in others}) == 1
    assert len(double.calls.find()) == 2
    assert (await messages(served))[1]["content"] == whole.text


@every_dialect
async def test_the_same_results_that_are_answered_between_a_look_and_the_begin_are_that_turn(
    served: Served,
    double: Double,
    client: type[ToolClient],
    again: Again,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asking = client(served)
    said = await asking.ask(THREE)
    looked, answered, need = asyncio.Event(), asyncio.Event(), Budgets.need

    async def need_later(budgets: Budgets, candidate: Candidate) -> Need:
        if not looked.is_set():
            looked.set()
            await answered.wait()
        return await need(budgets, candidate)

    monkeypatch.setattr(Budgets, "need", need_later)
    late = asyncio.create_task(asking.answer({said.calls[0]: Result("rain")}))
    await asyncio.wait_for(looked.wait(), 10)
    first = await again()
    assert first.status_code == 200
    before, calls = await messages(served), len(double.calls.find())
    answered.set()
    assert (await late).calls
    assert (await again()).headers["x-turn-id"] == first.headers["x-turn-id"]
    assert len(double.calls.find()) == calls
    assert await messages(served) == before


async def test_another_request_with_the_results_asks_anew_and_so_does_one_after_a_stop(
    served: Served, double: Double
) -> None:
    native = NativeTools(served)
    (first,) = (await native.ask("Rain? [[tool=weather say=It rains.]]")).calls
    told = {"tool_results": [{"tool_call_id": first, "content": "rain"}]}
    await native.post(told)
    assert len(double.calls.find()) == 2
    assert (await native.post({**told, "params": {"temperature": 0.5}})).text == "It rains."
    assert len(double.calls.find()) == 3
    # The first request is not what the newest turn answers any more.
    assert (await native.post(told)).text == "It rains."
    assert len(double.calls.find()) == 4
    assert len(await messages(served)) == 2


@every_dialect
async def test_a_call_without_an_id_gets_one_and_its_result_is_known_by_it(
    served: Served, client: type[ToolClient]
) -> None:
    asking = client(served)
    said = await asking.ask("Rain? [[tool=weather fault=tool_without_id say=It rains.]]")
    [made] = said.calls
    assert made.startswith("call_")
    assert (await asking.answer({made: Result("rain")})).text == "It rains."
    kinds = [part["type"] for part in (await messages(served))[1]["parts"]]
    assert kinds == ["tool_call", "tool_result", "text"]
