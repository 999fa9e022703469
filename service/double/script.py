"""What an answer will be: its tokens, pace, end and fault, from directives in the last user message.

A directive is `[[key=value key ...]]` anywhere in that message; several are merged:
  tokens=N seed=S vary   expected_text(N, S); with `vary` the seed is the number of attempts before
  echo                   the received messages as compact JSON
  say=...                this text, up to `]]` (or one JSON string: say="a\\nb")
  reasoning=N            N reasoning tokens before the text
  tool=NAME args={...}   one tool call (args without spaces), unless its result is there already
  rate=R first_delay=S header_delay=S chunk=K   tokens a second, pauses, tokens per write
  finish=REASON cached=N continue               finish_reason, cached tokens, continue the prefill
  fault=KIND times=N after=K ...                see `faults`; only in the first N attempts
Without one of tokens, echo, say or tool the answer is the demo's. Deterministic: the same
messages, settings and attempt give the same script.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import orjson

from service.double import text
from service.double.faults import Fault
from service.double.refusals import Refusal
from service.double.request import ChatRequest
from service.double.settings import Settings
from service.double.wire import ToolCall

_DIRECTIVE: Final = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_SAY: Final = re.compile(r"(?:^|\s)say=(.*)\Z", re.DOTALL)
_KEYS: Final = frozenset(
    {
        "tokens",
        "seed",
        "vary",
        "echo",
        "reasoning",
        "tool",
        "args",
        "rate",
        "first_delay",
        "header_delay",
        "chunk",
        "finish",
        "cached",
        "continue",
        "say",
        "fault",
        "times",
        "after",
        "seconds",
        "retry_after",
        "code",
        "size",
        "pause",
    }
)
_FAULT_KEYS: Final = ("times", "after", "seconds", "retry_after", "code", "size", "pause")
_LINE_ENDS: Final = " a\u2028b\u2029c\u0085d\u000be\u000cf\u001cg\u001dh\u001ei"
_HUGE: Final = 300_000
_EMPTY_THOUGHTS: Final = 20


@dataclass(frozen=True, slots=True)
class Script:
    reasoning: tuple[str, ...]
    tokens: tuple[str, ...]
    tool: ToolCall | None
    finish: str
    rate: float
    first_delay: float
    header_delay: float
    chunk: int
    cached: int
    fault: Fault | None

    @property
    def length(self) -> int:
        """All tokens that are billed; a tool call counts as one."""
        return len(self.reasoning) + len(self.tokens) + (self.tool is not None)


def directives(message: str) -> dict[str, str]:
    """All directives of a message; brackets around anything else are left alone."""
    found: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(message):
        body = match[1]
        said = _SAY.search(body)
        pairs = [word.partition("=") for word in (body[: said.start()] if said else body).split()]
        if any(key not in _KEYS for key, _, _ in pairs):
            continue
        found.update({key: value for key, _, value in pairs})
        if said:
            found["say"] = said[1]
    return found


def directive_fault(wishes: dict[str, str], attempt: int) -> Fault | None:
    """The fault that the message asks for, unless it was had often enough (attempts count from 1)."""
    if "fault" not in wishes:
        return None
    fields: dict[str, object] = {key: wishes[key] for key in _FAULT_KEYS if key in wishes}
    try:
        fault = Fault.parse({"kind": wishes["fault"], **fields}, times=None)
    except ValueError as error:
        raise Refusal(400, f"double: {error}") from error
    return fault if fault.times is None or attempt <= fault.times else None


def write_script(
    request: ChatRequest, wishes: dict[str, str], settings: Settings, attempt: int, fault: Fault | None
) -> Script:
    """Raises the Refusal of a directive that cannot be read."""
    try:
        return _bounded(request, _draft(request, wishes, settings, attempt, fault))
    except ValueError as error:
        raise Refusal(400, f"double: a directive cannot be read: {error}") from error


def _draft(
    request: ChatRequest, wishes: dict[str, str], settings: Settings, attempt: int, fault: Fault | None
) -> Script:
    tool = _tool(request, wishes)
    tokens = () if tool else _tokens(request, wishes, attempt)
    if request.prefill is not None and ("continue" in wishes or settings.continues_prefill(request.model.id)):
        rest = text.without_prefix(tokens, request.prefill)
        tokens = tokens if rest is None else rest
    if "reasoning" in wishes:
        reasoning = text.expected_tokens(int(wishes["reasoning"]), -1)
    elif request.asks_for_thoughts and not wishes.keys() & {"tokens", "echo", "say", "tool"}:
        reasoning = text.demo_thoughts(request.last_user)
    else:
        reasoning = ()
    return Script(
        reasoning=reasoning if request.model.reasoning else (),
        tokens=tokens,
        tool=tool,
        finish=wishes.get("finish") or ("tool_calls" if tool else "stop"),
        rate=max(0.0, float(wishes.get("rate", settings.rate))),
        first_delay=float(wishes.get("first_delay", settings.first_delay)),
        header_delay=float(wishes.get("header_delay", 0)),
        chunk=max(1, int(wishes.get("chunk", 1))),
        cached=int(wishes.get("cached", 0)),
        fault=fault,
    )


def _bounded(request: ChatRequest, script: Script) -> Script:
    """The script with faults of the text in it, cut where the request's bound is reached."""
    fault = script.fault
    if fault is not None and fault.kind == "empty":
        thoughts = script.reasoning or text.expected_tokens(_EMPTY_THOUGHTS, -1)
        return replace(script, reasoning=thoughts, tokens=(), finish="length")
    if fault is not None and fault.kind in ("huge", "separators"):
        odd = "x" * (fault.size or _HUGE) if fault.kind == "huge" else _LINE_ENDS
        at = max(0, fault.after)
        script = replace(script, tokens=(*script.tokens[:at], odd, *script.tokens[at:]))
    bound = request.max_completion
    if script.length <= bound:
        return script
    reasoning = script.reasoning[:bound]
    return replace(
        script,
        reasoning=reasoning,
        tokens=script.tokens[: bound - len(reasoning)],
        tool=None,
        finish="length",
    )


def _tool(request: ChatRequest, wishes: dict[str, str]) -> ToolCall | None:
    if "tool" not in wishes or request.messages[-1]["role"] == "tool":
        return None
    return ToolCall(wishes["tool"], wishes.get("args") or '{"location":"Berlin"}')


def _tokens(request: ChatRequest, wishes: dict[str, str], attempt: int) -> tuple[str, ...]:
    if "tokens" in wishes:
        seed = attempt - 1 if "vary" in wishes else int(wishes.get("seed") or 0)
        return text.expected_tokens(int(wishes["tokens"]), seed)
    if "echo" in wishes:
        return text.long_pieces(orjson.dumps(request.messages).decode())
    if "say" in wishes:
        said = wishes["say"]
        return text.pieces(str(orjson.loads(said)) if said.startswith('"') and said.endswith('"') else said)
    if request.model.classifier:
        suspicious = "ignore" in request.last_user.lower()
        return ("0.9989397764205933" if suspicious else "0.0011641741730272770",)
    earlier = sum(item["role"] in ("user", "assistant") for item in request.messages) - 1
    answer = text.demo_answer(request.last_user, earlier - (request.prefill is not None))
    if (request.params.get("response_format") or {}).get("type", "text") != "text":
        answer = orjson.dumps({"answer": answer}).decode()
    return text.pieces(answer)
