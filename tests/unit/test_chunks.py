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
    assert last.usage == {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
    assert (decoder.done, decoder.upstream_id) == (True, "req_1")


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
        (error_event(message="on tokens per day (TPD): Limit 1. Please try again in 2m59.5s.",
                     code="rate_limit_exceeded", status_code=429), "limit_tpd"),
    ],
)  # fmt: skip
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
