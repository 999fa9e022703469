"""Responses of others, stops at every moment, deletes beside answers, and limits of the provider's."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.integration.test_responses import PATH, ask, client, kinds, replay, stream
from tests.support.identity import bearer, make_key
from tests.support.service import Served
from tests.support.waiting import eventually_async


async def test_what_is_another_s_can_neither_be_read_nor_gone_on_from(start: Start) -> None:
    async with start(auth="keys") as served:
        mine, theirs = [bearer(await make_key(served, owner=name)) for name in ("me", "they")]
        post = served.client.post
        first = (await post(PATH, json={"input": "[[say=one]]"}, headers=theirs)).json()
        conversation = (await post("/v1/conversations", json={}, headers=theirs)).json()["id"]
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            url = f"{PATH}/{first['id']}{path}"
            answer = await served.client.request(method, url, headers=mine)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "response_not_found")
        chained = await post(PATH, json={"input": "x", "previous_response_id": first["id"]}, headers=mine)
        assert (chained.status_code, chained.json()["error"]["code"]) == (400, "previous_response_not_found")
        named = [{"type": "item_reference", "id": first["output"][0]["id"]}, {"role": "user", "content": "x"}]
        referred = await post(PATH, json={"input": named}, headers=mine)
        assert (referred.status_code, referred.json()["error"]["param"]) == (404, "input[0].id")
        items = {"items": [{"role": "user", "content": "x"}]}
        added = await post(f"/v1/conversations/{conversation}/items", json=items, headers=mine)
        assert added.status_code == 404
        # A name is its principal's: theirs is not gone on with, one of our own begins.
        own = await post(PATH, json={"input": "[[say=ok]]", "conversation": conversation}, headers=mine)
        assert own.status_code == 200
        left = await served.client.get(f"/v1/conversations/{conversation}/items", headers=theirs)
        assert left.json()["data"] == []


async def test_a_stop_before_the_first_token_after_the_end_and_elsewhere(start: Start) -> None:
    async with start() as here, start() as there, client(there) as sdk:
        quiet = await ask(here, "[[tokens=9 first_delay=20]]", background=True)
        stopped = await sdk.responses.cancel(quiet["id"])
        assert (stopped.status, stopped.output) == ("cancelled", [])
        assert await sdk.responses.cancel(quiet["id"]) == stopped
        told = [event async for event in await sdk.responses.retrieve(quiet["id"], stream=True)]
        assert [event.type for event in told] == [
            "response.created",
            "response.in_progress",
            "response.incomplete",
        ]
        ended = await ask(here, "[[tokens=9]]")
        after = await sdk.responses.cancel(ended["id"])
        assert (after.status, after.output_text) == ("completed", expected_text(9))
        unknown = await there.client.post(f"{PATH}/resp_{'0' * 26}_s/cancel")
        assert unknown.status_code == 404


async def test_a_stop_ends_the_streams_of_all_readers_with_the_same_last_event(served: Served) -> None:
    async with client(served) as sdk:
        reading = await sdk.responses.create(
            model="", input="[[tokens=400 rate=40]]", background=True, stream=True
        )
        seen = []
        async for event in reading:
            seen.append(event)
            if len(seen) == 8:
                await sdk.responses.cancel(seen[0].response.id)
        assert (seen[-1].type, seen[-1].response.status) == ("response.incomplete", "cancelled")
        assert seen[-1].response.incomplete_details is None
        shown = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
        assert shown == seen[-1].response.output_text
        again = [event async for event in await sdk.responses.retrieve(seen[0].response.id, stream=True)]
        assert [event.to_dict() for event in again] == [event.to_dict() for event in seen]


async def test_a_conversation_is_deleted_while_it_answers(served: Served) -> None:
    async with client(served) as sdk:
        conversation = await sdk.conversations.create()
        slow = await sdk.responses.create(
            model="", input="[[tokens=400 rate=40]]", conversation=conversation.id, background=True
        )
        assert (await sdk.conversations.delete(conversation.id)).deleted
        for gone in (sdk.conversations.retrieve(conversation.id), sdk.responses.retrieve(slow.id)):
            with pytest.raises(openai.NotFoundError):
                await gone


async def test_the_provider_s_limit_is_a_429_before_the_head_and_an_event_in_the_background(
    start: Start, double: Double
) -> None:
    async with start(retry_budget_seconds=0) as served:
        for fields in ({}, {"stream": True}):
            refused = await served.client.post(PATH, json={"input": "[[fault=429]]", **fields})
            error = refused.json()["error"]
            assert (refused.status_code, error["code"]) == (429, "upstream_rate_limited"), refused.text
            assert int(refused.headers["retry-after"]) >= 1
        told, _ = await stream(served, "[[fault=429]]", background=True)
        assert kinds(told) == ["response.created", "response.in_progress", "error", "response.failed"]
        failed = told[-1]["response"]["error"]
        assert (failed["code"], failed["type"]) == ("rate_limit_exceeded", "upstream_rate_limited")
        queued = await ask(served, "[[fault=429]]", background=True)

        async def ended() -> Any:
            found = (await served.client.get(f"{PATH}/{queued['id']}")).json()
            return found if found["status"] == "failed" else None

        stored = await eventually_async(ended)
        assert stored["error"] == failed
        assert (await replay(served, queued["id"])).count("event: response.failed") == 1


async def test_budgets_and_metrics_know_responses_as_any_other_send(start: Start, store: Any) -> None:
    async with start(budget_tokens_per_day=300) as served:
        body = {"input": "Hello", "max_output_tokens": 2_000, "stream": True, "background": True}
        begun = await stream(served, "[[tokens=60 rate=60]]", background=True, max_output_tokens=100)
        assert begun[0][-1]["response"]["usage"]["output_tokens"] == 60
        response_id = begun[0][-1]["response"]["id"]
        sessions = list(store.scan_iter("chat:{*}:session"))
        spent = await served.client.post(PATH, json={**body, "input": "long " * 400})
        assert (spent.status_code, spent.json()["error"]["code"]) == (429, "budget_exhausted"), spent.text
        assert spent.headers["x-should-retry"] == "false"
        assert list(store.scan_iter("chat:{*}:session")) == sessions
        series = 'chat_http_requests_total{method="GET",route="/v1/responses/{response_id}",status="200"}'

        async def counted() -> float:
            page = (await served.client.get("/metrics")).text
            assert 'chat_readers_open{dialect="responses"} 0' in page
            assert response_id not in page
            found = [line for line in page.splitlines() if line.startswith(series)]
            return float(found[0].rpartition(" ")[2]) if found else 0

        before = await counted()
        await replay(served, response_id)
        assert await counted() == before + 1
