"""What the engine asks of a provider, whichever it is.

One attempt is one call of `stream`: it yields batches until the provider is done and raises
UpstreamError for every way in which it can fail, a clean end without a finish_reason included.
Closing the iterator closes the connection to the provider at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.upstream.models import Model

TEXT = "text"
REASONING = "reasoning"
TOOL = "tool"


@dataclass(slots=True)
class Batch:
    """What one read from the provider brought; adjacent pieces of a kind are joined.

    `pieces` are (TEXT, str), (REASONING, str) or (TOOL, tool call delta).
    """

    pieces: list[tuple[str, Any]] = field(default_factory=list)
    tokens: int = 0
    finish_reason: str | None = None
    usage: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider's answer says of its limits; None where it says nothing. Seconds, tokens."""

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens: float | None = None


@dataclass(slots=True)
class Request:
    model: Model
    messages: list[dict[str, Any]]
    max_completion_tokens: int
    params: dict[str, Any]
    turn_id: str
    traceparent: str = ""
    # Filled in by the upstream when the response's head has arrived.
    limits: Limits | None = None
    upstream_id: str = ""
    gate: Gate | None = None


class Gate(Protocol):
    """Holds a stream back where that costs nothing; what comes meanwhile is one batch later."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Upstream(Protocol):
    def stream(self, request: Request) -> AsyncGenerator[Batch, None]: ...

    async def close(self) -> None: ...
