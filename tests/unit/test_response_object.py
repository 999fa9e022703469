"""OpenAI's Response as an object: every field, every way in which it can stand, and how its stream ends."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest

from service import events
from service.dialects.responses import STEP, ResponseObject, ResponseStream
from service.dialects.responses_object import Ending, Named, failure, named, public_id, usage
from service.errors import ServiceError
from service.events import Event

TURN = "t_" + "0" * 26
STARTED = events.structured(
    events.STARTED, {"turn_id": TURN, "session_id": "s", "model": "m", "created": 1_790_000_000_999}
)
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
WORDS = (events.reasoning("Hm"), events.delta("Hello"))
ENDS = {
    "completed": events.structured(events.COMPLETED, {"finish_reason": "stop", "usage": USAGE}),
    "incomplete": events.structured(events.COMPLETED, {"finish_reason": "length", "usage": USAGE}),
    "cancelled": events.structured(events.STOPPED, {"finish_reason": "stop", "usage": USAGE}),
    "failed": events.structured(
        events.FAILED, {"code": "upstream_rate_limited", "message": "Busy.", "usage": USAGE}
    ),
}
ASKED: dict[str, Any] = {
    "background": True,
    "instructions": "Be brief.",
    "max_output_tokens": 9,
    "metadata": {"a": "b"},
    "parallel_tool_calls": False,
    "previous_response_id": "resp_0",
    "prompt_cache_key": "k",
    "reasoning": {"effort": "low", "summary": "auto"},
    "safety_identifier": "i",
    "store": False,
    "temperature": 0.5,
    "tool_choice": "none",
    "tools": [{"type": "function", "name": "f"}],
    "top_p": 0.25,
    "truncation": "auto",
    "user": "u",
}


def log(*payloads: bytes) -> list[Event]:
    return [Event(number, payload) for number, payload in enumerate((STARTED, *payloads), 1)]


def one_piece(echo: dict[str, Any], *payloads: bytes) -> dict[str, Any]:
    encoder = ResponseObject(echo)
    found: dict[str, Any] = orjson.loads(b"".join([encoder.encode(event) for event in log(*payloads)]))
    return found


def streamed(echo: dict[str, Any], *payloads: bytes) -> list[dict[str, Any]]:
    encoder = ResponseStream(echo)
    data = b"".join([encoder.encode(event) for event in log(*payloads)])
    bodies = [frame.partition(b"\ndata: ")[2] for frame in data.split(b"\n\n")]
    return [orjson.loads(body) for body in bodies if body.startswith(b"{")]


def test_a_response_repeats_all_that_it_was_asked_and_tells_all_that_it_came_to() -> None:
    own = {name: ASKED[name] for name in ASKED if name not in ("conversation", "format")}
    assert one_piece(
        {**ASKED, "conversation": "c", "format": {"type": "json_object"}}, *WORDS, ENDS["completed"]
    ) == {
        **own,
        "id": f"resp_{TURN[2:]}_s",
        "object": "response",
        "created_at": 1_790_000_000,
        "completed_at": None,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "max_tool_calls": None,
        "model": "m",
        "output": [
            {
                "id": f"rs_{TURN[2:]}_s",
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Hm"}],
                "status": "completed",
            },
            {
                "id": f"msg_{TURN[2:]}_s",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
            },
        ],
        "conversation": {"id": "c"},
        "service_tier": "default",
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": 0,
        "text": {"format": {"type": "json_object"}},
        "usage": {
            "input_tokens": 7,
            "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 12,
        },
    }


def test_what_was_not_asked_for_is_told_as_openai_s_default() -> None:
    found = one_piece({}, ENDS["completed"])
    nothing = {name: found[name] for name in ASKED}
    assert nothing == {
        **dict.fromkeys(ASKED),
        "background": False,
        "metadata": {},
        "parallel_tool_calls": True,
        "store": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
    }
    assert (found["conversation"], found["text"], found["output"]) == (None, {"format": {"type": "text"}}, [])
    assert usage(None) is None


@pytest.mark.parametrize(
    ("end", "kind", "item", "reason"),
    [
        ("completed", "response.completed", "completed", None),
        ("incomplete", "response.incomplete", "incomplete", "max_output_tokens"),
        ("cancelled", "response.incomplete", "incomplete", None),
        ("failed", "response.failed", "incomplete", None),
    ],
)
def test_each_end_has_its_event_its_status_and_that_of_the_item_it_cut(
    end: str, kind: str, item: str, reason: str | None
) -> None:
    found = streamed({}, *WORDS, ENDS[end])
    response = found[-1]["response"]
    assert (found[-1]["type"], response["status"]) == (kind, end)
    assert response["output"][-1]["status"] == item
    assert response["incomplete_details"] == ({"reason": reason} if reason else None)
    assert (response["error"] is not None) is (end == "failed")
    if end != "failed":  # which an answer in one piece tells by its connection
        alone = one_piece({}, *WORDS, ENDS[end])
        assert {**alone, "completed_at": None} == {**response, "completed_at": None}


@pytest.mark.parametrize(
    ("state", "finish", "told"),
    [
        ("queued", None, ("queued", "in_progress", None)),
        ("running", None, ("in_progress", "in_progress", None)),
        ("completed", "stop", ("completed", "completed", None)),
        ("completed", "tool_calls", ("completed", "completed", None)),
        ("completed", "length", ("incomplete", "incomplete", "max_output_tokens")),
        ("completed", "content_filter", ("incomplete", "incomplete", "content_filter")),
        ("stopped", "stop", ("cancelled", "incomplete", None)),
        ("failed", None, ("failed", "incomplete", None)),
    ],
)
def test_each_state_of_a_turn_is_one_of_a_response(state: str, finish: str | None, told: Any) -> None:
    found = Ending.of(state, finish)
    assert (found.status, found.item_status, found.incomplete) == told


@pytest.mark.parametrize(
    ("code", "told", "kind"),
    [
        ("upstream_rate_limited", "rate_limit_exceeded", "upstream_rate_limited"),
        ("upstream_rejected", "invalid_prompt", "upstream_rejected"),
        ("context_too_long", "invalid_prompt", "context_length_exceeded"),
        ("upstream_timeout", "server_error", "upstream_timeout"),
        ("internal", "server_error", "internal"),
    ],
)
def test_a_failure_has_a_code_that_openai_s_types_allow(code: str, told: str, kind: str) -> None:
    found = failure(ServiceError(code, "No."))
    assert (found["code"], found["type"]) == (told, kind)
    assert "No." in found["message"]


@pytest.mark.parametrize(
    ("kind", "number"), list(itertools.product(("resp", "msg", "rs", "fc", "fco"), (0, 1, 12)))
)
def test_an_id_names_its_session_and_its_turn_whichever_of_its_kind_it_is(kind: Any, number: int) -> None:
    assert named(public_id(kind, "a_b.c:d-1", TURN, number)) == Named(kind, TURN, "a_b.c:d-1")


def test_items_of_a_stream_are_numbered_in_order_and_each_has_an_id_of_its_own() -> None:
    found = streamed(
        {"reasoning": {"summary": "auto"}},
        events.delta("a"),
        events.reasoning("Hm"),
        events.delta("b"),
        events.reasoning("So"),
        ENDS["completed"],
    )
    added = [one for one in found if one["type"] == "response.output_item.added"]
    assert [one["output_index"] for one in added] == [0, 1, 2, 3]
    ids = [f"msg_{TURN[2:]}_s", f"rs_{TURN[2:]}_s", f"msg_{TURN[2:]}.1_s", f"rs_{TURN[2:]}.1_s"]
    assert [one["item"]["id"] for one in added] == ids
    assert [item["id"] for item in found[-1]["response"]["output"]] == ids


def test_an_error_that_ends_a_stream_has_a_number_above_all_that_was_told() -> None:
    encoder = ResponseStream({})
    for event in log(*WORDS):
        encoder.encode(event)
    told = encoder.failed(ServiceError("store_unavailable", "Away."))
    assert orjson.loads(told.partition(b"\ndata: ")[2])["sequence_number"] == 3 * STEP + STEP - 1


def test_a_replica_that_leaves_ends_a_background_stream_cleanly_and_fails_any_other() -> None:
    assert ResponseStream({"background": True}).reconnect() == b""
    told = ResponseStream({}).reconnect()
    assert told is not None
    assert b'"code":"draining"' in told
