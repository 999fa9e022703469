"""What every dialect has: a parser from a body to a Send, and an encoder from events to bytes.

A dialect is a pure function over the same log. None talks to Redis or Groq, and none has an
engine path of its own. The envelopes of errors before the first byte are errors.py's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from service import ids
from service.errors import ServiceError
from service.events import Event

M = TypeVar("M", bound=BaseModel)

#: Messages per history or context; more is no conversation.
MAX_MESSAGES = 10_000


def _session_id(value: str) -> str:
    if not ids.is_session_id(value):
        raise ValueError("has to be 1 to 128 characters out of letters, digits and _ . : -")
    return value


def _message_id(value: str) -> str:
    if ids.has_control(value):
        raise ValueError("must not hold control characters")
    return value


SessionId = Annotated[StrictStr, AfterValidator(_session_id)]
MessageId = Annotated[StrictStr, Field(min_length=1, max_length=200), AfterValidator(_message_id)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Completion = Annotated[StrictInt, Field(ge=1, le=1_000_000)]


class Body(BaseModel):
    """Request bodies: strict about types, silent about fields it does not know."""

    model_config = ConfigDict(extra="ignore", strict=True)


def validate(model: type[M], body: Any) -> M:
    """Raises invalid_request with a sentence that names the field."""
    if not isinstance(body, dict):
        raise ServiceError("invalid_request", "The body has to be a JSON object.")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        what = first["msg"].removeprefix("Value error, ")
        raise ServiceError(
            "invalid_request", f"{where}: {what[:1].lower()}{what[1:]}.", param=where
        ) from None


def query(text: str | None, field: str) -> str:
    """A message that says something. Raises query_empty."""
    if text is None or not text.strip():
        raise ServiceError("query_empty", f"{field} is empty; say something.", param=field)
    return text


class Encoder(ABC):
    """Events of one turn to the bytes of one reader, in order and from its cursor.

    `holds`: the status line waits for something to show, so that a refusal is an HTTP status.
    """

    name: ClassVar[str]
    media_type: ClassVar[str]
    holds: bool = True
    heartbeat: ClassVar[bytes] = b""
    headers: ClassVar[dict[str, str]] = {}

    def opening(self) -> bytes:
        """Bytes before the first event."""
        return b""

    @abstractmethod
    def shows(self, event: Event) -> bool:
        """Would a user see something of this event?"""

    @abstractmethod
    def encode(self, event: Event) -> bytes:
        """Raises service.errors.BrokenAnswer where only a broken connection tells the truth."""

    def failed(self, error: ServiceError) -> bytes | None:
        """How the reader is told that the log cannot be read on; None breaks the connection."""
        return None

    def reconnect(self) -> bytes | None:
        """How the reader is told to come back with its cursor; None breaks the connection."""
        return None
