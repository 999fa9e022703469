"""What does not fit the model: refused in OpenAI's words, or with `truncation: auto` the oldest left out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.conftest import Start
from tests.double import Double
from tests.integration.test_responses import PATH, TOOL, ask, client, sent
from tests.support.service import Served

# A thousand tokens take a message of 600 words: of three such exchanges two fit.
LONG = "word " * 1_200
WORDS = "Your input exceeds the context window of this model. Please adjust your input and try again."


@pytest.fixture
async def small(start: Start, tmp_path: Path) -> AsyncIterator[Served]:
    models = tmp_path / "models.toml"
    models.write_text(
        '[[models]]\nid = "openai/gpt-oss-120b"\ncontext_window = 6144\nmax_completion_tokens = 1024\n'
        'default_completion = 1024\ncapabilities = ["tools"]\n'
    )
    async with start(models_file=models) as served:
        yield served


async def refused(served: Served, message: Any, **fields: Any) -> None:
    answer = await served.client.post(PATH, json={"input": message, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"], error["type"]) == (
        400,
        "context_length_exceeded",
        "input",
        "invalid_request_error",
    ), answer.text
    assert error["message"].startswith(WORDS)


def said(double: Double) -> list[Any]:
    return [message["content"] for message in sent(double) if message["role"] != "system"]


async def test_an_input_that_is_too_long_is_refused_and_stores_nothing(small: Served, store: Any) -> None:
    for fields in ({}, {"truncation": "disabled"}, {"truncation": "auto"}, {"background": True}):
        await refused(small, LONG * 5, **fields)
    await refused(small, "Hello", instructions=LONG * 5)
    assert list(store.scan_iter("chat:{*}:session")) == []


@pytest.mark.parametrize("budget", [None, 1_000_000])
async def test_a_chain_that_is_too_long_is_refused_unless_its_oldest_may_be_left_out(
    start: Start, tmp_path: Path, double: Double, budget: int | None
) -> None:
    models = tmp_path / "models.toml"
    models.write_text(
        '[[models]]\nid = "openai/gpt-oss-120b"\ncontext_window = 6144\nmax_completion_tokens = 1024\n'
        "default_completion = 1024\n"
    )
    async with start(models_file=models, budget_tokens_per_day=budget) as small:
        last = await ask(small, f"1 {LONG}[[say=one]]")
        for number in (2, 3):
            last = await ask(small, f"{number} {LONG}[[say=one]]", previous_response_id=last["id"])
        assert [text[:2] for text in said(double)] == ["1 ", "on", "2 ", "on", "3 "]
        double.calls.clear()
        for fields in ({}, {"truncation": "disabled"}, {"stream": True}, {"background": True}):
            await refused(small, f"4 {LONG}", previous_response_id=last["id"], **fields)
        assert double.calls.find() == []
        shortened = await ask(
            small, f"4 {LONG}[[say=four]]", previous_response_id=last["id"], truncation="auto"
        )
        assert shortened["truncation"] == "auto"
        kept = [text[:2] for text in said(double)]
        assert kept[-1] == "4 "
        assert "1 " not in kept
        # The refused ones are not in the chain, and what was left out is in it still.
        items = await small.client.get(f"/v1/conversations/{last['id'].split('_', 2)[2]}/items?order=asc")
        texts = [item["content"][0]["text"] for item in items.json()["data"]]
        assert [text[:2] for text in texts] == ["1 ", "on", "2 ", "on", "3 ", "on", "4 ", "fo"]


async def test_of_an_input_that_is_the_whole_context_the_oldest_questions_are_left_out(
    small: Served, double: Double
) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
    whole: list[Any] = [
        {"role": "system", "content": "Be kind."},
        *({"role": ("user", "assistant")[i % 2], "content": f"{i} {LONG}"} for i in range(4)),
        {"role": "user", "content": "Weather?"},
        call,
        {"type": "function_call_output", "call_id": "c1", "output": "Sun"},
    ]
    await refused(small, whole, tools=[TOOL])
    await ask(small, whole, tools=[TOOL], truncation="auto")
    told = sent(double)
    assert [message["role"] for message in told] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
    ]
    assert told[1]["content"].startswith("2 ")
    double.calls.clear()
    await ask(small, whole[:1] + whole[3:], tools=[TOOL], truncation="auto")
    assert len(sent(double)) == 6  # what fits is left as it is


async def test_rounds_of_tools_that_are_too_long_are_refused_too(small: Served) -> None:
    asked = await ask(small, f"[[tool=weather]]{LONG}", tools=[TOOL])
    output = {"type": "function_call_output", "call_id": asked["output"][0]["call_id"], "output": LONG * 3}
    await refused(small, [output], previous_response_id=asked["id"], tools=[TOOL])


async def test_clients_know_it_by_their_own_exceptions(small: Served) -> None:
    sdk = client(small)
    with pytest.raises(openai.BadRequestError, match="exceeds the context window") as told:
        await sdk.responses.create(model="", input=LONG * 5)
    assert told.value.code == "context_length_exceeded"
    await sdk.close()
    model = ChatOpenAI(
        model="openai/gpt-oss-120b",
        base_url=f"{small.url}/v1",
        api_key=SecretStr("none"),
        max_retries=0,
        use_responses_api=True,
    )
    for question in (LONG * 5, "[[fault=context_length_exceeded]]"):
        with pytest.raises(ContextOverflowError):
            await model.ainvoke(question)
    await model.root_async_client.close()
