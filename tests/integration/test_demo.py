"""The demo model as a process of its own, asked by the real SDK. What it says is for people to read."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import groq
import httpx
import orjson
import pytest

from service.demo.examples import ANSWERS
from tests.double import expected_text
from tests.support.running import ROOT

MODEL = "openai/gpt-oss-120b"
QWEN = "qwen/qwen3.8-27b"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, "-m", "service", "demo", "--port", "0", "--rate", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("demo ready on http://127.0.0.1:"), line
        yield line.split()[3]
        process.terminate()
        assert process.wait(5) == 0


@pytest.fixture
async def client(url: str) -> AsyncIterator[groq.AsyncGroq]:
    async with groq.AsyncGroq(api_key="none", base_url=url, max_retries=0, timeout=10) as client:
        yield client


async def create(client: groq.AsyncGroq, text: str, **params: Any) -> Any:
    completions: Any = client.chat.completions
    messages = params.pop("messages", None) or [{"role": "user", "content": text}]
    return await completions.create(**{"model": MODEL, "messages": messages, **params})


async def chunks(client: groq.AsyncGroq, text: str, **params: Any) -> list[Any]:
    return [chunk async for chunk in await create(client, text, stream=True, **params)]


def said(found: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in found if chunk.choices)


async def test_a_stream_has_the_text_the_end_and_the_usage_of_the_whole(client: groq.AsyncGroq) -> None:
    found = await chunks(client, "[[tokens=70 seed=3]]")
    assert said(found) == expected_text(70, 3)
    assert found[-1].choices[0].finish_reason == "stop"
    assert found[-1].x_groq.usage.completion_tokens == 70
    whole = await create(client, "[[tokens=70 seed=3]]")
    assert whole.choices[0].message.content == said(found)
    assert whole.usage.completion_tokens == 70


@pytest.mark.parametrize("question", ANSWERS)
async def test_a_prompt_of_the_page_has_its_answer(client: groq.AsyncGroq, question: str) -> None:
    assert said(await chunks(client, question)) == ANSWERS[question]


async def test_it_says_that_it_is_a_demo_and_counts_what_came_before(client: groq.AsyncGroq) -> None:
    assert "This is your first message in this session" in said(await chunks(client, "Who are you?"))
    alone = [{"role": "system", "content": "Be brief."}]
    assert "This is your first message in this session" in said(await chunks(client, "", messages=alone))
    earlier = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Who are you?"},
    ]
    text = said(await chunks(client, "", messages=earlier))
    assert "**local demo model**" in text
    assert "> Who are you?" in text
    assert "I can see 2 earlier messages" in text
    assert orjson.loads(said(await chunks(client, "[[echo]]"))) == [{"role": "user", "content": "[[echo]]"}]


async def test_it_says_what_it_is_told_and_leaves_other_brackets_alone(client: groq.AsyncGroq) -> None:
    assert said(await chunks(client, "Please [[say=Good morning.]]")) == "Good morning."
    assert said(await chunks(client, '[[say="a\\nb"]]')) == "a\nb"
    assert "> [[fault=503]] [[x]]" in said(await chunks(client, "[[fault=503]] [[x]]"))


async def test_an_answer_ends_at_the_bound_that_was_asked_for(client: groq.AsyncGroq) -> None:
    found = await chunks(client, "[[tokens=1000000000]]", max_completion_tokens=7)
    assert (said(found), found[-1].choices[0].finish_reason) == (expected_text(7), "length")


async def test_thoughts_are_shown_as_they_were_asked_for(client: groq.AsyncGroq) -> None:
    thinking, thought = "[[reasoning=4 say=So.]]", expected_text(4, -1)
    found = await chunks(client, thinking)
    assert "".join(chunk.choices[0].delta.reasoning or "" for chunk in found) == thought
    assert said(found) == "So."
    assert said(await chunks(client, thinking, include_reasoning=False)) == "So."
    raw = await chunks(client, thinking, model=QWEN, reasoning_format="raw")
    assert said(raw) == f"<think>{thought}</think>So."
    whole = await create(client, thinking, model=QWEN, reasoning_format="raw")
    assert whole.choices[0].message.content == said(raw)


async def test_an_answer_that_has_to_be_json_is(client: groq.AsyncGroq) -> None:
    text = said(await chunks(client, "Hello", response_format={"type": "json_object"}))
    assert "local demo model" in orjson.loads(text)["answer"]


async def test_tokens_come_at_the_pace_that_was_asked_for(client: groq.AsyncGroq) -> None:
    begin = time.monotonic()
    await chunks(client, "[[tokens=11 rate=50 first_delay=0.2]]")
    assert 0.4 <= time.monotonic() - begin < 5  # the eleventh is due 0.2 + 10 / 50 s after the start


async def test_it_has_the_models_of_groq_and_no_others(client: groq.AsyncGroq) -> None:
    offered = [model.id for model in (await client.models.list()).data]
    assert {MODEL, QWEN} <= set(offered)
    assert (await client.models.retrieve(QWEN)).id == QWEN
    with pytest.raises(groq.NotFoundError, match="model_not_found"):
        await create(client, "Hi", model="nobody/nothing")
    with pytest.raises(groq.NotFoundError, match="model_not_found"):
        await client.models.retrieve("nobody/nothing")


@pytest.mark.parametrize(
    "body",
    [
        "no JSON",
        "[]",
        '{"model": "openai/gpt-oss-120b"}',
        '{"model": "openai/gpt-oss-120b", "messages": [1]}',
    ],
)
async def test_what_is_no_chat_request_is_400(url: str, body: str) -> None:
    async with httpx.AsyncClient(base_url=url, verify=False) as http:
        answer = await http.post("/openai/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("The demo model cannot read this:")


async def test_a_directive_that_cannot_be_read_is_400(client: groq.AsyncGroq) -> None:
    with pytest.raises(groq.BadRequestError, match="invalid literal"):
        await create(client, "[[tokens=many]]")


async def test_nothing_of_the_double_is_behind_it(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, verify=False) as http:
        for path in ("/_double/health", "/_double/faults", "/_double/settings", "/"):
            assert (await http.get(path)).status_code == 404
