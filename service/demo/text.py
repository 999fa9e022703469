"""Deterministic text, cut into tokens as a model would stream it.

Invariants: joining the tokens gives the text exactly; `expected_tokens(n, seed)` is a prefix
of `expected_tokens(m, seed)` for n < m, and every sixteenth token or so is a position mark, so
that a lost, doubled or swapped stretch never goes unnoticed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from service.demo.examples import ANSWERS

# A grapheme may be spread over tokens: joined emoji, flags, combining marks.
_PHRASES: Final[tuple[tuple[str, ...], ...]] = (
    (" the", " quiet", " river"),
    (" a", " naïve", " café", ","),
    (' "quoted', " words", '"'),
    (" it’s", " “curly”", " –", " dash"),
    (".\n\n",),
    ("\n", "- item"),
    (" 日本", "語", "です", "。"),
    (" Привет", ",", " мир", "!"),
    (" 👩", "\u200d", "💻", " writes"),
    (" 🇩", "🇪", " flag"),
    (" e", "\u0301", "tude"),
    (" <b>", "bold", "</b>", " &", " more"),
    (" back\\", "slash", " and", " `code`"),
    (" שלום", " عالم"),
    ("\t", "tab", "\r\n"),
    (" 😀", "😃", "🏳️", "\u200d🌈"),
    (" data:", " {", '"k"', ":", "1", "}"),
    (" one", " two", " three", " four"),
)
_MARK_EVERY: Final = 16
_QUOTED: Final = 600  # characters of a question that the demo repeats
_PIECE: Final = re.compile(r"\s?\S{1,12}|\s", re.DOTALL)
_LONG_PIECE: Final = re.compile(r".{1,40}", re.DOTALL)


@lru_cache(maxsize=64)
def expected_tokens(n: int, seed: int = 0) -> tuple[str, ...]:
    """The n tokens of `[[tokens=n seed=seed]]`."""
    tokens = [f"({seed})"]
    state = seed * 2_654_435_761 + 1
    marked = 0
    while len(tokens) < n:
        if len(tokens) - marked >= _MARK_EVERY:
            marked = len(tokens)
            tokens.append(f" #{marked}")
        state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
        tokens.extend(_PHRASES[(state >> 33) % len(_PHRASES)])
    return tuple(tokens[:n])


def pieces(text: str) -> tuple[str, ...]:
    """Any text as tokens: words with their leading space."""
    return tuple(_PIECE.findall(text))


def long_pieces(text: str) -> tuple[str, ...]:
    """Machine text, such as an echoed context, in fewer and longer tokens."""
    return tuple(_LONG_PIECE.findall(text))


def demo_answer(question: str, earlier: int) -> str:
    """What somebody without a key sees: plainly a demo, and what was asked, in markdown."""
    asked = question.strip()
    if asked in ANSWERS:
        return ANSWERS[asked]
    if len(asked) > _QUOTED:
        asked = asked[:_QUOTED] + "…"
    quoted = "\n".join(f"> {line}" for line in asked.splitlines()) or "> *(nothing)*"
    place = "This is your first message" if earlier <= 0 else f"I can see {earlier} earlier messages"
    return (
        "Hello! 👋 I am the **local demo model**: there is no `GROQ_API_KEY`, so nothing was sent to Groq "
        "and no real model has read your message.\n\n"
        f"You asked:\n\n{quoted}\n\n"
        f"{place} in this session. What you are seeing works just as with a real model:\n\n"
        "- the answer is streamed token by token, and kept;\n"
        "- reload the page and it goes on where it was;\n"
        "- *stop* keeps what has been said so far.\n\n"
        "Set `GROQ_API_KEY` and start again to talk to a real model."
    )


def demo_thoughts(question: str) -> tuple[str, ...]:
    """A few reasoning tokens for a caller that asks to see them."""
    return pieces(f"The user sent {len(question)} characters. There is no real model here, so I say so.")
