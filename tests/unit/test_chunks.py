"""Groq's stream decodes the same however it is cut, and every way to fail is an UpstreamError."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import UpstreamError
from service.upstream.base import REASONING, TEXT, TOOL, Batch
from service.upstream.chunks import Decoder


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    body = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def error_event(**error: Any) -> bytes:
    return b"event: error\ndata: " + json.dumps({"error": error}).encode() + b"\n\n"


TOOL_CALL = {"id": "fc_1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "index": 0}
USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11, "queue_time": 0.1}
WHOLE = (
    chunk({"role": "assistant", "content": ""}, x_groq={"id": "req_1"})
    + chunk({"reasoning": "Hm", "channel": "analysis"})
    + chunk({"content": "Bl\u2028ue "})
    + chunk({"content": "<sky> 👩‍👩‍👧\u0085"})
    + b": comment\n\n"
    + chunk({"tool_calls": [TOOL_CALL]})
    + chunk({}, "stop", x_groq={"id": "req_1", "usage": USAGE}, usage=USAGE)
    + b'data: {"choices":[],"usage":'
    + json.dumps(USAGE).encode()
    + b"}\n\n"
    + b"data: [DONE]\n\n"
)


def decode(parts: list[bytes]) -> tuple[list[tuple[str, Any]], Batch, Decoder]:
    decoder = Decoder()
    pieces: list[tuple[str, Any]] = []
    last = Batch()
    for part in parts:
        batch = decoder.feed(part)
        for kind, piece in batch.pieces:
            if pieces and pieces[-1][0] == kind != TOOL:
                pieces[-1] = (kind, pieces[-1][1] + piece)
            else:
                pieces.append((kind, piece))
        last.tokens += batch.tokens
        last.finish_reason = batch.finish_reason or last.finish_reason
        last.usage = batch.usage or last.usage
    decoder.end()
    return pieces, last, decoder


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_the_answer_is_the_same_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    pieces, last, decoder = decode([WHOLE[a:b] for a, b in itertools.pairwise(edges)])
    assert pieces == [(REASONING, "Hm"), (TEXT, "Bl\u2028ue <sky> 👩‍👩‍👧\u0085"), (TOOL, TOOL_CALL)]
    assert (last.tokens, last.finish_reason) == (4, "stop")
    assert last.usage == {"prompt_tokens": 7, "completion_tokens": 4}
    assert (decoder.done, decoder.said) == (True, {"id": "req_1", "times": {"queue_time": 0.1}})


@pytest.mark.parametrize(("name", "kind"), [("content", TEXT), ("reasoning", REASONING)])
@pytest.mark.parametrize("alike", [1, 4], ids=["decoded as JSON", "cut out as bytes"])
def test_a_nul_is_replaced_since_no_later_send_could_carry_it(name: str, kind: str, alike: int) -> None:
    pieces, _, _ = decode([chunk({name: "a\x00b"}) * alike + chunk({}, "stop")])
    assert pieces == [(kind, "a\ufffdb" * alike)]


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=30)


@given(TEXTS, st.booleans(), st.lists(st.integers(0, 10_000), max_size=12), st.integers(0, 30))
def test_tokens_that_differ_in_their_text_only_are_the_same_as_one_by_one(
    texts: list[str], ascii_only: bool, cuts: list[int], other: int
) -> None:
    def token(kind: str, text: str) -> bytes:
        body = {"id": "c", "choices": [{"index": 0, "delta": {kind: text}, "finish_reason": None}]}
        written = json.dumps(body, ensure_ascii=ascii_only, separators=(",", ":"))  # else nothing is alike
        return b"data: " + written.encode() + b"\n\n"

    events = [token("reasoning" if place < other else "content", text) for place, text in enumerate(texts)]
    events.insert(min(other, len(events)), b": comment\n\n")
    stream = b"".join(events) + chunk({"content": "!"}, "stop") + b"data: [DONE]\n\n"
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    pieces, last, decoder = decode([stream[a:b] for a, b in itertools.pairwise(edges)])
    said = [text.replace("\x00", "\ufffd") for text in texts]
    reasoning, text = "".join(said[:other]), "".join(said[other:]) + "!"
    assert pieces == [(kind, piece) for kind, piece in ((REASONING, reasoning), (TEXT, text)) if piece]
    assert last.tokens == sum(map(bool, texts)) + 1
    assert (last.finish_reason, decoder.done) == ("stop", True)


@pytest.mark.parametrize("behind", [chunk({"content": " more"}), b"data: {not json}\n\n", b"<html>\n\n"])
def test_nothing_behind_the_end_is_of_the_answer(behind: bytes) -> None:
    stream = chunk({"content": "whole"}) + chunk({}, "stop") + b"data: [DONE]\n\n" + behind
    pieces, last, decoder = decode([stream])
    assert (pieces, last.finish_reason, decoder.done) == ([(TEXT, "whole")], "stop", True)


@pytest.mark.parametrize(
    "middle",
    [b"\xff", b"\x00", b'a"b', b'"}}],"error":{"message":"over"},"x":[{"y":{"z":"'],
    ids=["not UTF-8", "a control character", "a bare quote", "an error in the same frame"],
)
def test_a_garbled_token_among_sound_ones_fails_the_attempt(middle: bytes) -> None:
    sound = chunk({"content": "sound"})
    with pytest.raises(UpstreamError):
        decode([sound * 3, sound * 2 + sound.replace(b"sound", middle) + sound * 2, chunk({}, "stop")])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (chunk({"content": "x"}), "cut"),
        (chunk({"content": "x"}) + b"data: [DONE]\n\n", "cut"),
        (b"", "cut"),
        (chunk({"content": "x"}) + b'data: {"choices":[{"del', "garbled"),
        (b"data: {not json}\n\n", "garbled"),
        (b"data: \xff\xfe\n\n", "garbled"),
        (b"<html>bad gateway</html>\n\n", "garbled"),
        (b'data: {"choices":"no"}\n\n', "garbled"),
        (chunk({"content": 5}), "garbled"),
        (b'data: {"error":{"message":"boom","type":"internal_server_error"}}\n\n', "server_error"),
        (error_event(message="m", code="tool_use_failed", status_code=400), "bad_output"),
        (chunk({}, x_groq={"id": "r", "error": "over capacity"}), "server_error"),
        (
            error_event(
                message="on tokens per day (TPD): Limit 1. Please try again in 2m59.5s.",
                code="rate_limit_exceeded",
                status_code=429,
            ),
            "limit_tpd",
        ),
    ],
)
def test_every_failure_inside_a_stream_is_recognised(data: bytes, kind: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        decode([data])
    assert caught.value.kind == kind
    if kind == "limit_tpd":
        assert caught.value.retry_after == pytest.approx(179.5)


def test_each_token_of_a_read_is_counted() -> None:
    def token(text: str) -> bytes:  # as Groq writes it, without spaces
        return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()

    decoder = Decoder()
    batch = decoder.feed(b"".join(map(token, "abcdef")))
    assert (batch.pieces, batch.tokens) == ([(TEXT, "abcdef")], 6)
    assert decoder.feed(b"".join(map(token, "ghi"))).tokens == 3


# One stream, as four kinds of servers and proxies end its lines, with a BOM and an event in several lines.
SPREAD = WHOLE.replace(b', "choices"', b',\ndata: "choices"', 2).replace(
    b"data: {", b"id: 7\nfoo: bar\ndata:{", 3
)
SHAPED = {
    "LF": SPREAD,
    "CRLF": SPREAD.replace(b"\n", b"\r\n"),
    "CR": SPREAD.replace(b"\n", b"\r"),
    "BOM": b"\xef\xbb\xbf" + SPREAD.replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("shape", SHAPED)
def test_a_recorded_stream_is_the_same_cut_at_every_byte(shape: str) -> None:
    stream = SHAPED[shape]
    for cut in range(len(stream) + 1):
        pieces, last, decoder = decode([stream[:cut], stream[cut:]])
        assert pieces == [(REASONING, "Hm"), (TEXT, "Bl\u2028ue <sky> 👩‍👩‍👧\u0085"), (TOOL, TOOL_CALL)], cut
        assert (last.tokens, last.finish_reason, decoder.done) == (4, "stop", True), cut
        assert last.usage == {"prompt_tokens": 7, "completion_tokens": 4}, cut


@pytest.mark.parametrize("shape", SHAPED)
def test_and_byte_by_byte(shape: str) -> None:
    pieces, last, _ = decode([bytes([byte]) for byte in SHAPED[shape]])
    assert pieces == [(REASONING, "Hm"), (TEXT, "Bl\u2028ue <sky> 👩‍👩‍👧\u0085"), (TOOL, TOOL_CALL)]
    assert (last.tokens, last.finish_reason) == (4, "stop")


def test_nulls_where_something_could_be_are_nothing() -> None:
    nulls = (
        b'data: {"choices":null,"usage":null,"x_groq":null,"error":null}\n\n'
        b'data: {"choices":[{"index":0,"delta":null,"finish_reason":null}]}\n\n'
        b'data: {"choices":[{"delta":{"content":null,"reasoning":null,"tool_calls":null}}]}\n\n'
    )
    pieces, last, _ = decode([nulls + chunk({"content": "x"}) + nulls + chunk({}, "stop")])
    assert (pieces, last.tokens, last.finish_reason) == ([(TEXT, "x")], 1, "stop")


def test_of_several_choices_only_the_one_that_was_asked_for_is_taken() -> None:
    def two(first: dict[str, Any], second: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps({"choices": [first, second]}).encode() + b"\n\n"

    ours, other = {"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}
    assert decode([two(other, ours) + chunk({}, "stop")])[0] == [(TEXT, "a")]
    for unclear in (two(ours, ours), two({"delta": {"content": "a"}}, {"delta": {"content": "b"}})):
        with pytest.raises(UpstreamError):
            decode([unclear + chunk({}, "stop")])


def test_of_partial_usages_each_tells_what_it_knows() -> None:
    stream = (
        chunk({"content": "x"}, usage={"prompt_tokens": 7})
        + chunk({}, "stop", usage={"completion_tokens": 4, "prompt_tokens": None})
        + b"data: [DONE]\n\n"
    )
    assert decode([stream])[1].usage == {"prompt_tokens": 7, "completion_tokens": 4}


def test_a_field_of_the_format_s_future_is_ignored_and_a_torn_token_is_not() -> None:
    assert decode([b"trace: a7\n" + chunk({"content": "x"}) + chunk({}, "stop")])[0] == [(TEXT, "x")]
    for torn in (b'he said: hello"}}]}\n\n', b'said: hello"}}]}\n\n', b"Bad gateway\n\n"):
        with pytest.raises(UpstreamError):
            decode([torn + chunk({}, "stop")])


# Tool calls


def call(arguments: str | None = None, *, name: str | None = None, **given: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {**given, "function": {key: value for key, value in function.items() if value is not None}}


def calls_of(*deltas: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and arguments of each call, put together by index as clients do."""
    stream = b"".join(chunk({"tool_calls": [delta]}) for delta in deltas) + chunk({}, "tool_calls")
    found: dict[int, list[str]] = {}
    for _, delta in decode([stream])[0]:
        parts = found.setdefault(delta["index"], ["", ""])
        parts[0] += delta["function"].get("name", "")
        parts[1] += delta["function"].get("arguments", "")
    return [(name, arguments) for name, arguments in found.values()]


TWO = [("f", '{"a":1}'), ("g", "{}")]


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([call('{"a":1}', name="f", index=0, id="1"), call("{}", name="g", index=1, id="2")], TWO),
        ([call('{"a":1}', name="f", id="1"), call("{}", name="g", id="2")], TWO),
        ([call('{"a":1}', name="f", index=0, id="1"), call("{}", name="g", index=0, id="2")], TWO),
        ([call('{"a":1}', name="f"), call("{}", name="g")], TWO),
        ([call('{"a":1}', name="f", index=0), call("{}", name="g", index=0)], TWO),
        (
            [
                call("", name="f", id="1"),
                call('{"a":', id="1"),
                call("1}", id="1"),
                call("{}", name="g", id="2"),
            ],
            TWO,
        ),
        (
            [call("", name="f", id="1"), call('{"a":'), call("1}"), call("", name="g", id="2"), call("{}")],
            TWO,
        ),
        (
            [
                call("", name="f", index=0, id="1"),
                call("", name="g", index=1, id="2"),
                call('{"a":1}', index=0),
                call("{}", index=1),
            ],
            TWO,
        ),
        ([call('{"a"', name="f", index=0, id="1"), call(":1}", name="f", index=0, id="1")], TWO[:1]),
        ([call('{"a"', name="f", index=0, id="1"), call(":1}", index=0, id="another each time")], TWO[:1]),
        ([call('{"a"', name="f", index=0), call(":1}", name="f", index=0)], TWO[:1]),
        ([call(None, name="f", index=0), call('{"a":1}', index=0, id="late")], TWO[:1]),
        ([{"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}], TWO[:1]),
        ([{"id": "1", "index": None, "function": {"name": "f", "arguments": None}}], [("f", "")]),
        ([call("", name="f", id="1"), call("", name="g", id="2")], [("f", ""), ("g", "")]),
    ],
)
def test_tool_calls_are_told_apart_by_what_is_certain(
    deltas: list[dict[str, Any]], expected: list[tuple[str, str]]
) -> None:
    assert calls_of(*deltas) == expected


@pytest.mark.parametrize(
    "deltas",
    [
        [call('{"a"', name="f"), call('{"b"', name="g"), call(":1}"), call(":2}")],
        [call('{"a"', name="f", id="1"), call('{"b"', name="f", id="2")],
        [
            call('{"a":1}', name="f", index=0, id="1"),
            call('{"b"', name="g", index=0, id="2"),
            call('{"c":1}', index=0, id="3"),
        ],
        [call('{"a":1}', name="f"), call('{"b":2}')],
        [call("{}", name="f", id="1"), call("{}", name="f", id="1")],
        [call("{}", name="f", index=0), call("", name="f", index=0)],
        [call('{"a"', name="f", index=0), call('{"b"', name="g", index=0)],
        [call("{}")],
        [call("{}", id="1")],
        [call("{}", name="f", index="0")],
        [call("{}", name="f", index=-1)],
        [call("{}", name="f", index=1_000_000_000)],
        [{"index": 0, "function": "f"}],
        [{"index": 0, "id": 5, "function": {"name": "f"}}],
        [{"index": 0, "function": {"name": "f", "arguments": 5}}],
    ],
)
def test_what_could_be_of_two_calls_fails_the_attempt(deltas: list[dict[str, Any]]) -> None:
    with pytest.raises(UpstreamError) as caught:
        calls_of(*deltas)
    assert caught.value.kind == "garbled"


def test_of_a_call_only_what_is_one_is_told() -> None:
    delta = {"id": "1", "type": 5, "index": 0, "x": 10**30, "function": {"name": "f", "arguments": "{}"}}
    more = {"index": 0, "x": 10**30, "function": {"arguments": ""}}
    stream = chunk({"tool_calls": [delta, more]}) + chunk({}, "tool_calls")
    assert decode([stream])[0] == [
        (TOOL, {"id": "1", "function": {"name": "f", "arguments": "{}"}, "index": 0}),
        (TOOL, {"function": {"arguments": ""}, "index": 0}),
    ]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x" * 99_999},
        {"tool_calls": [call("x" * 99_999, index=0)]},
    ],
)
def test_an_answer_that_never_ends_fails_before_it_fills_the_store(delta: dict[str, Any]) -> None:
    decoder = Decoder()
    decoder.feed(chunk({"tool_calls": [call("", name="f", index=0, id="1")]}))
    said = 0
    while decoder.failure is None and said < 100:
        decoder.feed(chunk(delta))
        said += 1
    assert said == 42  # 4 MiB
    with pytest.raises(UpstreamError) as caught:
        decoder.end()
    assert caught.value.kind == "garbled"


def test_a_call_whose_name_and_id_fill_the_store_is_none() -> None:
    decoder = Decoder()
    decoder.feed(chunk({"tool_calls": [call("{}", name="x" * 3_000_000, index=0, id="y" * 3_000_000)]}))
    assert decoder.failure is not None
    assert decoder.failure.kind == "garbled"


def test_what_a_stream_says_besides_is_kept_where_it_is_what_it_should_be() -> None:
    decoder = Decoder()
    decoder.feed(
        chunk({"role": "assistant"}, x_groq={"id": "req_1", "seed": 7}, system_fingerprint="fp", model="m2")
    )
    times = {"queue_time": -1, "prompt_time": 0.5, "completion_time": "x", "total_time": 1e9}
    usage = {"prompt_tokens": 7, "completion_tokens": 4, **times}
    batch = decoder.feed(chunk({}, "length", usage=usage, service_tier="on_demand", model="m3"))
    assert (batch.finish_reason, batch.model) == ("length", "m3")
    assert decoder.said == {
        "id": "req_1",
        "seed": 7,
        "system_fingerprint": "fp",
        "service_tier": "on_demand",
        "times": {"prompt_time": 0.5},
    }


def test_a_call_that_came_without_an_id_is_given_one_that_its_result_can_name() -> None:
    [(_, found)] = Decoder().feed(chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]})).pieces
    assert found["id"]
    assert isinstance(found["id"], str)
