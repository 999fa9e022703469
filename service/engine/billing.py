"""What a turn costs: the sum of its calls to the provider, in tokens.

A call is billed from the moment it is sent, whatever ends it (stop, orphan, timeout, cut, takeover):
what the provider reported, else the estimated prompt and the tokens that were counted. A call that
the provider refused, or that was never sent, costs nothing: Groq does not bill it. Invariant: the
turn's hash has the calls that ended in `billed` and the one under way in `prompt_tokens` and
`tokens`; one append moves a call from these to that, so that whoever takes over bills it once.
"""

from __future__ import annotations

from typing import Any

from service.store.turn_records import Turn
from service.usage import NAMES, Count, told


def billed(turn: Turn, tokens: int, reported: Count | None = None) -> Count:
    """The calls that ended and the one under way, of which `tokens` were counted.

    What `reported` leaves open is as estimated and counted.
    """
    call = {"prompt_tokens": turn.prompt_tokens, "completion_tokens": tokens, **(reported or {})}
    return {name: turn.billed.get(name, 0) + call.get(name, 0) for name in NAMES}


def usage(turn: Turn, tokens: int, reported: Count | None = None) -> dict[str, Any]:
    """The same as clients are told."""
    return told(billed(turn, tokens, reported))
