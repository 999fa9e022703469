"""The native dialect: Server-Sent Events with the log's own ids, names and bodies.

`id:` is the last line of each event: a client that commits an id when it sees the line has then
seen the whole event (a cut in between loses nothing). Readers resume with `Last-Event-ID`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Final, Literal

import orjson
from pydantic import Field, StrictBool, StrictInt, StrictStr

from service import events
from service.dialects import pictures
from service.dialects.base import (
    Body,
    Completion,
    Encoder,
    MessageId,
    SessionId,
    StopText,
    SystemPrompt,
    Temperature,
    query,
    validate,
)
from service.dialects.tools import ToolFields, ToolResults, tool_params
from service.engine.sends import OnBusy, Send
from service.engine.session_watch import SessionEvent
from service.errors import ServiceError, StoreUnavailable
from service.events import Event

# Readers of a replica that went away come back after a random time in this range (ms).
_RETRY_MS: Final = (500, 1500)
Title = Annotated[StrictStr, Field(max_length=200)]  # 800 bytes


class Params(ToolFields):
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_completion_tokens: Completion | None = None
    seed: StrictInt | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    reasoning_effort: Literal["none", "default", "low", "medium", "high"] | None = None


_PLAIN_PARAMS: Final = set(Params.model_fields) - set(ToolFields.model_fields)


#: texts and images, as OpenAI has them or as `{"type": "image", "url" | "ref"}`
Parts = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=100)]


class Edit(Body):
    message_id: MessageId
    content: StrictStr | Parts


class TurnBody(ToolFields):
    """`POST /v1/sessions/{s}/turns`: one of content, regenerate, edit, tool_results, continue.

    Tools and the form of the answer may stand here or in `params`.
    """

    content: StrictStr | Parts | None = Field(None, examples=["Why is the sky blue?"])
    regenerate: StrictBool | None = None
    edit: Edit | None = None
    tool_results: ToolResults | None = Field(None, description="for all calls of the newest answer")
    go_on: StrictBool | None = Field(
        None, alias="continue", description="true: the rest of the newest answer, which was cut"
    )
    message_id: MessageId | None = None
    model: StrictStr | None = None
    params: Params | None = None
    on_busy: OnBusy | None = None


class SessionBody(Body):
    """`POST /v1/sessions`"""

    id: SessionId | None = None
    title: Title | None = None
    model: StrictStr | None = None
    system_prompt: SystemPrompt | None = None


class SessionPatch(Body):
    """`PATCH /v1/sessions/{s}`; null takes a value away. `version` puts an earlier one back."""

    title: Title | None = None
    model: StrictStr | None = None
    system_prompt: SystemPrompt | None = None
    version: Annotated[StrictStr, Field(max_length=100)] | None = None


def parse(body: Any, principal: str, session_id: str) -> Send:
    """Raises query_empty, invalid_request."""
    turn = validate(TurnBody, body)
    ways = [
        turn.content is not None,
        bool(turn.regenerate),
        turn.edit is not None,
        turn.tool_results is not None,
        bool(turn.go_on),
    ]
    if sum(ways) > 1:
        raise ServiceError(
            "invalid_request", "Give one of content, regenerate, edit, tool_results and continue."
        )
    params = turn.params.model_dump(exclude_none=True, include=_PLAIN_PARAMS) if turn.params else {}
    params |= tool_params(turn.params) if turn.params else {}
    params |= tool_params(turn)
    send = Send(
        route="turns",
        principal=principal,
        content="",
        session_id=session_id,
        model=turn.model,
        params=params,
        on_busy=turn.on_busy or "reject",
        on_busy_asked=turn.on_busy is not None,
        message_id=turn.message_id,
    )
    if turn.edit is not None:
        send.mode, send.must_exist = "edit", True
        send.message_id = turn.edit.message_id
        _say(send, turn.edit.content, "edit.content")
    elif turn.regenerate:
        send.mode, send.must_exist = "regenerate", True
    elif turn.tool_results is not None or turn.go_on:
        send.mode, send.must_exist = "continue", True
        send.results = [result.part() for result in turn.tool_results or ()]
    else:
        _say(send, turn.content, "content")
    return send


def _say(send: Send, content: str | list[dict[str, Any]] | None, where: str) -> None:
    """Raises query_empty, invalid_request, unsupported_parameter."""
    found = pictures.said(content, where) if isinstance(content, list) else []
    text = pictures.text_of(found) if isinstance(content, list) else content
    if pictures.pictured(found):
        send.content, send.parts = text or "", found
    else:
        send.content = query(text, where)


def frame(event: Event) -> bytes:
    """The SSE frame of an event, encoded once for all its readers."""
    data = event.frames.get("native")
    if data is None:
        if event.name in (events.DELTA, events.REASONING):
            body = b'{"text":' + orjson.dumps(event.text) + b"}"
        else:
            body = event.payload[event.payload.index(b" ") + 1 :]
            if event.terminal and events.provider(event.data):
                body = orjson.dumps(events.without_provider(event.data))
        data = b"event: %b\ndata: %b\nid: %d\n\n" % (event.name.encode(), body, event.id)
        event.frames["native"] = data
    return data


async def session_frames(found: AsyncIterator[SessionEvent | None]) -> AsyncIterator[bytes]:
    """The events of a session as SSE. When the store fails the stream ends, and its reader comes back."""
    yield b"retry: %d\n\n" % random.randint(*_RETRY_MS)
    with suppress(StoreUnavailable):
        async for event in found:
            if event is None:
                yield NativeEncoder.heartbeat
                continue
            data = b"event: %b\ndata: %b\n" % (event.name.encode(), orjson.dumps(event.data))
            yield data + (b"id: %d\n\n" % event.id if event.id else b"\n")


class NativeEncoder(Encoder):
    name = "native"
    media_type = "text/event-stream; charset=utf-8"
    holds = False
    heartbeat = b": heartbeat\n\n"
    headers: ClassVar[dict[str, str]] = {"X-Accel-Buffering": "no"}

    def opening(self) -> bytes:
        return b"retry: %d\n\n" % random.randint(*_RETRY_MS)

    def shows(self, event: Event) -> bool:
        return True

    def encode(self, event: Event) -> bytes:
        return frame(event)

    def reconnect(self) -> bytes:
        return b": this replica is shutting down, reconnect\nretry: %d\n\n" % random.randint(*_RETRY_MS)
