"""What an answer will be: its tokens and its pace, from directives in the last user message.

A directive is `[[key=value key ...]]` anywhere in that message; several are merged:
  tokens=N seed=S        N tokens of text.py
  echo                   the received messages as compact JSON
  say=...                this text, up to `]]` (or one JSON string: say="a\\nb")
  reasoning=N            N reasoning tokens before the text
  rate=R first_delay=S   tokens a second (0 as fast as possible), seconds before the first one
Brackets around anything else are text. Without tokens, echo and say the answer is the demo's own.
The same messages give the same script. ValueError: a directive cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import orjson

from service.demo import text
from service.demo.request import ChatRequest

KEYS: Final = frozenset({"tokens", "seed", "echo", "say", "reasoning", "rate", "first_delay"})
_DIRECTIVE: Final = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_SAY: Final = re.compile(r"(?:^|\s)say=(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Script:
    """`rate` in tokens a second, 0 as fast as possible; `first_delay` in seconds."""

    reasoning: tuple[str, ...]
    tokens: tuple[str, ...]
    finish: str
    rate: float
    first_delay: float

    @property
    def length(self) -> int:
        """All tokens that are billed."""
        return len(self.reasoning) + len(self.tokens)

    @property
    def seconds(self) -> float:
        """From the first token to the last."""
        return self.length / self.rate if self.rate else 0.0


_S = TypeVar("_S", bound=Script)


def directives(message: str, keys: Collection[str] = KEYS) -> dict[str, str]:
    """All directives of a message."""
    found: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(message):
        body = match[1]
        said = _SAY.search(body)
        pairs = [word.partition("=") for word in (body[: said.start()] if said else body).split()]
        if any(key not in keys for key, _, _ in pairs):
            continue
        found.update({key: value for key, _, value in pairs})
        if said:
            found["say"] = said[1]
    return found


def write_script(request: ChatRequest, *, rate: float, first_delay: float) -> Script:
    """`rate` and `first_delay` are for messages that name none."""
    wishes = directives(request.last_user)
    script = Script(
        reasoning=thoughts(request, wishes),
        tokens=answer(request, wishes),
        finish="stop",
        rate=max(0.0, float(wishes.get("rate", rate))),
        first_delay=float(wishes.get("first_delay", first_delay)),
    )
    return bounded(script, request.max_completion)


def bounded(script: _S, most: int) -> _S:
    """Cut where the request's bound is reached."""
    if script.length <= most:
        return script
    reasoning = script.reasoning[:most]
    tokens = script.tokens[: most - len(reasoning)]
    return replace(script, reasoning=reasoning, tokens=tokens, finish="length")


def thoughts(request: ChatRequest, wishes: Mapping[str, str]) -> tuple[str, ...]:
    if not request.model.reasoning:
        return ()
    if "reasoning" in wishes:
        return text.expected_tokens(_count(request, wishes["reasoning"]), -1)
    if request.asks_for_thoughts and not wishes.keys() & {"tokens", "echo", "say"}:
        return text.demo_thoughts(request.last_user)
    return ()


def answer(request: ChatRequest, wishes: Mapping[str, str]) -> tuple[str, ...]:
    if "tokens" in wishes:
        return text.expected_tokens(_count(request, wishes["tokens"]), int(wishes.get("seed") or 0))
    if "echo" in wishes:
        return text.long_pieces(orjson.dumps(request.messages).decode())
    if "say" in wishes:
        said = wishes["say"]
        return text.pieces(str(orjson.loads(said)) if said.startswith('"') and said.endswith('"') else said)
    earlier = sum(item.get("role") in ("user", "assistant") for item in request.messages) - 1
    told = text.demo_answer(request.last_user, earlier - (request.prefill is not None))
    return text.pieces(orjson.dumps({"answer": told}).decode() if request.structured else told)


def message(script: Script, thoughts: str) -> dict[str, object]:
    """The answer as one message, its reasoning shown parsed, raw or not at all (hidden)."""
    content, reasoning = "".join(script.tokens), "".join(script.reasoning)
    if reasoning and thoughts == "raw":
        content = f"<think>{reasoning}</think>{content}"
    told: dict[str, object] = {"role": "assistant", "content": content}
    if reasoning and thoughts == "parsed":
        told["reasoning"] = reasoning
    return told


def _count(request: ChatRequest, wished: str) -> int:
    """One more than may be sent is enough to know that the answer is cut."""
    return min(int(wished), request.max_completion + 1)
