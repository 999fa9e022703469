"""text/plain: the original contract. The body is the answer's text and nothing else.

A clean end of the body says that the answer is complete, so a failure after the first byte is a
broken connection.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictStr

from service import events, ids
from service.dialects.base import (
    MAX_HISTORY,
    Body,
    Completion,
    Encoder,
    SessionId,
    SystemPrompt,
    Temperature,
    given,
    query,
    validate,
)
from service.engine.sends import OnBusy, Send
from service.errors import BrokenAnswer, ServiceError
from service.events import Event


class HistoryItem(Body):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["user", "assistant"]
    content: StrictStr


class ChatBody(Body):
    """`POST /chat`"""

    user_query: StrictStr | None = Field(None, examples=["Why is the sky blue?"])
    system_prompt: SystemPrompt | None = Field(None, examples=["You are a helpful AI assistant."])
    session_id: SessionId | None = None
    model: StrictStr | None = None
    temperature: Temperature | None = None
    max_completion_tokens: Completion | None = None
    on_busy: OnBusy | None = None


class ChatWithHistoryBody(ChatBody):
    """`POST /chat-with-history`"""

    history: Annotated[list[HistoryItem], Field(max_length=MAX_HISTORY, fail_fast=True)] | None = None


def parse(body: Any, principal: str, session_header: str | None = None, *, with_history: bool) -> Send:
    """`session_header` names the session where the body does not. Raises query_empty, invalid_request."""
    if isinstance(body, dict) and "user_query" not in body:
        raise ServiceError("query_empty", "user_query is missing; say something.", param="user_query")
    chat = validate(ChatWithHistoryBody if with_history else ChatBody, body)
    if session_header:
        ids.check_session_id(session_header)
    history = (chat.history or []) if isinstance(chat, ChatWithHistoryBody) else []
    return Send(
        route="chat-with-history" if with_history else "chat",
        principal=principal,
        content=query(chat.user_query, "user_query"),
        session_id=chat.session_id or session_header or None,
        model=chat.model,
        system=chat.system_prompt or None,
        params=given(chat, ("temperature", "max_completion_tokens")),
        # Pages send an empty placeholder for an answer that failed or was stopped before any text.
        seeds=[{"role": item.role, "content": item.content} for item in history if item.content.strip()],
        on_busy=chat.on_busy or "reject",
        on_busy_asked=chat.on_busy is not None,
        shows="text",
    )


class TextEncoder(Encoder):
    name = "text"
    media_type = "text/plain; charset=utf-8"
    tells_stops = False

    def __init__(self) -> None:
        self._shown = False

    def shows(self, event: Event) -> bool:
        return event.name == events.DELTA

    def encode(self, event: Event) -> bytes:
        if event.name == events.DELTA:
            self._shown = True
            return event.payload[1:]
        if (event.name == events.RESTARTED and self._shown) or self.failure(event):
            raise BrokenAnswer(event.name)
        return b""
