"""An answer in one piece: a chat completion that was not streamed, as one batch.

The rules are those of a stream (chunks.py): without a finish_reason it is cut, a body that is no completion
is garbled, an error inside it is raised.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from service.upstream.base import TOOL, Batch
from service.upstream.chunks import (
    LONGEST_WORD,
    UNREADABLE,
    CallFacts,
    Delta,
    cut_short,
    garbled,
    keep_facts,
    plain,
)
from service.upstream.refusals import refusal
from service.upstream.tool_calls import Ambiguous, ToolCalls
from service.usage import count

#: bytes of a body; the largest model's longest answer is 64k tokens, some 300 KB
MOST_BYTES: Final = 4 * 1_048_576
_BYTES_PER_TOKEN: Final = 4


class _Choice(msgspec.Struct):
    message: Delta | None = None
    finish_reason: str | None = None


class _Completion(CallFacts):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Completion).decode


def decode(body: bytes, said: dict[str, Any]) -> Batch:
    """The answer as one batch; facts about the call go to `said`. Raises UpstreamError."""
    try:
        completion = _decode(body)
    except UNREADABLE:
        raise garbled() from None
    if completion.error is not None:
        raise refusal(0, {"error": completion.error}, {})
    if not completion.choices:
        raise garbled()
    choice = completion.choices[0]
    if not choice.finish_reason:
        raise cut_short()
    batch = Batch(finish_reason=choice.finish_reason[:LONGEST_WORD])
    batch.model = keep_facts(said, completion, completion.usage)
    if choice.message is not None:
        batch.pieces = _pieces(choice.message)
    if completion.usage:
        batch.usage = count(completion.usage)
    counted = 1 + len(body) // _BYTES_PER_TOKEN
    batch.tokens = (batch.usage or {}).get("completion_tokens", counted)
    return batch


def _pieces(message: Delta) -> list[tuple[str, Any]]:
    pieces: list[tuple[str, Any]] = [(kind, plain(text)) for kind, text in message.texts()]
    calls = ToolCalls()
    try:
        # The place in the list is the call's index, whatever index it names itself.
        pieces += [
            (TOOL, calls.numbered({**call, "index": place}))
            for place, call in enumerate(message.tool_calls or ())
        ]
    except Ambiguous:
        raise garbled() from None
    return pieces
