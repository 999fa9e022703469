"""How a Response ends for its readers when its worker is lost, leaves, or is killed by a limit of ours."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import Start
from tests.double import expected_text
from tests.integration.test_responses import (
    PATH,
    TOOL,
    ask,
    kinds,
    parsed,
    replay,
    stream,
    text_of,
    valid,
)
from tests.support.dialects import datas
from tests.support.service import Served
from tests.support.waiting import eventually_async


async def begin(served: Served, message: str, **fields: Any) -> tuple[Any, bytes, Any]:
    """A streamed response of which some text was shown: its stream, what came of it, and its id."""
    body = {"input": message, "stream": True, **fields}
    answer = await served.client.send(served.client.build_request("POST", PATH, json=body), stream=True)
    pieces = answer.aiter_raw()
    data = b""
    while data.count(b"output_text.delta\n") < 3:
        data += await anext(pieces)
    return pieces, data, json.loads(data.split(b"\n")[1][6:])["response"]["id"]


async def test_a_restart_is_an_error_to_who_was_shown_something_and_nothing_to_others(start: Start) -> None:
    async with start(lease_seconds=0.5) as served:
        pieces, data, response_id = await begin(served, "[[tokens=240 rate=80 vary]]", background=True)
        seen = datas(data.decode())[-1]["sequence_number"]
        turn = f"t_{response_id.split('_')[1]}"
        served.app.state.edge.engine.running._lives[turn].interrupt("lost host")
        told = data.decode() + (b"".join([piece async for piece in pieces])).decode()
        assert "[DONE]" not in told
        *_, last = datas(told)
        assert (last["type"], last["error"]["code"]) == ("error", "upstream_unavailable")
        assert "retrieve the response" in last["error"]["message"]

        async def done() -> Any:
            found = (await served.client.get(f"{PATH}/{response_id}")).json()
            return found if found["status"] == "completed" else None

        stored = await eventually_async(done, within=20)
        assert text_of(stored) == expected_text(240, 1)
        again = parsed(await replay(served, response_id))
        valid(again)
        assert text_of(again[-1]["response"]) == expected_text(240, 1)
        assert "".join(
            event["delta"] for event in again if event["type"] == "response.output_text.delta"
        ) == expected_text(240, 1)
        query = {"stream": "true", "starting_after": str(seen)}
        void = await served.client.get(f"{PATH}/{response_id}", params=query)
        assert (void.status_code, void.headers["x-should-retry"]) == (409, "false")
        cut = again[5]["sequence_number"]
        rest = parsed(await replay(served, response_id, cut))
        assert rest == again[6:]


async def test_a_drain_ends_background_streams_without_an_end_and_others_with_an_error(start: Start) -> None:
    async with start() as served:
        background = await begin(served, "[[tokens=300 rate=60]]", background=True)
        plain = await begin(served, "[[tokens=300 rate=60]]")
        served.app.state.edge.engine.readers.close()
        quiet = background[1] + b"".join([piece async for piece in background[0]])
        assert kinds(datas(quiet.decode())) == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
        ]
        assert b"[DONE]" not in quiet
        told = plain[1] + b"".join([piece async for piece in plain[0]])
        assert datas(told.decode())[-1]["error"]["code"] == "draining"


async def test_a_reader_that_leaves_ends_what_nobody_reads_and_no_background_response(
    start: Start, store: Any
) -> None:
    def state(response_id: str) -> str:
        """As it is stored: retrieving the response would name its session."""
        (name,) = store.scan_iter(f"*:turn:t_{response_id.split('_')[1]}")
        found: str = store.hget(name, "state")
        return found

    async with start(orphan_seconds=0.3) as served:
        pieces, _, kept = await begin(served, "[[tokens=200 rate=50]]", background=True)
        await pieces.aclose()
        other, _, lost = await begin(served, "[[tokens=4000 rate=50]]")
        await other.aclose()
        await eventually_async(lambda: state(lost) == "stopped", within=15)
        await eventually_async(lambda: state(kept) == "completed", within=20)


async def test_a_response_is_deleted_with_a_session_of_its_own_and_hidden_in_any_other(
    served: Served,
) -> None:
    alone = await ask(served, "[[say=one]]")
    session = alone["id"].split("_", 2)[2]
    assert (await served.client.delete(f"{PATH}/{alone['id']}")).json() == {
        "id": alone["id"],
        "object": "response",
        "deleted": True,
    }
    assert (await served.client.get(f"/v1/sessions/{session}")).status_code == 404
    first = await ask(served, "[[say=one]]", conversation="c", metadata={"secret": "x"})
    await ask(served, "[[say=two]]", previous_response_id=first["id"])
    assert (await served.client.delete(f"{PATH}/{first['id']}")).status_code == 200
    assert (await served.client.get(f"{PATH}/{first['id']}")).status_code == 404
    messages = (await served.client.get("/v1/sessions/c/messages")).json()["data"]
    assert [message["content"] for message in messages] == ["[[say=one]]", "one", "[[say=two]]", "two"]


async def test_fifty_sends_with_one_key_are_one_response(served: Served) -> None:
    body = {"input": "[[tokens=20 rate=100]]", "stream": True}
    answers = await asyncio.gather(
        *(served.client.post(PATH, json=body, headers={"Idempotency-Key": "k"}) for _ in range(50))
    )
    assert len({answer.text for answer in answers}) == 1
    assert text_of(parsed(answers[0].text)[-1]["response"]) == expected_text(20)


@pytest.mark.parametrize(
    "asked", ["[[tokens=9 reasoning=3]]", "[[tool=weather]]", "[[tokens=6 reasoning=3 finish=length]]"]
)
async def test_when_its_log_has_expired_a_response_is_whole_and_its_stream_410(
    served: Served, store: Any, asked: str
) -> None:
    body = {"tools": [TOOL], "reasoning": {"summary": "auto"}}
    events, _ = await stream(served, asked, **body)
    last = events[-1]["response"]
    (log,) = store.scan_iter("*:log:*")
    store.delete(log)
    stored = (await served.client.get(f"{PATH}/{last['id']}")).json()
    assert stored == last
    for query in ({}, {"starting_after": "17"}, {"starting_after": str(events[-1]["sequence_number"])}):
        answer = await served.client.get(f"{PATH}/{last['id']}", params={"stream": "true", **query})
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "events_expired")
    (messages,) = store.scan_iter("*:messages")
    store.delete(messages)
    assert (await served.client.get(f"{PATH}/{last['id']}")).status_code == 404


async def test_a_response_that_stopped_while_it_thought_is_the_same_stored_and_streamed(start: Start) -> None:
    async with start() as served:
        body = {"input": "[[reasoning=400 rate=60]]", "stream": True, "reasoning": {"summary": "auto"}}
        async with served.client.stream("POST", PATH, json={**body, "background": True}) as answer:
            data = b""
            async for piece in answer.aiter_raw():
                data += piece
                if data.count(b"summary_text.delta\n") == 3:
                    response_id = json.loads(data.split(b"\n")[1][6:])["response"]["id"]
                    cancelled = await served.client.post(f"{PATH}/{response_id}/cancel")
        events = parsed(data.decode())
        valid(events)
        assert events[-1]["response"] == cancelled.json()
        assert events[-1]["response"]["output"][0]["status"] == "incomplete"
        assert (await served.client.get(f"{PATH}/{response_id}")).json() == cancelled.json()
