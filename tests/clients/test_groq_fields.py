"""What Groq says besides its answer: passed on where its own clients ask, in OpenAI's values elsewhere."""

from __future__ import annotations

from typing import Any

import groq
import openai
import pytest

from tests.clients.conftest import Opened
from tests.double import Double
from tests.support.dialects import datas
from tests.support.service import Served

MODEL = "openai/gpt-oss-120b"
TIMES = {"queue_time", "prompt_time", "completion_time", "total_time"}


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.fixture
def client(served: Served, opened: Opened) -> groq.AsyncGroq:
    made = groq.AsyncGroq(base_url=served.url, api_key="none", max_retries=0)
    opened(made)
    return made


async def test_groq_s_clients_are_told_all_that_groq_said_of_a_call(
    client: groq.AsyncGroq, double: Double
) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=said("[[tokens=9 cached=4]]"), seed=7)
    type(answer).model_validate(answer.model_dump(exclude_unset=True), strict=True)
    [call] = double.calls
    assert answer.service_tier == "on_demand"
    assert answer.system_fingerprint
    assert answer.system_fingerprint.startswith("fp_")
    assert answer.x_groq
    assert (answer.x_groq.id, answer.x_groq.seed) == (call.request_id, 7)
    assert answer.usage
    assert answer.usage.model_dump().keys() >= TIMES
    assert answer.usage.prompt_tokens_details
    assert answer.usage.prompt_tokens_details.cached_tokens == 4


async def test_and_in_a_stream(client: groq.AsyncGroq, double: Double) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=said("[[tokens=9]]"),
        stream=True,
        extra_body={"stream_options": {"include_usage": True}},
    )
    chunks = [chunk async for chunk in stream]
    for chunk in chunks:
        type(chunk).model_validate(chunk.model_dump(exclude_unset=True), strict=True)
    [call] = double.calls
    *_, last, alone = chunks
    assert last.choices[0].finish_reason == "stop"
    assert last.system_fingerprint
    assert last.x_groq
    assert last.x_groq.id == call.request_id
    assert last.usage == last.x_groq.usage == alone.usage
    assert alone.usage
    assert alone.usage.model_dump().keys() >= TIMES
    assert alone.service_tier == "on_demand"  # type: ignore[attr-defined]  # Groq sends it, its SDK lacks it


@pytest.mark.parametrize("streamed", [False, True])
async def test_openai_s_clients_find_values_of_openai_s_own_types(served: Served, streamed: bool) -> None:
    body = {"model": MODEL, "messages": said("[[tokens=9]]"), "stream": streamed}
    if streamed:
        body["stream_options"] = {"include_usage": True}
    answer = await served.client.post("/v1/chat/completions", json=body)
    found = datas(answer.text)[1:] if streamed else [answer.json()]
    kind: Any = openai.types.chat.ChatCompletionChunk if streamed else openai.types.chat.ChatCompletion
    for one in found:
        kind.model_validate(one, strict=True)
        assert one.get("service_tier") in (None, "default")
        assert not TIMES & (one.get("usage") or {}).keys()
    assert found[-1]["service_tier"] == "default"
    assert found[-2 if streamed else -1]["system_fingerprint"].startswith("fp_")
    assert "on_demand" not in answer.text


async def test_native_clients_are_told_as_before(served: Served) -> None:
    answer = await served.client.post("/v1/sessions/s/turns", json={"content": "[[tokens=3]]"})
    told = datas(answer.text)[-1]
    assert told.keys() == {"finish_reason", "usage"}
    assert told["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}
