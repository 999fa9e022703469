"""What the engine asks of a provider, whichever it is.

One attempt is one `call`, an `async with` block. It is entered when the head of the answer is there; in it
`read_into` hands over the rest until the provider is done. Both raise UpstreamError for every way in which an
attempt can fail, also for a clean end without a finish_reason. Leaving the block closes the connection.
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
    model: str = ""  # the one that answers, where this part of the stream names it


@dataclass(frozen=True, slots=True)
class Limits:
    """The rate limits in the headers of an answer; None where a header is missing."""

    limit_requests: int | None = None
    remaining_requests: int | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None


@dataclass(slots=True)
class Request:
    """One call. `billable` is set as soon as the provider may charge for it: it was sent, and not refused.

    `patience`: seconds for which the connection is tried again while it fails. `whole`: the answer comes in
    one piece and not as a stream.
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
    server: tuple[str, int] = ("", 0)  # the name and port that are called


#: Called with each batch inside the network callback that brought it; what it returns is awaited before more.
OnBatch = Callable[[Batch], Awaitable[None] | None]


class Gate(Protocol):
    """Holds a stream back in the kernel; what arrives meanwhile comes as one batch after `resume`."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Answer(Protocol):
    """A response whose head has arrived.

    `said` is what the provider says besides the answer, as far as it is known by now: `id` (its name for the
    call), `seed`, `system_fingerprint`, `service_tier` and `times` (Groq's, in s). Dialects pass it on.
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
