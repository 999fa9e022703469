"""The bytes of a Groq answer: stream chunks, the whole completion, usage.

Invariant: field order, escapes (`<` and `>` as \\u003c and \\u003e) and the place of x_groq and
usage are those of recorded traffic. Chunks are put together from byte strings prepared once
per answer, since a token must cost next to nothing. Knows nothing of pacing.
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


class Wire:
    """The chunks of one answer."""

    def __init__(self, model: str, request_id: str, seed: int) -> None:
        self.request_id = request_id
        self._seed = seed
        self.base: dict[str, object] = {
            "id": f"chatcmpl-{uuid.uuid4()}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"fp_{uuid.uuid4().hex[:10]}",
        }
        self.head = b"data: " + dumps(self.base)[:-1]

    def chunk(self, inside: bytes) -> bytes:
        return self.head + inside + b"}\n\n"

    def delta(self, delta: bytes, finish: bytes = b"null", tail: bytes = b"") -> bytes:
        return self.chunk(
            b',"choices":[{"index":0,"delta":'
            + delta
            + b',"logprobs":null,"finish_reason":'
            + finish
            + b"}]"
            + tail
        )

    def role(self) -> bytes:
        x_groq = dumps({"id": self.request_id, "seed": self._seed})
        return self.delta(b'{"role":"assistant","content":""}', tail=b',"x_groq":' + x_groq)

    def content(self, token: str) -> bytes:
        return self.delta(b'{"content":' + dumps(token) + b"}")

    def reasoning(self, token: str, channel: bool) -> bytes:
        tail = b',"channel":"analysis"}' if channel else b"}"
        return self.delta(b'{"reasoning":' + dumps(token) + tail)

    def finish(self, reason: str, usage: Usage) -> bytes:
        described = usage.describe()
        x_groq = dumps({"id": self.request_id, "usage": described})
        return self.delta(b"{}", dumps(reason), b',"x_groq":' + x_groq + b',"usage":' + dumps(described))

    def usage(self, usage: Usage) -> bytes:
        """The one more chunk that stream_options.include_usage asks for."""
        return self.chunk(
            b',"choices":[],"usage":' + dumps(usage.describe()) + b',"service_tier":"on_demand"'
        )

    def completion(self, message: dict[str, object], reason: str, usage: Usage) -> bytes:
        """The answer to a request without `stream`."""
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return dumps(
            {
                **self.base,
                "object": "chat.completion",
                "choices": [choice],
                "usage": usage.describe(),
                "usage_breakdown": None,
                "x_groq": {"id": self.request_id, "seed": self._seed},
                "service_tier": "on_demand",
            }
        )
