"""What the OpenAPI document says of a route: its answers, errors and body.

Routes take a Request and parse it by hand, so FastAPI cannot read this off their signatures: the decorator
`documented`, below the route's own, declares it. Tag, summary and description are FastAPI's arguments. None
of it is used while a request is answered. Statuses of errors follow from their codes (service/errors.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. `bodies` are media type -> (name of the schema, example).

    The schema of `text/event-stream` is that of one event (OpenAPI 3.2 calls it itemSchema); the
    example is a whole stream.
    """

    description: str
    bodies: Mapping[str, tuple[str | None, Any]] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """`parameters` are names of openapi.PARAMETERS, without those of the path. `errors` are codes, without
    GUARDED, which every route has that is not `public`, and READS_BODY, which every route has with a body."""

    answers: Mapping[int, Answer]
    errors: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = True
    public: bool = False
    ticket: bool = False


def documented(
    answers: Answer | dict[int, Answer], *errors: str, **more: Any
) -> Callable[[Handler], Handler]:
    """A route's Operation, by its fields; a single answer is its 200."""
    operation = Operation(answers if isinstance(answers, dict) else {200: answers}, errors, **more)

    def note(handler: Handler) -> Handler:
        handler.__dict__["operation"] = operation
        return handler

    return note


def operation_of(handler: Callable[..., Any]) -> Operation:
    """Raises KeyError for a handler that says nothing."""
    found: Operation = handler.__dict__["operation"]
    return found


def plain(schema: str, example: Any, description: str, *headers: str) -> Answer:
    return Answer(description, {"application/json": (schema, example)}, headers)


TAGS: Final = {
    "text": "The original contract: the answer's text and nothing else.",
    "sessions": "The native API: sessions, messages, turns and their events, which resume exactly.",
    "openai": "OpenAI's API, for its clients and, below `/openai`, for Groq's.",
    "aisdk": "Vercel's AI SDK: `useChat` with its DefaultChatTransport.",
    "usage": "What was used, and what is left of the budgets.",
    "keys": "API keys, for holders of the scope `admin`.",
    "operating": "For operators, load balancers and Prometheus.",
}

# Error codes by what a route does. Every route that has a caller has the first group.
GUARDED: Final = (
    "unauthenticated",
    "forbidden",
    "rate_limited",
    "misdirected_request",
    "overloaded",
    "store_unavailable",
    "internal",
)
READS_BODY: Final = ("invalid_request", "body_too_large", "unsupported_media_type")
STREAMS: Final = ("concurrency_limited",)
SENDS: Final = (
    *STREAMS,
    "query_empty",
    "unsupported_parameter",
    "context_too_long",
    "image_too_large",
    "model_not_found",
    "turn_in_progress",
    "idempotency_mismatch",
    "turn_not_found",
    "budget_exhausted",
    "storage_full",
    "draining",
)
# Routes that hold the status line until there is something to show.
HOLDS: Final = (
    "upstream_rejected",
    "upstream_rate_limited",
    "upstream_unavailable",
    "upstream_timeout",
    "events_expired",
    "events_lost",
)
RESUMES: Final = ("bad_cursor", "cursor_ahead", "events_expired", "events_lost")
OF_SESSION: Final = ("invalid_request", "session_not_found")
ADDS_ITEMS: Final = (
    "unsupported_parameter",
    "not_found",
    "context_too_long",
    "image_too_large",
    "idempotency_mismatch",
    "turn_in_progress",
    "storage_full",
)
OF_TURN: Final = ("invalid_request", "turn_not_found")
SEND_HEADERS: Final = ("X-Session-Id", "X-Turn-Id")
SENDING: Final = ("Idempotency-Key", "X-On-Busy")
