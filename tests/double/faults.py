"""What can go wrong at Groq, by name, and the queue of faults for coming requests.

Refused before a stream (any of them also as a plain HTTP error):
  400 model_decommissioned context_length_exceeded tool_use_failed json_validate_failed
  output_parse_failed blocked_api_access unsupported_property 401 403 403_html 404 (= model_not_found)
  model_permission_blocked model_permission_blocked_org model_permission_blocked_project (403 of one model)
  unknown_url 413 (tokens a minute; 413_itpm 413_otpm) 413_bytes 422 424 429 (= 429_tpm) 429_rpm 429_rpd
  429_tpd 429_itpm 429_otpm 498 500 502 (HTML) 503 524 (HTML) html (200 that is a web page)
  `retry_after=61` sets the header and the "try again in" of a 429 and adds it to others; `seconds=40` is
  how long it takes to come.
Connection:
  drop (closed before any byte) drop_rst (the same by RST) hang (no byte, ever, or for `seconds`)
  silence (headers and role chunk, then nothing)
Mid-stream, `after=k` tokens (default 5; -1 = before the role chunk):
  stall (for ever, or goes on after `seconds`) cut (FIN without the last chunk) cut_inside (FIN in
  the middle of an event) rst eof (clean end without finish_reason) done ([DONE] without
  finish_reason) error_event (`event: error`, then the end; `code=` any refusal) error_data (bare
  {"error":...}) x_groq_error (x_groq.error in a chunk, then [DONE]) torn (half an event's JSON,
  then goes on) garbage (bytes that are no UTF-8, then goes on)
The whole answer:
  separators (U+2028, U+2029, U+0085 and other line ends inside one token: legal text) empty (only
  reasoning, finish length) huge (one token of `size` characters) split (every event in writes of
  `size` bytes, `pause` apart) trickle (split, one byte each 20 ms) drifting_ids (id and created
  change per chunk) old_usage (usage in x_groq only) no_usage tool_parts (tool call in two deltas)
  tool_without_id tools_without_index (two whole calls) tools_with_one_index (two whole calls, both 0)
  tools_unclear (pieces of two calls without index and id), and what `shapes` tells of: crlf cr bom
  data_lines nulls partial_usage (with `size=1` in writes of so many bytes)

A fault is data; `answer` acts on it. Whoever asks for it first gets it: the queue goes before a
directive in the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

from tests.double import limits, refusals
from tests.double.refusals import Refusal
from tests.double.shapes import SHAPES

CONNECTION: Final = ("drop", "drop_rst", "hang")
MIDSTREAM: Final = (
    "silence",
    "stall",
    "cut",
    "cut_inside",
    "rst",
    "eof",
    "done",
    "error_event",
    "error_data",
    "x_groq_error",
    "torn",
    "garbage",
)
WHOLE: Final = (
    "separators",
    "empty",
    "huge",
    "split",
    "trickle",
    "drifting_ids",
    "old_usage",
    "no_usage",
    "tool_parts",
    "tool_without_id",
    "tools_without_index",
    "tools_with_one_index",
    "tools_unclear",
    *SHAPES,
)
_LIMITED: Final = ("429", *(f"429_{kind.lower()}" for kind in limits.KINDS), "413", "413_itpm", "413_otpm")
KINDS: Final[frozenset[str]] = frozenset((*CONNECTION, *MIDSTREAM, *WHOLE, *_LIMITED, *refusals.BY_NAME))
_WAITS: Final = {"rpm": 2.0, "rpd": 86.4, "tpm": 0.659999999, "tpd": 1123.2, "itpm": 8.5, "otpm": 3.25}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `times` is how often, None for ever. `model` and `contains` choose the requests."""

    kind: str
    times: int | None = 1
    after: int = 5
    seconds: float | None = None
    retry_after: float | None = None
    code: str | None = None
    size: int | None = None
    pause: float = 0.0
    model: str | None = None
    contains: str | None = None

    @classmethod
    def parse(cls, fields: Mapping[str, object], *, times: int | None = 1) -> Fault:
        """From a directive (all strings) or a JSON object; ValueError in words for a person."""
        kind = str(fields.get("kind", ""))
        if kind not in KINDS:
            raise ValueError(f"unknown fault {kind!r}; there are: {' '.join(sorted(KINDS))}")
        known = {
            "kind",
            "times",
            "after",
            "seconds",
            "retry_after",
            "code",
            "size",
            "pause",
            "model",
            "contains",
        }
        if unknown := fields.keys() - known:
            raise ValueError(f"a fault has no {sorted(unknown)}; it has {sorted(known)}")

        if fields.get("code") is not None and fields["code"] not in (*_LIMITED, *refusals.BY_NAME):
            raise ValueError("code has to be the name of a fault that is a refusal")

        def number(name: str) -> float | None:
            value = fields.get(name)
            return None if value is None else float(str(value))

        def text(name: str) -> str | None:
            value = fields.get(name)
            return None if value is None else str(value)

        after, size, count = number("after"), number("size"), number("times")
        return cls(
            kind=kind,
            times=times if "times" not in fields else None if count is None else int(count),
            after=5 if after is None else int(after),
            seconds=number("seconds"),
            retry_after=number("retry_after"),
            code=text("code"),
            size=None if size is None else int(size),
            pause=number("pause") or 0.0,
            model=text("model"),
            contains=text("contains"),
        )

    def describe(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def position(self) -> int:
        """The number of tokens before it strikes."""
        return 0 if self.kind == "silence" else self.after

    def refusal(self, model: str) -> Refusal | None:
        """The error it stands for, when it is one that comes instead of a stream."""
        status, _, window = self.kind.partition("_")
        if self.kind in _LIMITED:
            window = window or "tpm"
            if status == "413":
                return limits.too_large(model, window.upper())
            wait = _WAITS[window] if self.retry_after is None else self.retry_after
            return limits.rate_limited(model, window.upper(), wait=wait)
        if self.kind not in refusals.BY_NAME:
            return None
        refusal = refusals.BY_NAME[self.kind](model)
        if self.retry_after is not None:
            refusal.headers["retry-after"] = f"{self.retry_after:g}"
        return refusal

    def stream_error(self, model: str) -> dict[str, object]:
        """The error object of a fault inside a stream, with the status that HTTP no longer can have."""
        refusal = replace(self, kind=self.code or "tool_use_failed").refusal(model)
        if refusal is None:
            raise ValueError(f"{self.code!r} is no refusal")
        return {**refusal.error, "status_code": refusal.status}


class FaultQueue:
    """Faults for coming requests, in the order in which they were queued."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def describe(self) -> list[dict[str, object]]:
        return [fault.describe() for fault in self._faults]

    def take(self, model: str, message: str) -> Fault | None:
        """The first fault meant for this request, counted down."""
        for index, fault in enumerate(self._faults):
            if fault.model not in (None, model) or (fault.contains or "") not in message:
                continue
            if fault.times is not None:
                left = fault.times - 1
                self._faults[index : index + 1] = [replace(fault, times=left)] if left > 0 else []
            return fault
        return None
