"""Which calls to the provider are booked: all that were sent and not refused, once, whatever ends them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import redis

from service.engine.tokens import Tokens
from tests.conftest import Start
from tests.double import Double
from tests.integration.test_budgets import settled, usage
from tests.support.redis import free_port
from tests.support.service import Served
from tests.support.waiting import eventually_async

# What the estimate of a prompt has besides its messages.
PRIMING = 16


async def start_and_stop(served: Served, double: Double, content: str, calls: int) -> httpx.Response:
    """Stopped once its call is with the double; else the refusal."""
    begun = await served.client.post(
        "/v1/sessions/s/turns", json={"content": content}, headers={"Prefer": "respond-async"}
    )
    if begun.status_code != 202:
        return begun
    await eventually_async(lambda: len(list(double.calls)) == calls)
    return await served.client.post(f"{begun.headers['location']}/stop")


async def test_a_prompt_is_booked_though_it_is_stopped_before_its_first_token(
    start: Start, double: Double
) -> None:
    question = "[[fault=silence]] " + "word " * 29_600  # 37,000 tokens
    async with start(budget_tokens_per_day=50_000) as served:
        stopped = (await start_and_stop(served, double, question, 1)).json()
        assert stopped["state"] == "stopped"
        assert stopped["usage"]["prompt_tokens"] > 37_000
        assert stopped["usage"]["completion_tokens"] == 0
        found = await settled(served, 1)
        assert found["budgets"]["day"]["used"] == stopped["usage"]["total_tokens"]
        assert found["data"][0]["prompt_tokens"] == stopped["usage"]["prompt_tokens"]
        for _ in range(9):
            refused = await start_and_stop(served, double, question, 2)
            assert (refused.status_code, refused.json()["code"]) == (429, "budget_exhausted")
        assert len(list(double.calls)) == 1


async def prompts_of(served: Served, text: str, **body: Any) -> list[int]:
    """Tokens of the turn's prompt by its own word, in the ledger, and in the metrics."""
    name = 'chat_tokens_total{direction="input"}'

    async def counted() -> int:
        lines = (await served.client.get("/metrics")).text.splitlines()
        return round(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)))

    before, counted_before = (await usage(served))["data"], await counted()
    answer = await served.client.post("/v1/sessions/s/turns", json={"content": text, **body})
    turns = sum(row["turns"] for row in before)
    after = (await settled(served, turns + 1))["data"]
    turn = (await served.client.get(f"/v1/sessions/s/turns/{answer.headers['x-turn-id']}")).json()
    booked = sum(row["prompt_tokens"] for row in after) - sum(row["prompt_tokens"] for row in before)
    return [turn["usage"]["prompt_tokens"], booked, await counted() - counted_before]


@pytest.mark.parametrize(
    ("wish", "unreported", "reported"),
    [
        ("tokens=2", 0, 1),
        ("tokens=2 fault=silence times=1", 1, 1),
        ("tokens=2 fault=cut after=0 times=1", 1, 1),
        ("tokens=9 fault=cut after=4", 1, 0),
        ("tokens=2 fault=error_data after=0 times=1", 1, 1),
        ("tokens=2 fault=500 times=1", 0, 1),
        ("tokens=2 fault=503 times=1", 0, 1),
        ("fault=400", 0, 0),
        ("fault=413_bytes", 0, 0),
    ],
)
async def test_each_call_that_was_not_refused_is_booked_once(
    start: Start, double: Double, wish: str, unreported: int, reported: int
) -> None:
    async with start(first_token_timeout_seconds=1) as served:
        told = await prompts_of(served, f"[[{wish}]]")
        call = next(iter(double.calls))
        messages: Any = call.describe()["messages"]
        estimate = Tokens().of("nobody").chat(messages) + PRIMING
    assert estimate != call.prompt_tokens
    assert told == [unreported * estimate + reported * call.prompt_tokens] * 3


async def test_while_a_refused_call_waits_to_be_made_again_no_takeover_would_bill_it(
    served: Served, double: Double, store: redis.Redis
) -> None:
    begun = await served.client.post(
        "/v1/sessions/s/turns",
        json={"content": "[[fault=500 times=1 retry_after=9]]"},
        headers={"Prefer": "respond-async"},
    )
    await eventually_async(lambda: [call.status for call in double.calls] == [500])
    [name] = store.scan_iter("*:turn:*")
    await eventually_async(lambda: store.hmget(name, "attempt", "prompt_tokens") == ["1", "0"])
    stopped = await served.client.post(f"{begun.headers['location']}/stop")
    assert stopped.json()["usage"]["total_tokens"] == 0


async def test_a_call_that_found_no_provider_costs_nothing(start: Start) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    async with start(groq_base_url=nobody, retry_budget_seconds=0) as served:
        assert await prompts_of(served, "hello") == [0, 0, 0]
