"""The bytes of a Groq answer: stream chunks, the whole completion, usage.

Invariant: field order, escapes (`<` and `>` as \\u003c and \\u003e) and the place of x_groq and
usage are those of recorded traffic. Chunks are put together from byte strings prepared once
per answer, since a token must cost next to nothing. Knows nothing of pacing or faults.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Final

import orjson

DONE: Final = b"data: [DONE]\n\n"


def dumps(value: object) -> bytes:
    """JSON as Groq's Go server writes it: no angle brackets in the clear."""
    return orjson.dumps(value).replace(b"<", b"\\u003c").replace(b">", b"\\u003e")


def event(value: object) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"


def error_event(error: dict[str, object]) -> bytes:
    """How a stream that has begun with 200 tells of an error."""
    return b"event: error\n" + event({"error": error})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as Groq counts them; `reasoning` is part of `completion`."""

    prompt: int
    completion: int
    reasoning: int = 0
    cached: int = 0
    seconds: float = 0.0

    def describe(self) -> dict[str, object]:
        seconds = round(self.seconds, 9)
        usage: dict[str, object] = {
            "queue_time": 0.001,
            "prompt_tokens": self.prompt,
            "prompt_time": 0.002,
            "completion_tokens": self.completion,
            "completion_time": seconds,
            "total_tokens": self.prompt + self.completion,
            "total_time": round(seconds + 0.002, 9),
        }
        if self.cached:  # absent, not 0, on a miss
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached}
        if self.reasoning:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return usage


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: str

    def describe(self, **extra: object) -> dict[str, object]:
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": f"fc_{uuid.uuid4()}", "type": "function", "function": function, **extra}


class Wire:
    """The chunks of one answer. With `drifting`, id and created change from chunk to chunk."""

    def __init__(self, model: str, request_id: str, seed: int, drifting: bool = False) -> None:
        self.request_id = request_id
        self._seed = seed
        self._drifting = drifting
        self._base: dict[str, object] = {
            "id": f"chatcmpl-{uuid.uuid4()}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"fp_{uuid.uuid4().hex[:10]}",
        }
        self._head = b"data: " + dumps(self._base)[:-1]

    def _chunk(self, inside: bytes) -> bytes:
        if self._drifting:
            self._base["id"] = f"chatcmpl-{uuid.uuid4()}"
            self._base["created"] = int(time.time()) + uuid.uuid4().int % 3
            self._head = b"data: " + dumps(self._base)[:-1]
        return self._head + inside + b"}\n\n"

    def _delta(self, delta: bytes, finish: bytes = b"null", tail: bytes = b"") -> bytes:
        return self._chunk(
            b',"choices":[{"index":0,"delta":'
            + delta
            + b',"logprobs":null,"finish_reason":'
            + finish
            + b"}]"
            + tail
        )

    def role(self) -> bytes:
        x_groq = dumps({"id": self.request_id, "seed": self._seed})
        return self._delta(b'{"role":"assistant","content":""}', tail=b',"x_groq":' + x_groq)

    def content(self, token: str) -> bytes:
        return self._delta(b'{"content":' + dumps(token) + b"}")

    def reasoning(self, token: str, channel: bool) -> bytes:
        tail = b',"channel":"analysis"}' if channel else b"}"
        return self._delta(b'{"reasoning":' + dumps(token) + tail)

    def tool_call(self, call: ToolCall) -> bytes:
        return self._delta(dumps({"tool_calls": [call.describe(index=0)]}))

    def tool_call_in_parts(self, call: ToolCall, with_id: bool) -> list[bytes]:
        """Not what Groq does today; readers that put parts together by index survive it."""
        first = call.describe(index=0)
        if not with_id:
            del first["id"]
        half = len(call.arguments) // 2
        first["function"] = {"name": call.name, "arguments": call.arguments[:half]}
        second = {"function": {"arguments": call.arguments[half:]}, "index": 0}
        return [self._delta(dumps({"tool_calls": [part]})) for part in (first, second)]

    def two_tool_calls(self, call: ToolCall, kind: str) -> list[bytes]:
        """The call and another one like it, as servers send them that are not Groq."""
        calls = [call.describe(), call.describe()]
        if kind == "tools_with_one_index":
            calls = [{**one, "index": 0} for one in calls]
        if kind != "tools_unclear":
            return [self._delta(dumps({"tool_calls": [one]})) for one in calls]
        half = len(call.arguments) // 2
        names = [{"function": {"name": call.name, "arguments": call.arguments[:half]}}] * 2
        rests = [{"function": {"arguments": call.arguments[half:]}}] * 2
        return [self._delta(dumps({"tool_calls": pieces})) for pieces in (names, rests)]

    def finish(self, reason: str, usage: Usage, *, in_x_groq: bool = True, on_top: bool = True) -> bytes:
        described = usage.describe()
        x_groq: dict[str, object] = {"id": self.request_id}
        if in_x_groq:
            x_groq["usage"] = described
        tail = b',"x_groq":' + dumps(x_groq)
        if on_top:
            tail += b',"usage":' + dumps(described)
        return self._delta(b"{}", dumps(reason), tail)

    def usage(self, usage: Usage) -> bytes:
        """The one more chunk that stream_options.include_usage asks for."""
        return self._chunk(
            b',"choices":[],"usage":' + dumps(usage.describe()) + b',"service_tier":"on_demand"'
        )

    def stopped_early(self, message: str) -> bytes:
        """An error inside an ordinary chunk, on which the SDK does not raise."""
        x_groq = dumps({"id": self.request_id, "error": message})
        return self._delta(b"{}", tail=b',"x_groq":' + x_groq)

    def completion(self, message: dict[str, object], reason: str, usage: Usage) -> bytes:
        """The answer to a request without `stream`."""
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return dumps(
            {
                **self._base,
                "object": "chat.completion",
                "choices": [choice],
                "usage": usage.describe(),
                "usage_breakdown": None,
                "x_groq": {"id": self.request_id, "seed": self._seed},
                "service_tier": "on_demand",
            }
        )
