"""OpenAI's Responses over the log: with its own SDK, event by event, cut anywhere, chained, refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.service import Served
from tests.support.waiting import eventually_async

PATH = "/v1/responses"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
TEXT = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def client(served: Served, **options: Any) -> Any:
    return openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, **options)


def parsed(raw: str) -> list[dict[str, Any]]:
    """All events of a stream, each with the name that its block has; `[DONE]` has to be the last."""
    found = []
    blocks = [block for block in raw.split("\n\n") if block and not block.startswith(":")]
    assert blocks[-1] == "data: [DONE]"
    for block in blocks[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def valid(events: list[dict[str, Any]]) -> None:
    """Of the types that OpenAI's SDK knows, with rising numbers, of one response."""
    for event in events:
        if event["type"] != "error":
            EVENT.validate_python(event)
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1


async def ask(served: Served, message: Any, **fields: Any) -> dict[str, Any]:
    answer = await served.client.post(PATH, json={"input": message, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def stream(served: Served, message: Any, **fields: Any) -> tuple[list[dict[str, Any]], str]:
    answer = await served.client.post(PATH, json={"input": message, "stream": True, **fields})
    assert answer.status_code == 200, answer.text
    return parsed(answer.text), answer.text


async def replay(served: Served, response_id: str, after: int | str | None = None) -> str:
    query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    answer = await served.client.get(f"{PATH}/{response_id}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.text


def text_of(response: Any) -> str:
    return Response.model_validate(response).output_text


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types in order, without repeats of deltas."""
    return [event["type"] for event in events if not event["type"].endswith(".delta")]


def called(double: Double) -> Any:
    """The newest call to the provider."""
    return double.calls.find()[-1].describe()


def sent(double: Double) -> Any:
    """Its context."""
    return called(double)["messages"]


async def test_an_answer_is_told_in_openais_events_and_replayed_byte_by_byte(served: Served) -> None:
    events, raw = await stream(served, "[[tokens=30]]", metadata={"a": "b"}, instructions="Be kind.")
    valid(events)
    assert kinds(events) == TEXT
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    last = events[-1]["response"]
    assert "".join(deltas) == text_of(last) == expected_text(30)
    assert last["usage"]["output_tokens"] == 30
    assert (last["metadata"], last["instructions"], last["status"]) == ({"a": "b"}, "Be kind.", "completed")
    assert "retry:" not in raw
    assert "\nid:" not in raw
    assert await replay(served, last["id"]) == raw
    stored = (await served.client.get(f"{PATH}/{last['id']}")).json()
    assert stored == last
    assert last["completed_at"] >= last["created_at"]


async def test_a_stream_cut_after_any_event_goes_on_exactly(served: Served) -> None:
    body = {"reasoning": {"summary": "auto"}, "tools": [TOOL], "tool_choice": "auto"}
    for message in ("[[tokens=6 reasoning=3]]", "[[tool=weather]]", "[[tokens=4 finish=length]]"):
        events, raw = await stream(served, message, **body)
        valid(events)
        blocks = raw.split("\n\n")
        for i, event in enumerate(events):
            rest = await replay(served, events[0]["response"]["id"], event["sequence_number"])
            assert rest.split("\n\n") == blocks[i + 1 :], (message, i)


async def test_reasoning_is_summarised_where_it_is_asked_for_and_nowhere_else(served: Served) -> None:
    asked, _ = await stream(served, "[[tokens=5 reasoning=4]]", reasoning={"summary": "auto"})
    valid(asked)
    output = asked[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message"]
    assert output[0]["summary"][0]["text"] == expected_text(4, -1)
    assert kinds(asked)[2:8] == [
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
    ]
    stored = (await served.client.get(f"{PATH}/{asked[-1]['response']['id']}")).json()
    assert stored["output"] == output
    plain, _ = await stream(served, "[[tokens=5 reasoning=4]]")
    assert kinds(plain) == TEXT
    assert [item["type"] for item in (await ask(served, "[[tokens=5 reasoning=4]]"))["output"]] == ["message"]


async def test_function_calls_are_items_and_their_outputs_are_taken(served: Served, double: Double) -> None:
    events, _ = await stream(served, "[[tool=weather]]", tools=[TOOL])
    valid(events)
    (call,) = events[-1]["response"]["output"]
    assert (call["type"], call["name"]) == ("function_call", "weather")
    assert call["arguments"] == "".join(
        event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"
    )
    assert called(double)["params"]["tools"][0]["function"]["name"] == "weather"
    double.calls.clear()
    whole = [
        {"role": "user", "content": "Weather?"},
        {"type": "function_call", "call_id": call["call_id"], "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": call["call_id"], "output": "Sun"},
    ]
    answer = await ask(served, whole, tools=[TOOL])
    assert answer["status"] == "completed"
    assert [message["role"] for message in sent(double)] == ["user", "assistant", "tool"]
    for body in (
        {"input": "Go on", "previous_response_id": events[-1]["response"]["id"]},
        {"input": whole[:1] + whole[2:]},
    ):
        refused = await served.client.post(PATH, json=body)
        assert refused.status_code == 400
        assert "function" in refused.json()["error"]["message"]


async def test_the_sdk_streams_helps_retrieves_and_reads_on(served: Served) -> None:
    sdk = client(served)
    created = await sdk.responses.create(model="openai/gpt-oss-120b", input="[[tokens=9]]")
    assert created.output_text == expected_text(9)
    raw = await sdk.responses.create(model="openai/gpt-oss-120b", input="[[tokens=9]]", stream=True)
    seen = [event async for event in raw]
    assert seen[-1].type == "response.completed"
    async with sdk.responses.stream(model="openai/gpt-oss-120b", input="[[tokens=9]]") as helper:
        async for _ in helper:
            pass
        final = await helper.get_final_response()
    assert final.output_text == expected_text(9)
    assert (await sdk.responses.retrieve(final.id)).output_text == expected_text(9)
    cut = seen[4]
    rest = await sdk.responses.retrieve(seen[0].response.id, stream=True, starting_after=cut.sequence_number)
    assert [event.to_dict() async for event in rest] == [event.to_dict() for event in seen[5:]]
    async with sdk.responses.stream(
        response_id=seen[0].response.id, starting_after=cut.sequence_number
    ) as helper:
        assert [event.sequence_number async for event in helper] == [one.sequence_number for one in seen[5:]]
    items = await sdk.responses.input_items.list(seen[0].response.id)
    assert [item.content[0].text async for item in items] == ["[[tokens=9]]"]
    await sdk.responses.delete(final.id)
    with pytest.raises(openai.NotFoundError) as gone:
        await sdk.responses.retrieve(final.id)
    assert gone.value.code == "response_not_found"
    await sdk.close()


async def test_a_background_response_outlives_its_readers_and_is_cancelled_once(start: Start) -> None:
    async with start(orphan_seconds=0.2, log_level="error") as served:
        sdk = client(served)
        queued = await sdk.responses.create(model="", input="[[tokens=40 rate=40]]", background=True)
        assert queued.status in ("queued", "in_progress")
        partial = await eventually_async(lambda: _partial(sdk, queued.id))
        assert expected_text(40).startswith(partial.output_text)
        done = await eventually_async(lambda: _in(sdk, queued.id, "completed"), within=20)
        assert done.output_text == expected_text(40)
        slow = await sdk.responses.create(model="", input="[[tokens=400 rate=40]]", background=True)
        await eventually_async(lambda: _partial(sdk, slow.id))
        cancelled = await sdk.responses.cancel(slow.id)
        assert cancelled.status == "cancelled"
        assert await sdk.responses.cancel(slow.id) == cancelled
        events = parsed(await replay(served, slow.id))
        valid(events)
        assert (events[-1]["type"], events[-1]["response"]["status"]) == ("response.incomplete", "cancelled")
        assert events[-1]["response"]["output"][0]["status"] == "incomplete"
        assert text_of(events[-1]["response"]) == cancelled.output_text
        await sdk.close()


async def _partial(sdk: Any, response_id: str) -> Any:
    found = await sdk.responses.retrieve(response_id)
    return found if found.output_text else None


async def _in(sdk: Any, response_id: str, status: str) -> Any:
    found = await sdk.responses.retrieve(response_id)
    return found if found.status == status else None


async def test_two_readers_and_a_replay_see_the_same_bytes(served: Served) -> None:
    body = {"input": "[[tokens=60 rate=60]]", "stream": True, "background": True}
    async with served.client.stream("POST", PATH, json=body) as first:
        lines = first.aiter_raw()
        begun = await anext(lines)
        response_id = json.loads(begun.split(b"\n")[1][6:])["response"]["id"]
        second = asyncio.create_task(replay(served, response_id))
        whole = begun + b"".join([piece async for piece in lines])
    assert (await second).encode() == whole == (await replay(served, response_id)).encode()
    assert text_of(parsed(whole.decode())[-1]["response"]) == expected_text(60)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0].type"),
        ({"background": True, "store": False}, "invalid_request", "store"),
        ({"previous_response_id": "resp_x"}, "previous_response_not_found", "previous_response_id"),
        ({"previous_response_id": "r", "conversation": "c"}, "invalid_request", "conversation"),
        ({"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
        ({"include": ["message.output_text.logprobs"]}, "unsupported_parameter", "include"),
        ({"input": ""}, "query_empty", "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "unsupported_parameter",
            "input[0].content[0].type",
        ),
        ({"metadata": {"a": "b" * 513}}, "invalid_request", "metadata.a"),
        ({"instructions": "b" * 262_145}, "invalid_request", "instructions"),
        ({"input": [{"role": ["user"], "content": "x"}]}, "invalid_request", "input[0].role"),
        ({"input": [{"type": ["message"], "content": "x"}]}, "unsupported_parameter", "input[0].type"),
    ],
)
async def test_what_cannot_be_had_is_refused_and_stores_nothing(
    served: Served, store: Any, body: dict[str, Any], code: str, param: str
) -> None:
    answer = await served.client.post(PATH, json={"input": "Hello", **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param), answer.text
    assert list(store.scan_iter("chat:{*}:session")) == []


async def test_what_was_not_stored_cannot_be_named(served: Served) -> None:
    hidden = await ask(served, "[[say=one]]", store=False)
    assert hidden["store"] is False
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        answer = await served.client.request(method, f"{PATH}/{hidden['id']}{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "response_not_found")
    chained = await served.client.post(PATH, json={"input": "x", "previous_response_id": hidden["id"]})
    assert chained.json()["error"]["code"] == "previous_response_not_found"


async def test_numbers_that_cannot_be_gone_on_from_are_refused(served: Served) -> None:
    events, _ = await stream(served, "[[tokens=5]]")
    response_id, last = events[0]["response"]["id"], events[-1]["sequence_number"]
    assert await replay(served, response_id, last) == "data: [DONE]\n\n"
    assert await replay(served, response_id, f"{'0' * 30}{last}") == "data: [DONE]\n\n"
    ahead = [
        (after, 409, "cursor_ahead") for after in (*(str(last + more) for more in (1, 14, 160)), "9" * 5000)
    ]
    for after, status, code in (("x", 400, "bad_cursor"), ("", 400, "bad_cursor"), *ahead):
        answer = await served.client.get(
            f"{PATH}/{response_id}", params={"stream": "true", "starting_after": after}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.headers.get("x-should-retry") == ("false" if status == 409 else None)
        assert answer.json()["error"]["param"] == "starting_after"
        assert "this turn" not in answer.json()["error"]["message"]  # its ids are no numbers of this response


@pytest.mark.parametrize("fault", ["[[fault=400]]", "[[tokens=9 fault=cut after=4]]"])
async def test_of_a_failed_response_too_the_last_number_is_the_last(served: Served, fault: str) -> None:
    events, _ = await stream(served, fault, background=True)
    response_id, last = events[0]["response"]["id"], events[-1]["sequence_number"]
    assert await replay(served, response_id, last) == "data: [DONE]\n\n"
    assert [one["type"] for one in parsed(await replay(served, response_id, last - 2))] == [
        "error",
        "response.failed",
    ]
    query = {"stream": "true", "starting_after": str(last + 1)}
    answer = await served.client.get(f"{PATH}/{response_id}", params=query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "cursor_ahead")
    assert f"has the number {last}." in answer.json()["error"]["message"]


async def test_a_busy_session_is_409_and_a_failure_is_a_status_or_two_events(served: Served) -> None:
    slow = await ask(served, "[[tokens=300 rate=60]]", background=True)
    busy = await served.client.post(PATH, json={"input": "x", "previous_response_id": slow["id"]})
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "turn_in_progress")
    await served.client.post(f"{PATH}/{slow['id']}/cancel")
    refused = await served.client.post(PATH, json={"input": "[[fault=400]]", "stream": True})
    assert refused.status_code == 400
    told, _ = await stream(served, "[[fault=400]]", background=True)
    assert kinds(told) == ["response.created", "response.in_progress", "error", "response.failed"]
    events, _ = await stream(served, "[[tokens=9 fault=cut after=4]]")
    valid(events)
    assert kinds(events)[-3:] == ["response.output_item.done", "error", "response.failed"]
    assert events[-1]["response"]["error"]["code"] == "server_error"
    assert events[-2]["error"]["code"] == events[-1]["response"]["error"]["type"]


async def test_max_tokens_make_it_incomplete(served: Served) -> None:
    events, _ = await stream(served, "[[tokens=50]]", max_output_tokens=5)
    valid(events)
    last = events[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert text_of(last["response"]) == expected_text(5)
