"""OpenAI's and Groq's SDKs for Python and node, and LangChain, all unmodified."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import groq
import httpx2  # what OpenAI's SDK for Python is built on today
import openai
import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.node import Node
from tests.support.service import Served

MODEL = "openai/gpt-oss-120b"
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


_made: list[Any] = []


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """SDKs leave their connections open, and say so."""
    yield
    while _made:
        await _made.pop().close()


def clients(served: Served, retries: int = 0) -> list[Any]:
    """Both SDKs; Groq's adds /openai/v1 to its base URL by itself."""
    found: list[Any] = [
        openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=retries),
        groq.AsyncGroq(base_url=served.url, api_key="none", max_retries=retries),
    ]
    _made.extend(found)
    return found


def langchain(served: Served, **options: Any) -> ChatOpenAI:
    key = SecretStr("none")
    model = ChatOpenAI(model=MODEL, base_url=f"{served.url}/v1", api_key=key, max_retries=0, **options)
    _made.append(model.root_async_client)
    return model


async def read(stream: Any, seen: list[str] | None = None) -> str:
    """The text; what came before a failure is in `seen`."""
    pieces: list[str] = [] if seen is None else seen
    async for chunk in stream:
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    return "".join(pieces)


# Python


async def test_python_streams(served: Served) -> None:
    for client in clients(served):
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=said("[[tokens=60 reasoning=4]]"),
            stream=True,
            extra_body={"stream_options": {"include_usage": True}},
        )
        chunks = [chunk async for chunk in stream]
        for chunk in chunks:
            type(chunk).model_validate(chunk.model_dump(exclude_unset=True), strict=True)
        deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
        assert "".join(delta.content or "" for delta in deltas) == expected_text(60)
        assert deltas[0].role == "assistant"
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage.completion_tokens == 64
        reasoning = "".join(getattr(delta, "reasoning", None) or "" for delta in deltas)
        assert reasoning == expected_text(4, -1)


async def test_python_completes(served: Served) -> None:
    for client in clients(served):
        answer = await client.chat.completions.create(model=MODEL, messages=said("[[tokens=60]]"))
        type(answer).model_validate(answer.model_dump(exclude_unset=True), strict=True)
        assert answer.choices[0].message.content == expected_text(60)
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + 60


async def test_python_calls_tools(served: Served) -> None:
    for client in clients(served):
        messages = said("[[tool=weather tokens=5]]")
        answer = await client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
        [call] = answer.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"location": "Berlin"}
        messages += [
            answer.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
        ]
        answer = await client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
        assert answer.choices[0].message.content == expected_text(5)


async def test_python_lists_models(served: Served) -> None:
    for client in clients(served):
        found = [model.id for model in (await client.models.list()).data]
        assert MODEL in found
        assert (await client.models.retrieve(MODEL)).id == MODEL


async def test_python_raises_by_status(start: Start) -> None:
    # Without a limit of reads a refusal costs a send: two of each client.
    async with start(limit_sends="4/hour") as served:
        for client in clients(served):
            library: Any = openai if isinstance(client, openai.AsyncOpenAI) else groq
            with pytest.raises(library.BadRequestError) as bad:
                await client.chat.completions.create(model=MODEL, messages=said("hi"), n=2)
            assert bad.value.body["param"] if library is openai else bad.value.body["error"]["param"] == "n"
            with pytest.raises(library.NotFoundError):
                await client.chat.completions.create(model="gpt-9", messages=said("hi"))
            with pytest.raises(library.NotFoundError):
                await client.models.retrieve("gpt-9")
        with pytest.raises(openai.RateLimitError) as limited:
            await clients(served)[0].chat.completions.create(model=MODEL, messages=said("hi"))
        assert limited.value.code == "rate_limited"
        assert int(limited.value.response.headers["retry-after"]) > 0


async def test_python_raises_in_mid_stream(served: Served) -> None:
    for client in clients(served):
        library: Any = openai if isinstance(client, openai.AsyncOpenAI) else groq
        stream = await client.chat.completions.create(
            model=MODEL, messages=said("[[tokens=60 fault=cut after=30]]"), stream=True
        )
        seen: list[str] = []
        with pytest.raises(library.APIError, match="cut off"):
            await read(stream, seen)
        assert "".join(seen) == expected_text(30)


async def test_a_retry_of_the_sdk_s_own_attaches_to_the_turn(served: Served, double: Double) -> None:
    """Connection lost after the send: the SDK sends it again, and the key makes it the same turn."""
    seen = []

    async def lose_the_first(response: httpx2.Response) -> None:
        seen.append(response)
        if len(seen) == 1:
            await response.aclose()
            raise httpx2.ReadError("the line broke")

    client = openai.AsyncOpenAI(
        base_url=f"{served.url}/v1",
        api_key="none",
        http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [lose_the_first]}),
    )
    _made.append(client)
    stream = await client.chat.completions.create(
        model=MODEL, messages=said("[[tokens=60]]"), stream=True, extra_headers={"Idempotency-Key": "k"}
    )
    assert await read(stream) == expected_text(60)
    assert (len(seen), len(list(double.calls))) == (2, 1)


async def test_a_refusal_that_waiting_does_not_mend_is_not_repeated(served: Served) -> None:
    """409 is one that the SDKs repeat; `x-should-retry: false` spares them."""
    for client in clients(served, retries=2):
        key = {"Idempotency-Key": type(client).__name__}
        await client.chat.completions.create(model=MODEL, messages=said("one"), extra_headers=key)
        seen: list[object] = []

        async def note(response: object, seen: list[object] = seen) -> None:
            seen.append(response)

        client._client.event_hooks["response"] = [note]
        library: Any = openai if isinstance(client, openai.AsyncOpenAI) else groq
        with pytest.raises(library.ConflictError):
            await client.chat.completions.create(model=MODEL, messages=said("two"), extra_headers=key)
        assert len(seen) == 1


# LangChain


async def test_langchain_streams_and_completes(served: Served) -> None:
    model = langchain(served, stream_usage=True)
    pieces = [piece async for piece in model.astream("[[tokens=60]]")]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece
    assert whole.content == expected_text(60)
    assert isinstance(whole, AIMessageChunk)
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 60
    assert (await model.ainvoke("[[say=hello]]")).content == "hello"


async def test_langchain_binds_tools(served: Served) -> None:
    model = langchain(served)
    answer = await model.bind_tools([TOOL]).ainvoke("[[tool=weather]]")
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("weather", {"location": "Berlin"})
    ]


async def test_langchain_raises_in_mid_stream(served: Served) -> None:
    model = langchain(served)
    seen = []

    async def ask() -> None:
        async for piece in model.astream("[[tokens=60 fault=cut after=30]]"):
            seen.append(str(piece.content))

    with pytest.raises(openai.APIError, match="cut off"):
        await ask()
    assert "".join(seen) == expected_text(30)


async def test_langchain_knows_a_conversation_that_is_too_long(served: Served) -> None:
    """As with OpenAI, whether the provider says it or we do: what shortens conversations waits for it."""
    for question in ("[[fault=context_length_exceeded]]", "[[fault=413]]", "word " * 180_000):
        with pytest.raises(ContextOverflowError):
            await langchain(served).ainvoke(question)


# Node


@pytest.mark.parametrize("library", ["openai", "groq"])
async def test_node_streams_completes_and_lists(served: Served, node: Node, library: str) -> None:
    common = {"url": served.url, "library": library}
    seen = await node.play("openai", "stream", message="[[tokens=60 reasoning=4]]", **common)
    assert (seen["text"], seen["reasoning"]) == (expected_text(60), expected_text(4, -1))
    assert seen["finish"] == "stop"
    assert seen["usage"]["completion_tokens"] == seen["groqUsage"]["completion_tokens"] == 64
    whole = await node.play("openai", "complete", message="[[tokens=60]]", session="mine", **common)
    assert (whole["text"], whole["finish"], whole["session"]) == (expected_text(60), "stop", "mine")
    models = await node.play("openai", "models", **common)
    assert models["one"] == models["found"][0] == MODEL


@pytest.mark.parametrize("library", ["openai", "groq"])
async def test_node_raises_by_status_and_in_mid_stream(served: Served, node: Node, library: str) -> None:
    common = {"url": served.url, "library": library}
    seen = await node.play("openai", "stream", message="[[tokens=60 fault=cut after=30]]", **common)
    assert seen["text"] == expected_text(30)
    assert "cut off" in seen["error"]["message"]
    refused = await node.play("openai", "stream", message="[[fault=429 retry_after=61]]", **common)
    assert (refused["error"]["kind"], refused["error"]["status"]) == ("RateLimitError", 429)
    assert "try again in 61 s" in refused["error"]["message"]


async def test_node_s_checking_helper_finds_nothing_wrong(served: Served, node: Node) -> None:
    common = {"url": served.url, "library": "openai"}
    final = await node.play("openai", "helper", message="[[tokens=60]]", **common)
    assert final["message"]["content"] == "".join(final["deltas"]) == expected_text(60)
    assert (final["finish"], final["usage"]["completion_tokens"]) == ("stop", 60)
    final = await node.play("openai", "helper", message="[[tool=weather]]", tools=[TOOL], **common)
    [call] = final["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"location": "Berlin"}
    assert final["finish"] == "tool_calls"
