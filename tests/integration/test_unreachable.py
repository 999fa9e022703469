"""A provider that cannot be reached: asked again soon, for as long as the retry budget lasts."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from service.config.settings import Settings
from service.upstream.base import Request
from service.upstream.groq import Groq
from service.upstream.models import load_catalogue
from tests.conftest import Start
from tests.double import Double, create_double, expected_text, running
from tests.support.dialects import datas
from tests.support.redis import free_port

# Whoever waited for the 2 s that it had been has more than this behind it.
SOON = 1.5


@pytest.mark.parametrize("kind", ["drop", "drop_rst"])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_connection_lost_before_the_answer_is_made_good_within_two_seconds(
    start: Start, double: Double, kind: str, times: int
) -> None:
    async with start(retry_budget_seconds=2) as served:
        begun = time.monotonic()
        answer = await served.client.post(
            "/chat", json={"user_query": f"[[tokens=9 fault={kind} times={times}]]"}
        )
        took = time.monotonic() - begun
    assert (answer.status_code, answer.text) == (200, expected_text(9))
    assert [call.model for call in double.calls] == ["openai/gpt-oss-120b"] * (times + 1)
    assert took < SOON


async def test_where_it_goes_on_it_is_a_502_that_names_no_time(start: Start, double: Double) -> None:
    async with start(retry_budget_seconds=2) as served:
        answer = await served.client.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": "[[fault=drop]]"}]}
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unavailable")
    assert "retry-after" not in answer.headers
    assert len(list(double.calls)) == 3


async def test_after_a_byte_of_the_answer_nothing_is_asked_again(start: Start, double: Double) -> None:
    async with start(retry_budget_seconds=2) as served:
        answer = await served.client.post(
            "/v1/sessions/s/turns", json={"content": "[[tokens=9 fault=cut after=1]]"}
        )
    assert "event: turn.failed" in answer.text
    assert len(list(double.calls)) == 1


async def test_a_provider_that_is_back_in_time_has_missed_no_call(start: Start) -> None:
    """Nobody listens at first: that is no attempt, and it costs nothing."""
    port = free_port()
    double = create_double(rate=0)
    async with start(groq_base_url=f"http://127.0.0.1:{port}", retry_budget_seconds=8) as served:
        asked = asyncio.create_task(
            served.client.post("/v1/sessions/s/turns", json={"content": "[[tokens=9]]"})
        )
        await asyncio.sleep(0.6)  # longer than three attempts had waited with the pauses of a lost connection
        with running(double, port=port):
            answer = await asked
    told = datas(answer.text)
    assert told[-1]["finish_reason"] == "stop"
    assert [event["attempt"] for event in told if "attempt" in event] == [1]
    assert told[-1]["usage"]["completion_tokens"] == 9


async def test_behind_a_proxy_a_call_that_has_left_at_last_is_paid_for() -> None:
    """Somebody else's transport does not say when a call has left."""
    tries = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise httpx.ConnectError("not yet", request=request)
        return httpx.Response(200, content=b"", headers={"content-type": "text/event-stream"})

    provider = Groq(Settings(_env_file=None))
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    provider._calls.http, provider._calls.direct = http, None
    model = load_catalogue(None, None).default
    request = Request(model, [], 9, {}, "t_1", patience=2)
    async with provider.call(request):
        assert request.billable
    await http.aclose()
    await provider.close()
    assert tries == 2


async def test_without_a_retry_budget_it_fails_at_once(start: Start) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    async with start(groq_base_url=nobody, retry_budget_seconds=0) as served:
        begun = time.monotonic()
        answer = await served.client.post("/chat", json={"user_query": "hello"})
        assert time.monotonic() - begun < SOON
    assert (answer.status_code, answer.json()["detail"]) == (502, "The model cannot be reached.")
