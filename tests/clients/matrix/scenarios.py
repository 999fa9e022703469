"""The five questions that every client is asked, and what it has to show.

A question is a text with directives for the double. A client tells, of each: `text` (what it streamed),
`called` (the cities that its tool was asked for), `answer` (what its last call returned), `error`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.double import expected_text

MODEL: Final = "openai/gpt-oss-120b"
WHOLE: Final = expected_text(60)
CUT: Final = expected_text(30)
ANSWER: Final = "It rains."
OBJECT: Final = {"city": "Berlin", "degrees": 7}
# What the tool of every script returns for Berlin, and has to reach the provider.
RESULT: Final = "Rain in Berlin."

QUESTIONS: Final = {
    "stream": "[[tokens=60]]",
    "tools": f'[[tool=weather args={{"city":"Berlin"}} say={ANSWER}]]',
    "structured": '[[say={"city":"Berlin","degrees":7}]]',
    "cut": "[[tokens=60 fault=cut after=30]]",
    # Longer than our retry budget (10 s) and than what SDKs wait (60 s), so that it is told at once.
    "refused": "[[fault=429 retry_after=61]]",
}
# Words of ours that the error of a client has to have: the reader is to learn what happened.
CUT_WORDS: Final = "cut off"
REFUSED_WORDS: Final = "try again in 61 s"


@dataclass(frozen=True)
class Failure:
    """How a client says that something failed: the class, its status, and words of its message."""

    kind: str
    words: str
    status: int | None = None


def expected() -> dict[str, Mapping[str, Any]]:
    """By scenario; errors are the client's own (table.py)."""
    return {
        "stream": {"text": WHOLE},
        "tools": {"called": ["Berlin"], "answer": ANSWER},
        "structured": {"answer": OBJECT},
        "cut": {"text": CUT},
        "refused": {},
    }
