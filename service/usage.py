"""Usage: the tokens of a call or a turn.

A `Count` is flat, so that calls add up: `prompt_tokens`, `completion_tokens`, and of these two
`cached_tokens` (from the provider's prompt cache) and `reasoning_tokens`; what is not known is not
in it. `told` is the same as clients read it, in OpenAI's form; a detail of 0 is left out, as Groq
leaves it out. Nothing here knows who pays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Count = dict[str, int]

#: no call has so many tokens: a larger figure is a fault of the provider's, and would fill every budget
_MOST: Final = 1_000_000_000

NAMES: Final = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
# A detail, and where OpenAI's form has it.
_DETAILS: Final = {"cached_tokens": "prompt_tokens_details", "reasoning_tokens": "completion_tokens_details"}


def told(count: Mapping[str, int]) -> dict[str, Any]:
    prompt, completion = count["prompt_tokens"], count["completion_tokens"]
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    for name, details in _DETAILS.items():
        if count.get(name):
            usage[details] = {name: count[name]}
    return usage


def count(usage: Mapping[str, Any]) -> Count:
    """What a usage in OpenAI's form says for certain. Takes any provider's word."""
    prompt, completion = _tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens"))
    total = _tokens(usage.get("total_tokens"))
    if completion is None and prompt is not None and total is not None and total >= prompt:
        completion = total - prompt
    found = {"prompt_tokens": prompt, "completion_tokens": completion}
    for name, details in _DETAILS.items():
        said = usage.get(details)
        found[name] = _tokens(said.get(name)) if isinstance(said, dict) else None
    return {name: tokens for name, tokens in found.items() if tokens is not None}


def detail(usage: Mapping[str, Any], name: str) -> int:
    """`cached_tokens` or `reasoning_tokens` of a usage in OpenAI's form; 0 where it is not told."""
    said = usage.get(_DETAILS[name])
    return (_tokens(said.get(name)) or 0) if isinstance(said, dict) else 0


def _tokens(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST else None
