"""Groq's stream at its edges: what is just too long, too strange, or too much alike."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import UpstreamError
from service.upstream import chunks
from service.upstream.base import REASONING, TEXT
from service.upstream.chunks import LONGEST_WORD, CallFacts, Decoder, keep_facts
from tests.unit.test_chunks import chunk, decode


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
        said += decoder.feed(chunk({"content": text, "reasoning": "same"})).pieces
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
