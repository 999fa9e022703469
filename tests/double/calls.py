"""The record of what was asked and how each call ended, for tests to look at.

Bounded in number and in bytes, oldest first out. Bodies are kept as received and parsed only
when somebody looks. Keys are never recorded.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from tests.double.refusals import Refusal
from tests.double.request import read_body

End = Literal["", "finished", "client_closed", "faulted", "refused"]
_BYTES_KEPT: Final = 128 * 1024 * 1024
_HEADERS: Final = frozenset(
    {
        "traceparent",
        "tracestate",
        "x-request-id",
        "idempotency-key",
        "user-agent",
        "x-stainless-retry-count",
        "x-stainless-read-timeout",
        "accept",
        "accept-encoding",
        "content-type",
    }
)


@dataclass(slots=True)
class Call:
    """One request; `end` is empty while it is being answered, `attempt` counts the same last user message."""

    number: int
    body: bytes
    headers: dict[str, str]
    authorized: bool
    request_id: str
    started: float = field(default_factory=time.time)
    model: str = ""
    organization: str = ""
    attempt: int = 0
    fault: str = ""
    status: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    reported: bool = False  # the client was told its usage
    first_token: float | None = None
    end: End = ""
    ended: float | None = None

    def sent(self, tokens: int) -> None:
        if self.first_token is None and tokens:
            self.first_token = time.time()
        self.tokens += tokens

    def describe(self) -> dict[str, Any]:
        try:
            fields: dict[str, Any] = read_body(self.body)
        except Refusal:
            fields = {}
        return {
            "number": self.number,
            "request_id": self.request_id,
            "model": self.model or fields.get("model"),
            "stream": bool(fields.get("stream")),
            "messages": fields.get("messages"),
            "params": {key: value for key, value in fields.items() if key not in ("messages", "model")},
            "headers": self.headers,
            "authorized": self.authorized,
            "organization": self.organization,
            "attempt": self.attempt,
            "fault": self.fault or None,
            "status": self.status,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "reported": self.reported,
            "started": self.started,
            "first_token": self.first_token,
            "end": self.end or None,
            "ended": self.ended,
        }


class Calls:
    def __init__(self, kept: int = 20_000) -> None:
        self._kept = kept
        self._calls: deque[Call] = deque()
        self._running: dict[int, Call] = {}
        self._bytes = 0
        self._attempts: OrderedDict[str, int] = OrderedDict()
        self._changed = asyncio.Event()
        self._tokens_of_ended = 0
        self.total = 0
        self.ends: dict[str, int] = {}

    def __iter__(self) -> Iterator[Call]:
        # A copy, because a test may look from another thread.
        return iter(tuple(self._calls))

    @property
    def running(self) -> list[Call]:
        return list(self._running.values())

    @property
    def tokens(self) -> int:
        """All tokens sent, those of running calls included."""
        return self._tokens_of_ended + sum(call.tokens for call in self.running)

    def open(self, body: bytes, headers: dict[str, str], authorized: bool, request_id: str) -> Call:
        self.total += 1
        shown = {name: value for name, value in headers.items() if name in _HEADERS}
        call = Call(self.total, body, shown, authorized, request_id)
        self._calls.append(call)
        self._running[call.number] = call
        self._bytes += len(body)
        while len(self._calls) > self._kept or (self._bytes > _BYTES_KEPT and len(self._calls) > 1):
            self._bytes -= len(self._calls.popleft().body)
        self._notify()
        return call

    def attempt(self, message: str) -> int:
        """How often this last user message has come, this time included."""
        count = self._attempts.pop(message, 0) + 1
        self._attempts[message] = count
        if len(self._attempts) > self._kept:
            self._attempts.popitem(last=False)
        return count

    def close(self, call: Call, end: End) -> None:
        call.end = end
        call.ended = time.time()
        del self._running[call.number]
        self._tokens_of_ended += call.tokens
        self.ends[end] = self.ends.get(end, 0) + 1
        self._notify()

    def clear(self) -> None:
        """Forget calls and attempts; numbers go on."""
        self._calls.clear()
        self._attempts.clear()
        self._bytes = 0
        self._tokens_of_ended = 0
        self.ends = {}

    def find(self, *, after: int = 0, contains: str = "", ended: bool = False) -> list[Call]:
        needle = orjson.dumps(contains)[1:-1]
        return [
            call
            for call in self
            if call.number > after and (not ended or call.end) and (not needle or needle in call.body)
        ]

    def changed(self) -> Awaitable[object]:
        """Done when the next call begins or ends, counted from now and not from the first await."""
        return self._changed.wait()

    def _notify(self) -> None:
        # Whoever waits holds the old event, so nobody has to clear it.
        self._changed.set()
        self._changed = asyncio.Event()
