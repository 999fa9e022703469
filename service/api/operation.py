"""What an operation of the OpenAPI document is made of; operations.py has the table of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel


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
    tag: str
    answers: dict[int, Answer]
    errors: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    body_examples: dict[str, Any] = field(default_factory=dict)
    body_required: bool = True
    description: str = ""
    public: bool = False
    ticket: bool = False


TAGS: Final = {
    "text": "The original contract: the answer's text and nothing else.",
    "sessions": "The native API: sessions, messages, turns and their events, which resume exactly.",
    "openai": "OpenAI's API, for its clients and, below `/openai`, for Groq's.",
    "aisdk": "Vercel's AI SDK: `useChat` with its DefaultChatTransport.",
    "usage": "What was used, and what is left of the budgets.",
    "keys": "API keys, for holders of the scope `admin`.",
    "operating": "For operators, load balancers and Prometheus.",
}
# Codes by what a route does; every route that knows its caller has the first group.
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
    *GUARDED,
    *READS_BODY,
    *STREAMS,
    "query_empty",
    "unsupported_parameter",
    "context_too_long",
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
ADMIN: Final = GUARDED
SEND_HEADERS: Final = ("X-Session-Id", "X-Turn-Id")
SENDING: Final = ("Idempotency-Key", "X-On-Busy")


def plain(schema: str, example: Any, description: str, *headers: str) -> Answer:
    return Answer(description, {"application/json": (schema, example)}, headers)
