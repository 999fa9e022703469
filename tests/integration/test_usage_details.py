"""Cached and reasoning tokens: what the provider tells of them is kept with the turn, and told everywhere."""

from __future__ import annotations

from typing import Any

from tests.integration.test_budgets import MODEL, settled
from tests.support.dialects import datas
from tests.support.service import Served

WISH = "[[tokens=5 reasoning=3 cached=4]]"
PROMPT_DETAILS = {"cached_tokens": 4}
COMPLETION_DETAILS = {"reasoning_tokens": 3}


def details(usage: dict[str, Any]) -> tuple[Any, Any]:
    return usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")


async def metric(served: Served, name: str) -> float:
    lines = (await served.client.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


async def test_openai_s_usage_has_them_in_one_piece_and_in_a_stream(served: Served) -> None:
    body = {"messages": [{"role": "user", "content": WISH}]}
    whole = (await served.client.post("/v1/chat/completions", json=body)).json()["usage"]
    assert details(whole) == (PROMPT_DETAILS, COMPLETION_DETAILS)
    assert whole["completion_tokens"] == 8
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    chunks = datas((await served.client.post("/v1/chat/completions", json=asked)).text)
    assert details(chunks[-1]["usage"]) == (PROMPT_DETAILS, COMPLETION_DETAILS)
    assert details(chunks[-2]["x_groq"]["usage"]) == (PROMPT_DETAILS, COMPLETION_DETAILS)


async def test_the_turn_its_history_the_ledger_and_the_metrics_have_them(served: Served) -> None:
    before = [await metric(served, f"chat_{kind}_tokens_total") for kind in ("cached", "reasoning")]
    turns = "/v1/sessions/s/turns"
    for _ in range(2):
        answer = await served.client.post(
            turns, json={"content": WISH}, headers={"Accept": "text/event-stream"}
        )
        usage = datas(answer.text)[-1]["usage"]
        assert details(usage) == (PROMPT_DETAILS, COMPLETION_DETAILS)
    turn = (await served.client.get(f"{turns}/{answer.headers['x-turn-id']}")).json()
    assert turn["usage"] == usage
    question, _, _, told = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert (told["model"], told["finish_reason"], told["usage"]) == (MODEL, "stop", usage)
    assert not question.keys() & {"model", "finish_reason", "usage"}
    [row] = (await settled(served, 2))["data"]
    assert (row["cached_tokens"], row["reasoning_tokens"]) == (8, 6)
    after = [await metric(served, f"chat_{kind}_tokens_total") for kind in ("cached", "reasoning")]
    assert [a - b for a, b in zip(after, before, strict=True)] == [8, 6]


async def test_where_the_provider_tells_none_there_is_no_detail(served: Served) -> None:
    answer = await served.client.post("/v1/sessions/s/turns", json={"content": "[[tokens=5]]"})
    assert details(datas(answer.text)[-1]["usage"]) == (None, None)


async def test_a_failed_answer_has_a_model_and_no_finish_reason(served: Served) -> None:
    wish = "[[tokens=9 fault=cut after=5]]"
    await served.client.post("/v1/sessions/s/turns", json={"content": wish})
    told = (await served.client.get("/v1/sessions/s/messages")).json()["data"][1]
    assert (told["state"], told["model"], told["finish_reason"]) == ("failed", MODEL, None)
    assert told["usage"]["completion_tokens"] == 5


async def test_usechat_has_them_by_its_own_names(served: Served) -> None:
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": WISH}]}
    answer = await served.client.post("/api/chat", json={"id": "s", "messages": [message]})
    [finish] = [data for data in datas(answer.text) if data.get("type") == "finish"]
    usage = finish["messageMetadata"]["usage"]
    assert (usage["cachedInputTokens"], usage["reasoningTokens"], usage["outputTokens"]) == (4, 3, 8)
