"""What the engine asks of a provider, whichever it is.

One attempt is one `call`: a block that has the answer's head, and in which `read_into` gives what comes
until the provider is done. Both raise UpstreamError for every way in which an attempt can fail, a
clean end without a finish_reason included. Leaving the block closes the connection at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.upstream.models import Model
from service.usage import Count

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
    usage: Count | None = None
    model: str = ""  # that answers, as the provider names it; of a batch that says more than its pieces


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider's answer says of its limits; None where it says nothing."""

    limit_requests: int | None = None
    remaining_requests: int | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None


@dataclass(slots=True)
class Request:
    """`billable` as soon as the provider may charge for it: it was sent, and not refused.

    `patience`: s for which a provider that cannot be connected to is tried again. `whole`: it is not
    streamed, and nothing comes before all of it.
    """

    model: Model
    messages: list[dict[str, Any]]
    max_completion_tokens: int
    params: dict[str, Any]
    turn_id: str
    api_key: str = field(default="", repr=False)
    patience: float = 0.0
    whole: bool = False
    traceparent: str = ""
    billable: bool = False
    server: tuple[str, int] = ("", 0)  # that is called: name and port


#: Takes a batch inside of the callback that brought it; what it returns is awaited before the next one.
OnBatch = Callable[[Batch], Awaitable[None] | None]


class Gate(Protocol):
    """Holds a stream back where that costs nothing; what comes meanwhile is one batch later."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Answer(Protocol):
    """A response whose head has arrived.

    `said`: what the provider says besides the answer, as it becomes known, for who passes it on: `id` (its
    name for the call), `seed`, `system_fingerprint`, `service_tier`, and `times` (Groq's, in s).
    """

    limits: Limits
    gate: Gate | None

    @property
    def said(self) -> dict[str, Any]: ...

    async def read_into(self, on_batch: OnBatch) -> None: ...


class Upstream(Protocol):
    def streams(self, model: Model, params: dict[str, Any]) -> bool:
        """Is the answer to such a call streamed?"""

    def call(self, request: Request) -> AbstractAsyncContextManager[Answer]: ...

    async def close(self) -> None: ...
