"""What every dialect has: a parser from a body to a Send, and an encoder from events to bytes.

A dialect is a pure function over the same log. None talks to Redis or Groq, and none has an
engine path of its own. The envelopes of errors before the first byte are errors.py's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError
from pydantic_core import ErrorDetails

from service import ids
from service.dialects.errors import from_event, unread
from service.errors import ServiceError
from service.events import FAILED, Event

M = TypeVar("M", bound=BaseModel)
V = TypeVar("V")

#: Messages of a context that a caller sends as a whole: with 64 tokens each they fill the largest context
#: window of the shipped models (131,072 tokens).
MAX_MESSAGES: Final = 2_000
#: Messages that a new session may begin with. They are stored by one script, 3 us each: 3 ms of Redis.
MAX_HISTORY: Final = 1_000
#: Tools of a call, and calls in a message, as at OpenAI and Groq.
MAX_TOOLS: Final = 128
#: Characters of a system prompt that a session keeps. Lists of sessions show it, so it is less than a body
#: may have: some 16,000 tokens, an eighth of what the largest models take.
LONGEST_SYSTEM_PROMPT: Final = 65_536
#: In bytes of UTF-8: two per character, as the scripts of Europe and the Near East need.
MOST_PROMPT_BYTES: Final = 131_072


def _session_id(value: str) -> str:
    if not ids.is_session_id(value):
        raise ValueError("has to be 1 to 128 characters out of letters, digits and _ . : -")
    return value


def _printable(value: str) -> str:
    if ids.has_control(value):
        raise ValueError("must not hold control characters")
    return value


def bytes_of(value: Any) -> int:
    """Bytes in UTF-8: of a text as it is, of anything else as JSON."""
    return len(value.encode() if isinstance(value, str) else orjson.dumps(value))


def nests_deeper(value: Any, levels: int) -> bool:
    """Has the value more than `levels` levels below it? Looked at level by level; scalars cost nothing."""
    level = [value]
    for _ in range(levels + 1):
        below: list[Any] = []
        for one in level:
            children = one.values() if type(one) is dict else one if type(one) is list else ()
            below += [child for child in children if type(child) is dict or type(child) is list]
        if not below:
            return False
        level = below
    return True


def at_most(count: int) -> AfterValidator:
    """A bound in bytes for what is kept with a turn or a session: a character takes up to four."""

    def check(value: V) -> V:
        if value is not None and bytes_of(value) > count:
            raise ValueError(f"has more than {count} bytes")
        return value

    return AfterValidator(check)


SessionId = Annotated[StrictStr, AfterValidator(_session_id)]
SystemPrompt = Annotated[StrictStr, Field(max_length=LONGEST_SYSTEM_PROMPT), at_most(MOST_PROMPT_BYTES)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=200), AfterValidator(_printable)]
MessageId = Name
#: an id or a name that is passed on to the provider (OpenAI's have up to 64 characters)
Label = Annotated[StrictStr, at_most(512)]
#: a text at which the answer ends; Groq takes up to four
StopText = Annotated[StrictStr, at_most(1_024)]
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
        path, what = _told(error.errors(include_url=False, include_context=False, include_input=False), body)
        where = ".".join(path) or "body"
        raise ServiceError(
            "invalid_request", f"{where}: {what[:1].lower()}{what[1:]}.", param=where
        ) from None


def _told(errors: list[ErrorDetails], body: Any) -> tuple[list[str], str]:
    """The path of the first wrong field, and what is wrong with it.

    Where a field may have one of several types, pydantic has an error for each of them. The best is that of
    the type which the value has: the others only say that it is not of their type.
    """
    first, told = _path(errors[0], body)[0], errors[0]
    for error in errors:
        path, other_type = _path(error, body)
        if path[: len(first)] != first:
            break
        if not other_type:
            first, told = path, error
            break
    return first, told["msg"].removeprefix("Value error, ")


def _path(error: ErrorDetails, body: Any) -> tuple[list[str], bool]:
    """The path, without pydantic's names of types; and whether the error is only that of a wrong type."""
    path: list[str] = []
    value, loc, is_type = body, error["loc"], False
    for place, part in enumerate(loc):
        missing = error["type"] == "missing" and place == len(loc) - 1
        known = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int)
        )
        is_type = not known and not missing
        if not is_type:
            path.append(str(part))
            value = None if missing else value[part]
    return path, is_type and error["type"].endswith("_type")


def invalid(where: str, what: str) -> ServiceError:
    return ServiceError("invalid_request", f"{where}: {what}", param=where)


def unsupported(where: str, sentence: str) -> ServiceError:
    return ServiceError("unsupported_parameter", sentence, param=where)


def refuse_unsupported(body: Any, harmless: Mapping[str, Collection[Any]]) -> None:
    """Fields that are not supported may only have harmless values. Raises unsupported_parameter."""
    for name, values in harmless.items():
        if isinstance(body, dict) and body.get(name) not in values:
            raise unsupported(name, f"{name} is not supported.")


def given(model: BaseModel, names: Iterable[str]) -> dict[str, Any]:
    """The named fields that are not null."""
    return {name: value for name in names if (value := getattr(model, name)) is not None}


def query(text: str | None, field: str) -> str:
    """The text, which must not be blank. Raises query_empty."""
    if text is None or not text.strip():
        raise ServiceError("query_empty", f"{field} is empty; say something.", param=field)
    return text


def kept_prompt(text: str | None) -> str | None:
    """A system prompt as a session keeps it: None where it is too long."""
    if text is None or len(text) > LONGEST_SYSTEM_PROMPT or bytes_of(text) > MOST_PROMPT_BYTES:
        return None
    return text


class Encoder(ABC):
    """Events of one turn to the bytes of one reader, in order and from its cursor.

    `holds`: the status line waits for the first event to show, for CHAT_HOLD_SECONDS at most, so that a
    refusal before it is an HTTP status. `heartbeat` is sent in a quiet stream: no content for any client.
    `tells_stops`: the dialect can say that an answer was stopped.
    """

    name: ClassVar[str]
    media_type: ClassVar[str]
    holds: bool = True
    heartbeat: ClassVar[bytes] = b""
    headers: ClassVar[dict[str, str]] = {}
    tells_stops: ClassVar[bool] = True

    def opening(self) -> bytes:
        """Bytes before the first event."""
        return b""

    def shows(self, event: Event) -> bool:
        """Does a user see something of this event at once? Never in an answer in one piece."""
        return False

    @abstractmethod
    def encode(self, event: Event) -> bytes:
        """Raises service.errors.BrokenAnswer where only a broken connection tells the truth."""

    def failure(self, event: Event) -> ServiceError | None:
        """The error, if this event says that the answer has failed."""
        if event.name == FAILED:
            return from_event(event.data)
        return None if self.tells_stops else unread(event)

    def failed(self, error: ServiceError) -> bytes | None:
        """Bytes that tell the reader that the log cannot be read on; None breaks the connection."""
        return None

    def reconnect(self) -> bytes | None:
        """Bytes that tell the reader to come back with its cursor; None breaks the connection."""
        return None
