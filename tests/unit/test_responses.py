"""OpenAI's Response events as a function of the log: encoded once, whole wherever a reader comes back."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest

from service import events
from service.dialects.responses import STEP, ResponseStream
from service.events import Event

ECHO: dict[str, Any] = {"store": True, "background": True, "reasoning": {"effort": None, "summary": "auto"}}
STARTED = {"turn_id": "t_" + "0" * 26, "session_id": "s", "model": "m", "created": 1_000}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def call(index: int, **function: str) -> bytes:
    body = {"index": index, "function": function, **({"id": f"c{index}"} if "name" in function else {})}
    return events.structured(events.TOOL_CALL, body)


BODIES: dict[str, list[bytes]] = {
    "text": [events.delta("Hel"), events.delta("lo\n\u2028"), events.delta("!")],
    "thoughts first": [events.reasoning("Hm"), events.reasoning("."), events.delta("Hello")],
    "thoughts between": [events.delta("He"), events.reasoning("Hm"), events.delta("llo")],
    "calls": [
        events.delta("Let me see."),
        call(0, name="a"),
        call(0, arguments='{"x"'),
        call(0, arguments=":1}"),
        call(1, name="b", arguments="{}"),
    ],
    "a call that goes on late": [call(0, name="a", arguments="{"), call(1, name="b"), call(0, arguments="}")],
    "a name in pieces": [call(0, name="get_"), call(0, name="weather", arguments="{}")],
    "begun again": [
        events.structured(events.RESTARTED, {"attempt": 2}),
        events.delta("Hello"),
    ],
    "nothing": [],
}
ENDS = {
    "completed": events.structured(events.COMPLETED, {"finish_reason": "stop", "usage": USAGE}),
    "incomplete": events.structured(events.COMPLETED, {"finish_reason": "length", "usage": USAGE}),
    "cancelled": events.structured(events.STOPPED, {"finish_reason": "stop", "usage": USAGE}),
    "failed": events.structured(events.FAILED, {"code": "upstream_timeout", "message": "Slow."}),
}


def log(body: list[bytes], end: bytes) -> list[Event]:
    first = events.structured(events.STARTED, STARTED), events.structured(events.ATTEMPT, {"attempt": 1})
    return [Event(i + 1, payload) for i, payload in enumerate([*first, *body, end])]


def told(found: list[Event], after: int | None = None) -> list[bytes]:
    encoder = ResponseStream(ECHO, after=after, holds=False)
    return b"".join([encoder.encode(event) for event in found]).split(b"\n\n")[:-1]


@pytest.mark.parametrize(("body", "end"), list(itertools.product(BODIES, ENDS)))
def test_first_part_and_rest_are_the_whole_wherever_it_is_cut(body: str, end: str) -> None:
    whole = told(log(BODIES[body], ENDS[end]))
    assert whole[-1] == b"data: [DONE]"
    parsed = [orjson.loads(frame.partition(b"\ndata: ")[2]) for frame in whole[:-1]]
    numbers = [one["sequence_number"] for one in parsed]
    assert numbers == sorted(set(numbers))
    assert all(number % STEP < 8 for number in numbers)
    for i, number in enumerate(numbers):
        assert told(log(BODIES[body], ENDS[end]), number) == whole[i + 1 :]
    last = parsed[-1]["response"]
    assert last["status"] == end
    done = [one["item"] for one in parsed if one["type"] == "response.output_item.done"]
    added = [one["item"]["id"] for one in parsed if one["type"] == "response.output_item.added"]
    assert [item["id"] for item in last["output"]] == [item["id"] for item in done] == added
    assert len(set(added)) == len(added)
    late = body == "a call that goes on late"  # told as it was when it was closed
    assert (last["output"] == done) is not late
    for item in last["output"]:
        if item["type"] == "function_call":
            pieces = [one["delta"] for one in parsed if one.get("item_id") == item["id"] and "delta" in one]
            assert item["arguments"] == "".join(pieces)


def test_a_name_in_pieces_is_whole_when_the_call_is() -> None:
    whole = told(log(BODIES["a name in pieces"], ENDS["completed"]))
    parsed = {
        one["type"]: one for one in (orjson.loads(frame.partition(b"\ndata: ")[2]) for frame in whole[:-1])
    }
    assert parsed["response.function_call_arguments.done"]["name"] == "get_weather"
    assert parsed["response.output_item.done"]["item"]["name"] == "get_weather"
    assert parsed["response.completed"]["response"]["output"][0]["name"] == "get_weather"


def test_deltas_and_the_end_are_encoded_once_for_all_readers() -> None:
    found = log(BODIES["text"], ENDS["completed"])
    first = [ResponseStream(ECHO).encode(event) for event in found[:1]]
    one, two = ResponseStream(ECHO), ResponseStream(ECHO)
    pairs = [(one.encode(event), two.encode(event)) for event in found]
    assert all(a == b for a, b in pairs)
    assert all(a is b for a, b in pairs[3:])
    assert first[0] == pairs[0][0]


def test_the_frame_of_a_delta_has_these_bytes() -> None:
    frames = told(log([events.reasoning("Hm"), events.delta("a"), events.delta('"é\n')], ENDS["completed"]))
    item = f"_{'0' * 26}_s"
    assert (
        frames[4]
        == (
            "event: response.reasoning_summary_text.delta\n"
            f'data: {{"type":"response.reasoning_summary_text.delta","item_id":"rs{item}","output_index":0,'
            '"summary_index":0,"delta":"Hm","sequence_number":50}'
        ).encode()
    )
    assert (
        frames[11]
        == (
            "event: response.output_text.delta\n"
            f'data: {{"type":"response.output_text.delta","item_id":"msg{item}","output_index":1,'
            '"content_index":0,"logprobs":[],"delta":"\\"é\\n","sequence_number":80}'
        ).encode()
    )
