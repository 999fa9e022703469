"""What an answer of the double will be: the demo's script, with more of its directives, and the fault.

Besides those of service/demo/script.py a directive may have
  vary                   the seed is the number of attempts before
  tool=NAME args={...}   one tool call (args without spaces), unless its result is there already;
                         with rounds=N one after each result, N in all
  header_delay=S chunk=K a pause before the head, tokens per write
  finish=REASON cached=N continue               finish_reason, cached tokens, continue the prefill
  fault=KIND times=N after=K ...                see `faults`; only in the first N attempts
Deterministic: the same messages, settings and attempt give the same script.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from service.demo import script as demo
from service.demo import text
from service.demo.request import ChatRequest
from tests.double.faults import Fault
from tests.double.refusals import Refusal
from tests.double.settings import Settings
from tests.double.wire import ToolCall

_FAULT_KEYS: Final = ("times", "after", "seconds", "retry_after", "code", "size", "pause")
_KEYS: Final = demo.KEYS.union(
    ("vary", "tool", "args", "rounds", "header_delay", "chunk", "finish", "cached", "continue", "fault"),
    _FAULT_KEYS,
)
_LINE_ENDS: Final = " a\u2028b\u2029c\u0085d\u000be\u000cf\u001cg\u001dh\u001ei"
_HUGE: Final = 300_000
_EMPTY_THOUGHTS: Final = 20


@dataclass(frozen=True, slots=True)
class Script(demo.Script):
    tool: ToolCall | None
    header_delay: float
    chunk: int
    cached: int
    fault: Fault | None

    @property
    def length(self) -> int:
        """All tokens that are billed; a tool call counts as one."""
        return len(self.reasoning) + len(self.tokens) + (self.tool is not None)


def directives(message: str) -> dict[str, str]:
    return demo.directives(message, _KEYS)


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
        rest = _without_prefix(tokens, request.prefill)
        tokens = tokens if rest is None else rest
    return Script(
        reasoning=() if "tool" in wishes and "reasoning" not in wishes else demo.thoughts(request, wishes),
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


def _without_prefix(tokens: tuple[str, ...], prefix: str) -> tuple[str, ...] | None:
    """What is left of the tokens after `prefix`; None when they do not start with it."""
    if not "".join(tokens).startswith(prefix):
        return None
    left = len(prefix)
    for index, token in enumerate(tokens):
        if left < len(token):
            rest = tokens[index:]
            return (token[left:], *rest[1:])
        left -= len(token)
    return ()


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
    cut = demo.bounded(script, request.max_completion)
    return script if cut is script else replace(cut, tool=None)


def _tool(request: ChatRequest, wishes: dict[str, str]) -> ToolCall | None:
    if "tool" not in wishes:
        return None
    asked = max((i for i, item in enumerate(request.messages) if item["role"] == "user"), default=0)
    called = sum(bool(item.get("tool_calls")) for item in request.messages[asked:])
    if request.messages[-1]["role"] == "tool" and called >= int(wishes.get("rounds", 1)):
        return None
    return ToolCall(wishes["tool"], wishes.get("args") or '{"location":"Berlin"}')


def _tokens(request: ChatRequest, wishes: dict[str, str], attempt: int) -> tuple[str, ...]:
    if request.model.classifier and not wishes.keys() & {"tokens", "echo", "say"}:
        suspicious = "ignore" in request.last_user.lower()
        return ("0.9989397764205933" if suspicious else "0.0011641741730272770",)
    if "vary" in wishes:
        wishes = {**wishes, "seed": str(attempt - 1)}
    return demo.answer(request, wishes)
