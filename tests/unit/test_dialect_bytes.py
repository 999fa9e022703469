"""The exact bytes of every dialect for the same small logs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service import events
from service.dialects.aisdk import AiSdkEncoder, Cursor
from service.dialects.base import Encoder
from service.dialects.native import NativeEncoder
from service.dialects.openai import CompletionEncoder, StreamEncoder
from service.dialects.text import TextEncoder
from service.errors import BrokenAnswer, ServiceError
from service.events import Event

TURN = "t_1"
STARTED = events.structured(
    events.STARTED, {"turn_id": TURN, "session_id": "s", "model": "m", "created": 1_790_000_000_123}
)
ATTEMPT = events.structured(events.ATTEMPT, {"attempt": 1, "model": "m"})
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
COMPLETED = events.structured(events.COMPLETED, {"finish_reason": "stop", "usage": USAGE})
STOPPED = events.structured(events.STOPPED, {"finish_reason": "stop", "usage": USAGE})
RESTARTED = events.structured(events.RESTARTED, {"attempt": 2})
FAILED = events.structured(
    events.FAILED,
    {"code": "upstream_rate_limited", "message": "The model is busy.", "retryable": True, "retry_after": 6.2},
)
CALL = {"index": 0, "id": "fc_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}


def encoded(encoder: Encoder, *payloads: bytes) -> str:
    log = [Event(number, payload) for number, payload in enumerate(payloads, 1)]
    return b"".join(encoder.encode(event) for event in log).decode()


ANSWER = (STARTED, ATTEMPT, events.reasoning("Hm"), events.delta("Hé\n"), events.delta('"x"'), COMPLETED)


def test_text() -> None:
    assert encoded(TextEncoder(), *ANSWER) == 'Hé\n"x"'


def test_native() -> None:
    assert encoded(NativeEncoder(), *ANSWER) == (
        "event: turn.started\n"
        'data: {"turn_id":"t_1","session_id":"s","model":"m","created":1790000000123}\n'
        "id: 1\n\n"
        'event: attempt.started\ndata: {"attempt":1,"model":"m"}\nid: 2\n\n'
        'event: reasoning\ndata: {"text":"Hm"}\nid: 3\n\n'
        'event: delta\ndata: {"text":"Hé\\n"}\nid: 4\n\n'
        'event: delta\ndata: {"text":"\\"x\\""}\nid: 5\n\n'
        "event: turn.completed\n"
        'data: {"finish_reason":"stop","usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n'
        "id: 6\n\n"
    )


def test_native_readers_are_told_nothing_of_what_the_provider_said_to_us() -> None:
    for name, body in (
        (events.FAILED, {"code": "upstream_rejected", "message": "No.", "retryable": False}),
        (events.COMPLETED, {"finish_reason": "stop", "usage": USAGE}),
    ):
        said = events.structured(name, events.with_provider(body, {"id": "req_1", "failed_generation": "x"}))
        assert encoded(NativeEncoder(), said) == encoded(NativeEncoder(), events.structured(name, body))


HEAD = '"id":"chatcmpl-t_1","object":"chat.completion.chunk","created":1790000000,"model":"m"'
USAGE_JSON = '{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}'


def chunk(delta: str, finish: str = "null", tail: str = "") -> str:
    return (
        f'data: {{{HEAD},"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]'
        f"{tail}}}\n\n"
    )


ENDING = chunk("{}", '"stop"', f',"x_groq":{{"id":"req_t_1","usage":{USAGE_JSON}}}')
ROLE = chunk('{"role":"assistant","content":""}')


def test_openai_stream() -> None:
    whole = (
        ROLE
        + chunk('{"reasoning":"Hm"}')
        + chunk('{"content":"Hé\\n"}')
        + chunk('{"content":"\\"x\\""}')
        + ENDING
    )
    usage = f'data: {{{HEAD},"choices":[],"usage":{USAGE_JSON}}}\n\n'
    assert encoded(StreamEncoder(), *ANSWER) == whole + "data: [DONE]\n\n"
    assert encoded(StreamEncoder(include_usage=True), *ANSWER) == whole + usage + "data: [DONE]\n\n"
    hidden = whole.replace(chunk('{"reasoning":"Hm"}'), "")
    assert encoded(StreamEncoder(reasoning=False), *ANSWER) == hidden + "data: [DONE]\n\n"


def test_openai_tool_call() -> None:
    call = '{"index":0,"id":"fc_1","type":"function","function":{"name":"look","arguments":"{\\"a\\":1}"}}'
    ended = events.structured(events.COMPLETED, {"finish_reason": "tool_calls", "usage": USAGE})
    log = (STARTED, events.structured(events.TOOL_CALL, CALL), ended)
    assert encoded(StreamEncoder(), *log) == (
        chunk('{"role":"assistant"}')
        + chunk(f'{{"tool_calls":[{call}]}}')
        + ENDING.replace('"finish_reason":"stop"', '"finish_reason":"tool_calls"')
        + "data: [DONE]\n\n"
    )


def test_openai_failure_in_mid_stream_is_an_error_object_and_no_done() -> None:
    assert encoded(StreamEncoder(), STARTED, events.delta("a"), FAILED) == (
        ROLE
        + chunk('{"content":"a"}')
        + 'data: {"error":{"message":"The model is busy.","type":"rate_limit_error","param":null,'
        '"code":"upstream_rate_limited"}}\n\n'
    )


def test_openai_stop_before_the_first_delta_is_an_empty_answer() -> None:
    assert encoded(StreamEncoder(), STARTED, STOPPED) == ROLE + ENDING + "data: [DONE]\n\n"


def test_openai_completion() -> None:
    assert encoded(CompletionEncoder(), *ANSWER) == (
        '{"id":"chatcmpl-t_1","object":"chat.completion","created":1790000000,"model":"m","choices":'
        '[{"index":0,"message":{"role":"assistant","content":"Hé\\n\\"x\\"","reasoning":"Hm"},'
        f'"logprobs":null,"finish_reason":"stop"}}],"usage":{USAGE_JSON},"x_groq":{{"id":"req_t_1"}}}}'
    )


def test_openai_completion_joins_the_parts_of_tool_calls() -> None:
    parts: list[dict[str, Any]] = [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": '{"a"'}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "see", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": ":1}"}},
    ]
    log = (STARTED, *(events.structured(events.TOOL_CALL, part) for part in parts), COMPLETED)
    message = json.loads(encoded(CompletionEncoder(), *log))["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}},
            {"id": "b", "type": "function", "function": {"name": "see", "arguments": "{}"}},
        ],
    }


def chunks(*pairs: tuple[str, str]) -> str:
    return "".join(f"data: {data}\nid: t_1.{number}\n\n" for number, data in pairs)


START = (
    (
        "1.0",
        '{"type":"start","messageId":"m_1","messageMetadata":'
        '{"turnId":"t_1","state":"running","model":"m","createdAt":1790000000123}}',
    ),
    ("1.1", '{"type":"start-step"}'),
)


def ended(
    state: str, reason: str, usage: str = ',"usage":{"inputTokens":7,"outputTokens":3,"totalTokens":10}'
) -> str:
    return f'{{"state":"{state}","finishReason":"{reason}","model":"m"{usage}}}'


METADATA = ended("completed", "stop")


def test_aisdk() -> None:
    assert encoded(AiSdkEncoder(TURN), *ANSWER) == chunks(
        *START,
        ("3.0", '{"type":"reasoning-start","id":"reasoning-3"}'),
        ("3.1", '{"type":"reasoning-delta","id":"reasoning-3","delta":"Hm"}'),
        ("4.0", '{"type":"reasoning-end","id":"reasoning-3"}'),
        ("4.1", '{"type":"text-start","id":"text-4"}'),
        ("4.2", '{"type":"text-delta","id":"text-4","delta":"Hé\\n"}'),
        ("5.0", '{"type":"text-delta","id":"text-4","delta":"\\"x\\""}'),
        ("6.0", '{"type":"text-end","id":"text-4"}'),
        ("6.1", '{"type":"finish-step"}'),
        ("6.2", f'{{"type":"finish","finishReason":"stop","messageMetadata":{METADATA}}}'),
        ("6.3", "[DONE]"),
    )


def test_aisdk_tool_call() -> None:
    end = events.structured(events.COMPLETED, {"finish_reason": "tool_calls", "usage": USAGE})
    log = (STARTED, events.delta("a"), events.structured(events.TOOL_CALL, CALL), end)
    calls = ended("completed", "tool-calls")
    assert encoded(AiSdkEncoder(TURN), *log) == chunks(
        *START,
        ("2.0", '{"type":"text-start","id":"text-2"}'),
        ("2.1", '{"type":"text-delta","id":"text-2","delta":"a"}'),
        ("3.0", '{"type":"text-end","id":"text-2"}'),
        ("3.1", '{"type":"tool-input-start","toolCallId":"fc_1","toolName":"look"}'),
        ("3.2", '{"type":"tool-input-delta","toolCallId":"fc_1","inputTextDelta":"{\\"a\\":1}"}'),
        ("4.0", '{"type":"tool-input-available","toolCallId":"fc_1","toolName":"look","input":{"a":1}}'),
        ("4.1", '{"type":"finish-step"}'),
        ("4.2", f'{{"type":"finish","finishReason":"tool-calls","messageMetadata":{calls}}}'),
        ("4.3", "[DONE]"),
    )


def test_aisdk_failure_closes_the_text_and_says_when_to_try_again() -> None:
    assert encoded(AiSdkEncoder(TURN), STARTED, events.delta("a"), FAILED) == chunks(
        *START,
        ("2.0", '{"type":"text-start","id":"text-2"}'),
        ("2.1", '{"type":"text-delta","id":"text-2","delta":"a"}'),
        ("3.0", '{"type":"text-end","id":"text-2"}'),
        ("3.1", f'{{"type":"message-metadata","messageMetadata":{ended("failed", "error", "")}}}'),
        ("3.2", '{"type":"error","errorText":"The model is busy; try again in 7 s."}'),
        ("3.3", "[DONE]"),
    )


def test_aisdk_stop_closes_the_text_before_the_abort() -> None:
    assert encoded(AiSdkEncoder(TURN), STARTED, events.delta("a"), STOPPED) == chunks(
        *START,
        ("2.0", '{"type":"text-start","id":"text-2"}'),
        ("2.1", '{"type":"text-delta","id":"text-2","delta":"a"}'),
        ("3.0", '{"type":"text-end","id":"text-2"}'),
        ("3.1", f'{{"type":"message-metadata","messageMetadata":{ended("stopped", "stop")}}}'),
        ("3.2", '{"type":"abort"}'),
        ("3.3", "[DONE]"),
    )


TWICE = (STARTED, events.delta("void"), RESTARTED, events.delta("good"), COMPLETED)


def test_aisdk_restart_resets_the_step_for_clients_that_know_how() -> None:
    assert encoded(AiSdkEncoder(TURN, resets=True), *TWICE) == chunks(
        *START,
        ("2.0", '{"type":"text-start","id":"text-2"}'),
        ("2.1", '{"type":"text-delta","id":"text-2","delta":"void"}'),
        ("3.0", '{"type":"reset-step"}'),
        ("4.0", '{"type":"text-start","id":"text-4"}'),
        ("4.1", '{"type":"text-delta","id":"text-4","delta":"good"}'),
        ("5.0", '{"type":"text-end","id":"text-4"}'),
        ("5.1", '{"type":"finish-step"}'),
        ("5.2", f'{{"type":"finish","finishReason":"stop","messageMetadata":{METADATA}}}'),
        ("5.3", "[DONE]"),
    )


@pytest.mark.parametrize("encoder", [TextEncoder(), AiSdkEncoder(TURN)])
def test_a_restart_breaks_the_stream_of_who_was_shown_something_else(encoder: Encoder) -> None:
    with pytest.raises(BrokenAnswer):
        encoded(encoder, *TWICE)


def test_a_restart_is_openais_error_form() -> None:
    encoder = StreamEncoder()
    with pytest.raises(ServiceError) as raised:
        encoded(encoder, *TWICE)
    assert encoder.failed(raised.value) == (
        b'data: {"error":{"message":"The answer was begun again; send the request again.",'
        b'"type":"server_error","param":null,"code":"upstream_unavailable"}}\n\n'
    )


@pytest.mark.parametrize(
    ("encoder", "text"),
    [
        (TextEncoder(), "good"),
        (StreamEncoder(), ROLE + chunk('{"content":"good"}') + ENDING + "data: [DONE]\n\n"),
    ],
)
def test_a_restart_that_took_nothing_back_is_not_seen(encoder: Encoder, text: str) -> None:
    assert encoded(encoder, STARTED, RESTARTED, events.delta("good"), COMPLETED) == text


@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize("log", [ANSWER, TWICE, (STARTED, events.delta("a"), STOPPED)])
def test_aisdk_goes_on_exactly_behind_any_chunk(log: tuple[bytes, ...], resets: bool) -> None:
    """Every cut point, but those before a restart for clients that cannot take text back."""
    frames = encoded(AiSdkEncoder(TURN, resets=True), *log).split("\n\n")[:-1]
    for i, frame in enumerate(frames):
        cursor = Cursor.parse(frame.rpartition("id: ")[2])
        if not resets and log is TWICE and cursor.seq < 3:
            continue
        rest = encoded(AiSdkEncoder(TURN, after=cursor, resets=resets), *log)
        assert rest.split("\n\n")[:-1] == frames[i + 1 :]


@pytest.mark.parametrize(
    ("cursor", "resets", "first"),
    [("t_1.1.1", False, "4.0"), ("t_1.1.1", True, "4.0"), ("t_1.2.0", True, "3.0"), ("t_1.3.0", True, "4.0")],
)
def test_aisdk_spares_who_comes_back_the_text_before_a_known_restart(
    cursor: str, resets: bool, first: str
) -> None:
    encoder = AiSdkEncoder(TURN, after=Cursor.parse(cursor), resets=resets)
    log = [Event(number, payload) for number, payload in enumerate(TWICE, 1) if number != 2]
    data = b"".join(encoder.encode(event) for event in log).decode()
    assert data.split("\n\n")[0].partition("id: ")[2] == f"t_1.{first}"
    assert "void" not in data


@pytest.mark.parametrize(
    "value", ["", "1", "t_1", "t_1.1", "t_1.a.1", "t_1.1.1.1", "t_1.-1.0", "t_1.1.0 ", "x.1.1", "t_1.٣.1"]
)
def test_aisdk_refuses_what_is_no_chunk_id(value: str) -> None:
    with pytest.raises(ServiceError, match="Last-Event-ID"):
        Cursor.parse(value)


def test_no_dialect_ends_a_stream_with_an_event_it_does_not_know() -> None:
    future = events.structured("turn.praised", {"by": "all"})
    for encoder in (TextEncoder(), StreamEncoder(), CompletionEncoder(), AiSdkEncoder(TURN)):
        encoder.encode(Event(1, STARTED))
        assert encoder.encode(Event(2, future)) == b""
