"""Groq's stream at its edges: what is just too long, too strange, or too much alike."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import UpstreamError
from service.upstream import chunks
from service.upstream.base import REASONING, TEXT
from service.upstream.chunks import LONGEST_WORD, CallFacts, Decoder, keep_facts
from tests.unit.test_chunks import call, calls_of, chunk, decode


@pytest.mark.parametrize("said", [b'{"message":"over"}', b"over", b'{"choices":[]}', b"[]"])
@pytest.mark.parametrize("space", [b" ", b""])
def test_an_error_event_is_one_whatever_it_says(space: bytes, said: bytes) -> None:
    decoder = Decoder()
    with pytest.raises(UpstreamError):
        decoder.feed(b"event:%berror\ndata:%b%b\n\n" % (space, space, said))
    assert not decoder.finished


def test_an_event_without_an_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_MAX_EVENT_BYTES", 100)
    decoder = Decoder()
    decoder.feed(b"data: {" + b" " * 90)
    with pytest.raises(UpstreamError) as caught:
        decoder.feed(b" " * 10)
    assert caught.value.kind == "garbled"


def test_what_comes_with_each_piece_is_told_with_each() -> None:
    """Only tokens that are nothing but text are cut out without reading the rest of them."""
    said: list[tuple[str, str]] = []
    decoder = Decoder()
    for text in ("one", "two", "three"):
        delta = b'{"content":"%b","reasoning":"same"}' % text.encode()
        said += decoder.feed(b'data: {"choices":[{"index":0,"delta":%b}]}\n\n' % delta).pieces
    assert said == [
        (kind, piece)
        for text in ("one", "two", "three")
        for kind, piece in ((REASONING, "same"), (TEXT, text))
    ]


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([{"reasoning_content": "H"}, {"reasoning_content": "m"}], [(REASONING, "Hm")]),
        ([{"reasoning": "Hm", "reasoning_content": "Hm"}], [(REASONING, "Hm")]),
        ([{"refusal": "I "}, {"refusal": "will not."}], [(TEXT, "I will not.")]),
        ([{"content": None, "refusal": None, "reasoning_content": None}, {"content": "a"}], [(TEXT, "a")]),
        # The last thought and the first word in one event: the thought was first.
        (
            [{"reasoning": "H"}, {"content": "a", "reasoning": "m"}, {"content": "b"}],
            [(REASONING, "Hm"), (TEXT, "ab")],
        ),
    ],
)
def test_thoughts_and_answer_have_other_names_at_other_providers(
    deltas: list[dict[str, Any]], expected: list[tuple[str, str]]
) -> None:
    pieces, _, _ = decode([*map(chunk, deltas), chunk({}, "stop")])
    assert pieces == expected
    pieces, _, _ = decode([b"".join(map(chunk, deltas)) + chunk({}, "stop")])
    assert pieces == expected


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("x" * LONGEST_WORD, True),
        ("x" * (LONGEST_WORD + 1), False),
        ("", False),
        (0, True),
        (2**53, True),
        (2**53 + 1, False),
        (-(2**53), True),
        (-(2**53) - 1, False),
        (1.5, False),
        (True, False),
        ([1], False),
    ],
)
def test_of_what_a_provider_says_besides_only_short_words_and_plain_numbers_are_kept(
    given: object, kept: bool
) -> None:
    said: dict[str, Any] = {}
    keep_facts(said, CallFacts(service_tier=given), None)
    assert said == ({"service_tier": given} if kept else {})


@pytest.mark.parametrize("place", ["usage", "x_groq"])
def test_a_usage_counts_where_it_stands_and_is_not_changed_by_a_later_one(place: str) -> None:
    def said(**usage: int) -> bytes:
        return chunk({}, **({"usage": usage} if place == "usage" else {"x_groq": {"usage": usage}}))

    decoder = Decoder()
    first = decoder.feed(said(prompt_tokens=7, completion_tokens=4)).usage
    later = decoder.feed(said(prompt_tokens=7, completion_tokens=5)).usage
    assert first is not None
    assert later is not None
    assert (first["completion_tokens"], later["completion_tokens"]) == (4, 5)


def test_the_first_chunk_tells_what_it_has_beside_an_empty_piece() -> None:
    decoder = Decoder()
    batch = decoder.feed(chunk({"role": "assistant", "content": ""}, model="m2", system_fingerprint="fp"))
    assert (batch.model, decoder.said) == ("m2", {"system_fingerprint": "fp"})


def test_a_choice_that_was_not_asked_for_is_not_told_where_it_comes_alone() -> None:
    other = b'data: {"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    decoder = Decoder()
    assert decoder.feed(other).pieces == []
    assert not decoder.finished


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        # A brace within a text ends no call.
        ([call('{"a":"}', name="f"), call('"}'), call("{}", name="g")], [("f", '{"a":"}"}'), ("g", "{}")]),
        # A call that came in pieces is whole: the next one may have the same index.
        (
            [
                call("{", name="f", index=0, id="1"),
                call('"a":', index=0),
                call("1}", index=0),
                call("{}", name="g", index=0, id="2"),
            ],
            [("f", '{"a":1}'), ("g", "{}")],
        ),
        ([call("{}", name="f", index=1_023, id="1")], [("f", "{}")]),
    ],
)
def test_calls_in_pieces_are_told_apart(deltas: list[dict[str, Any]], expected: list[Any]) -> None:
    assert calls_of(*deltas) == expected


def test_there_are_so_many_places_for_calls() -> None:
    with pytest.raises(UpstreamError):
        calls_of(call("{}", name="f", index=1_024, id="1"))


def test_a_call_that_we_have_named_keeps_its_name_when_the_provider_comes_with_one() -> None:
    deltas = [call("", name="f", index=0), call("{}", index=0, id="late")]
    (_, first), (_, later) = Decoder().feed(chunk({"tool_calls": deltas})).pieces
    assert first["id"]
    assert later == {"function": {"arguments": "{}"}, "index": 0}
