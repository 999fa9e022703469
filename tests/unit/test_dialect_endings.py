"""How each dialect ends what is not a plain answer: failures, void text, thoughts that nobody asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from service import events
from service.dialects.aisdk import AiSdkEncoder
from service.dialects.base import Encoder
from service.dialects.native import NativeEncoder, session_frames
from service.dialects.openai import CompletionEncoder, StreamEncoder
from service.dialects.responses import STEP, ResponseObject, ResponseStream
from service.dialects.text import TextEncoder
from service.engine.session_watch import SessionEvent
from service.errors import BrokenAnswer, ServiceError, StoreUnavailable
from service.events import Event

TURN = "t_" + "0" * 26
STARTED = events.structured(
    events.STARTED, {"turn_id": TURN, "session_id": "s", "model": "m", "created": 1_790_000_000_123}
)
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
ENDED = {"finish_reason": "stop", "usage": USAGE}
COMPLETED = events.structured(events.COMPLETED, ENDED)
FAILED = events.structured(events.FAILED, {"code": "upstream_timeout", "message": "Slow.", "usage": USAGE})
RESTARTED = events.structured(events.RESTARTED, {"attempt": 2})
CALL = events.structured(
    events.TOOL_CALL, {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
)


def encoded(encoder: Encoder, *payloads: bytes) -> str:
    log = [Event(number, payload) for number, payload in enumerate(payloads, 1)]
    return b"".join(encoder.encode(event) for event in log).decode()


def whole(encoder: Encoder, *payloads: bytes) -> Any:
    return json.loads(encoded(encoder, *payloads))


def test_thoughts_are_no_text_that_could_be_shown() -> None:
    thought, word = Event(2, events.reasoning("Hm")), Event(3, events.delta("a"))
    assert [TextEncoder().shows(one) for one in (thought, word)] == [False, True]
    assert [StreamEncoder(reasoning=False).shows(one) for one in (thought, word)] == [False, True]


@pytest.mark.parametrize("encoder", [TextEncoder(), CompletionEncoder(), ResponseObject({})])
def test_a_failed_answer_in_one_piece_breaks_its_connection(encoder: Encoder) -> None:
    with pytest.raises(BrokenAnswer):
        encoded(encoder, STARTED, events.delta("a"), FAILED)


def test_an_empty_completion_is_an_empty_text_and_one_of_calls_has_none() -> None:
    def message(*payloads: bytes) -> Any:
        return whole(CompletionEncoder(), STARTED, *payloads, COMPLETED)["choices"][0]["message"]

    assert message()["content"] == ""
    assert message(CALL)["content"] is None


def test_thoughts_that_were_not_asked_for_are_not_in_a_completion() -> None:
    for kept in (True, False):
        found = whole(CompletionEncoder(reasoning=kept), STARTED, events.reasoning("Hm"), COMPLETED)
        assert ("reasoning" in found["choices"][0]["message"]) is kept


def test_what_the_provider_said_besides_is_for_groq_s_clients_only() -> None:
    said = {"service_tier": "on_demand", "system_fingerprint": "fp"}
    end = events.structured(events.COMPLETED, events.with_provider(ENDED, said))
    assert "fp" not in encoded(NativeEncoder(), STARTED, end)
    assert whole(CompletionEncoder(), STARTED, end)["service_tier"] == "default"
    assert whole(CompletionEncoder(groq=True), STARTED, end)["service_tier"] == "on_demand"


SAID = {
    "id": "req_groq",
    "seed": 7,
    "service_tier": "on_demand",
    "system_fingerprint": "fp",
    "times": {"total_time": 0.5},
}
TIMED = {**USAGE, "total_time": 0.5}


@pytest.mark.parametrize(
    ("groq", "finish", "usage", "x_groq", "tier"),
    [
        (False, "length", USAGE, {"id": f"req_{TURN}"}, "default"),
        (True, "tool_calls", TIMED, {"id": "req_groq", "seed": 7}, "on_demand"),
    ],
)
def test_below_openai_groq_s_own_words_are_told_and_below_v1_what_openai_s_types_have(
    groq: bool, finish: str, usage: dict[str, Any], x_groq: dict[str, Any], tier: str
) -> None:
    end = events.structured(
        events.COMPLETED, events.with_provider({"finish_reason": finish, "usage": USAGE}, SAID)
    )
    found = whole(CompletionEncoder(groq=groq), STARTED, events.delta("a"), end)
    assert [found[name] for name in ("usage", "x_groq", "service_tier", "system_fingerprint")] == [
        usage,
        x_groq,
        tier,
        "fp",
    ]
    assert found["choices"][0]["finish_reason"] == finish
    data = encoded(StreamEncoder(groq=groq, include_usage=True), STARTED, events.delta("a"), end)
    *_, last, asked = [orjson.loads(one[6:]) for one in data.split("\n\n")[:-2]]
    assert last["choices"][0]["finish_reason"] == finish
    assert last["x_groq"] == {**x_groq, "usage": usage}
    assert last.get("usage") == (usage if groq else None)
    assert (asked["choices"], asked["usage"], asked["service_tier"]) == ([], usage, tier)


def test_a_failure_that_groq_told_is_told_to_its_clients_as_groq_tells_it() -> None:
    words = {"message": "Bad call.", "type": "invalid_request_error", "code": "tool_use_failed"}
    body = {"code": "upstream_rejected", "message": "No.", "retryable": False}
    end = events.structured(events.FAILED, events.with_provider(body, words))
    told = {"param": None, **words}
    groq = encoded(StreamEncoder(groq=True), STARTED, events.delta("a"), end).split("\n\n")[-2]
    assert groq.partition("\ndata: ")[0] == "event: error"
    assert json.loads(groq.partition("\ndata: ")[2]) == {"error": {**told, "status_code": 400}}
    other = encoded(StreamEncoder(), STARTED, events.delta("a"), end).split("\n\n")[-2]
    assert json.loads(other.removeprefix("data: ")) == {"error": told}


@pytest.mark.parametrize(
    ("encoder", "farewell"),
    [
        (TextEncoder(), None),
        (CompletionEncoder(), None),
        (ResponseObject({}), None),
        (AiSdkEncoder(TURN), None),
        (StreamEncoder(), '"code":"draining"'),
        (NativeEncoder(), ": this replica is shutting down, reconnect"),
    ],
)
def test_a_reader_of_a_replica_that_leaves_is_told_in_its_dialect_or_cut_off(
    encoder: Encoder, farewell: str | None
) -> None:
    told = encoder.reconnect()
    if farewell is None:
        assert told is None
    else:
        assert told is not None
        assert farewell in told.decode()


def test_native_readers_come_back_spread_over_half_a_second_to_one_and_a_half() -> None:
    encoder = NativeEncoder()
    for told in (encoder.opening(), encoder.reconnect()):
        waits = int(told.decode().rpartition("retry: ")[2])
        assert 500 <= waits <= 1_500


def test_a_quiet_stream_is_sent_what_no_client_takes_for_content() -> None:
    streams = (NativeEncoder(), StreamEncoder(), AiSdkEncoder(TURN), ResponseStream({}))
    assert all(one.heartbeat.startswith(b": ") and one.heartbeat.endswith(b"\n\n") for one in streams)
    assert [one.heartbeat for one in (CompletionEncoder(), ResponseObject({}))] == [b" ", b" "]
    assert TextEncoder().heartbeat == b""
    assert [one.media_type.partition(";")[0] for one in streams] == ["text/event-stream"] * 4
    assert NativeEncoder.headers == {"X-Accel-Buffering": "no"}
    assert AiSdkEncoder.headers == {"x-vercel-ai-ui-message-stream": "v1"}


async def test_what_happens_in_a_session_is_told_with_ids_to_come_back_with() -> None:
    async def found() -> AsyncIterator[SessionEvent | None]:
        yield SessionEvent("turn.started", {"turn_id": "t"}, 7)
        yield None
        yield SessionEvent("session.deleted", {}, 0)
        raise StoreUnavailable

    opening, *rest = [piece async for piece in session_frames(found())]
    assert opening.startswith(b"retry: ")
    assert rest == [
        b'event: turn.started\ndata: {"turn_id":"t"}\nid: 7\n\n',
        b": heartbeat\n\n",
        b"event: session.deleted\ndata: {}\n\n",
    ]


def test_tool_calls_of_void_text_are_not_told_again() -> None:
    data = encoded(AiSdkEncoder(TURN, resets=True), STARTED, CALL, RESTARTED, events.delta("a"), COMPLETED)
    assert data.count("tool-input-start") == 1
    assert "tool-input-available" not in data


def test_a_page_breaks_off_where_coming_back_may_help() -> None:
    encoder = AiSdkEncoder(TURN)
    assert encoder.failed(ServiceError("store_unavailable", "Away.")) is None
    told = encoder.failed(ServiceError("events_expired", "Gone."))
    assert told is not None
    assert b'"errorText":"Gone."' in told


def told(*payloads: bytes, after: int | None = None) -> list[dict[str, Any]]:
    data = encoded(ResponseStream({"store": True}, after=after, holds=False), *payloads)
    frames = [frame.partition("\ndata: ")[2] for frame in data.split("\n\n")]
    return [orjson.loads(frame) for frame in frames if frame.startswith("{")]


def test_a_response_begins_with_its_first_event_and_fails_with_an_error() -> None:
    found = told(STARTED, events.delta("a"), FAILED)
    assert [one["type"] for one in found][:2] == ["response.created", "response.in_progress"]
    assert found[0]["sequence_number"] == STEP
    assert [one["type"] for one in found][-2:] == ["error", "response.failed"]


def test_a_response_in_one_piece_is_the_sample_that_counts() -> None:
    found = whole(
        ResponseObject({}), STARTED, events.delta("void"), RESTARTED, events.delta("good"), COMPLETED
    )
    assert [item["content"][0]["text"] for item in found["output"]] == ["good"]
