"""Turns and attempts as operators see them: spans, times, and fields of log lines.

What happens in a turn is the runner's; nothing here changes it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import structlog

from service.errors import UpstreamError
from service.store.turn_records import Turn
from service.telemetry import metrics, tracing
from service.telemetry.tracing import Span
from service.upstream.base import Batch, Request
from service.usage import detail


def begin_turn(turn: Turn) -> Span:
    """Begin a span for this worker's part of the turn. Log lines of this task name the turn from now on."""
    ref = turn.ref
    story = {"turn": ref.turn_id, "session": ref.session_id, "principal": ref.principal, **origin(turn)}
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**story)
    return tracing.start(
        "turn",
        "internal",
        turn.trace,
        {
            "gen_ai.conversation.id": ref.session_id,
            "chat.turn.id": ref.turn_id,
            "chat.turn.epoch": turn.epoch,
        },
    )


def origin(turn: Turn) -> dict[str, str]:
    """The request that began the turn, and its trace where it has one."""
    found = {"request": turn.request} if turn.request else {}
    return {**found, "trace": tracing.trace_id(turn.trace)} if turn.trace else found


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn has ended: with the `code` of a failure, else with a `finish_reason`."""

    state: str
    model: str
    usage: dict[str, Any]
    finish_reason: str | None = None
    code: str | None = None


def line_of(turn: Turn, ending: Ending) -> dict[str, Any]:
    """The fields of each log line `turn.ended`. An unknown cost is null, and never 0."""
    ref, usage, cost = turn.ref, ending.usage, turn.cost
    return {
        **origin(turn),
        "turn": ref.turn_id,
        "session": ref.session_id,
        "principal": ref.principal,
        "outcome": ending.state,
        "model": ending.model,
        "attempt": turn.attempt,
        "epoch": turn.epoch,
        "input_tokens": usage.get("prompt_tokens", 0),
        "output_tokens": usage.get("completion_tokens", 0),
        "cached_tokens": detail(usage, "cached_tokens"),
        "reasoning_tokens": detail(usage, "reasoning_tokens"),
        "cost_nanos": cost.nanos if cost else None,
        "currency": cost.currency or None if cost else None,
    }


class Attempt:
    """One upstream call, counted, timed and traced while the `with` block lasts."""

    def __init__(self, turn: Span, request: Request, number: int) -> None:
        self._model = request.model.id
        self._request = request
        self._whole = request.whole
        self._begin = time.monotonic()
        self._first = 0.0
        self._tokens = 0
        self._span = tracing.start(
            f"chat {self._model}",
            "client",
            turn.traceparent,
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "groq",
                "gen_ai.request.model": self._model,
                "gen_ai.request.max_tokens": request.max_completion_tokens,
                "chat.attempt": number,
            },
        )
        request.traceparent = self._span.traceparent
        metrics.upstream_attempts.labels(model=self._model).inc()

    def __enter__(self) -> Attempt:
        return self

    def arrived(self, tokens: int) -> bool:
        """Tokens have arrived. True when they are the first."""
        self._tokens += tokens
        if self._first:
            return False
        self._first = time.monotonic()
        if self._whole:
            return True  # an answer in one piece has no time to the first token, nor between tokens
        metrics.upstream_first_chunk.labels(model=self._model).observe(self._first - self._begin)
        self._span.set({"gen_ai.response.time_to_first_chunk": round(self._first - self._begin, 4)})
        return True

    def ended(self, said: dict[str, Any], last: Batch) -> None:
        """The provider has said all; `last` has its finish_reason and usage."""
        usage = last.usage or {}
        self._span.set(
            {
                "gen_ai.response.id": said.get("id"),
                "gen_ai.response.model": last.model or None,
                "gen_ai.response.finish_reasons": [last.finish_reason] if last.finish_reason else None,
                "gen_ai.usage.input_tokens": usage.get("prompt_tokens"),
                "gen_ai.usage.output_tokens": usage.get("completion_tokens"),
            }
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tokens > 1 and not self._whole:
            seconds = (time.monotonic() - self._first) / (self._tokens - 1)
            metrics.upstream_time_per_token.labels(model=self._model).observe(seconds)
        address, port = self._request.server
        self._span.set({"server.address": address or None, "server.port": port or None})
        if isinstance(error, UpstreamError):
            self._span.fail(error.kind)
        elif kind is not None:
            self._span.fail("interrupted")
        self._span.end()
