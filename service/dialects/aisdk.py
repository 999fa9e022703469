"""The UI message stream of Vercel's AI SDK (useChat): its requests and its chunks.

The server's texts are the truth, the page's list says which of them there still are: of a request count
the last message of the user and the ids before it, whose texts only where the server has nothing.
Chunks have no extra keys and no nulls (the schemas were strict for years). The id of a chunk is
`<turn>.<event>.<k>`: the encoder is a pure function of the log, so a reader who comes back is sent
exactly what follows the id it had.

A restart cannot take text back in a stream, except by `reset-step`, which only later versions of
AI SDK 7 know and a client has to ask for. Anybody else's stream breaks there, and the replay
that follows leaves the void text out (docs/decisions).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, Literal, NotRequired

import orjson
from pydantic import ConfigDict, Field, StrictStr
from typing_extensions import TypedDict

from service import events, ids
from service.dialects.base import MAX_HISTORY, Body, Encoder, MessageId, SessionId, query, validate
from service.dialects.errors import from_event, sentence
from service.engine.sends import OnBusy, Send
from service.errors import BrokenAnswer, ServiceError
from service.events import Event
from service.usage import detail

_CURSOR: Final = re.compile(r"(t_[a-z0-9]{1,60})\.(\d{1,15})\.(\d{1,6})", re.ASCII)
_DETAILS: Final = ("reasoningTokens", "cachedInputTokens")
_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
}


# A page sends its whole chat each time; of a longer one the newest are looked at, the message among them.
_MESSAGES: Final = MAX_HISTORY + 1
# Of those before it so many may be unknown to the server in a row: what it refused, which the page keeps.
_LINEAGE: Final = 64


class Part(TypedDict):
    """A dict, since a page sends thousands of them: an object each would be dear."""

    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]  # pydantic's own way to say it
    type: StrictStr
    text: NotRequired[StrictStr | None]


class UIMessage(Body):
    id: MessageId
    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[Part], Field(fail_fast=True)]

    @cached_property
    def text(self) -> str:
        return "".join([part.get("text") or "" for part in self.parts if part["type"] == "text"])

    @property
    def has_files(self) -> bool:
        return any(part["type"] == "file" for part in self.parts)

    @property
    def seeds(self) -> bool:
        """A page keeps what was refused for good: blank messages, and those of the user with files."""
        refused = not self.text.strip() or (self.role == "user" and self.has_files)
        return self.role != "system" and not refused


class UseChatBody(Body):
    """`POST /api/chat` as DefaultChatTransport sends it; fields that are not listed are ignored."""

    id: SessionId
    messages: Annotated[list[UIMessage], Field(min_length=1, fail_fast=True)]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: MessageId | None = None
    model: StrictStr | None = None
    on_busy: OnBusy | None = None


def parse(body: Any, principal: str) -> Send:
    """A submit, an edit (a submit that names its message) or a regenerate.

    The last two become a submit where the server does not know the message: its turn was
    refused before it began, or the history is lost. Raises invalid_request, query_empty.
    """
    if isinstance(body, dict) and isinstance(messages := body.get("messages"), list):
        body = {**body, "messages": messages[-_MESSAGES:]}
    chat = validate(UseChatBody, body)
    asked = [i for i, message in enumerate(chat.messages) if message.role == "user"]
    again = chat.trigger == "regenerate-message"
    edited = not again and chat.messageId is not None
    if edited:
        asked = [i for i in asked if chat.messages[i].id == chat.messageId]
    if not asked or (not again and not edited and asked[-1] != len(chat.messages) - 1):
        raise ServiceError("invalid_request", "The last message has to be one of the user.")
    last, before = chat.messages[asked[-1]], chat.messages[: asked[-1]]
    if last.has_files:
        raise ServiceError("unsupported_parameter", "Files are not supported; send text.", param="messages")
    return Send(
        route="aisdk",
        principal=principal,
        content=query(last.text, "The message"),
        session_id=chat.id,
        mode="regenerate" if again else "edit" if edited else "append",
        message_id=last.id,
        model=chat.model,
        on_busy=chat.on_busy or "interrupt",
        on_busy_asked=chat.on_busy is not None,
        key=None if again or edited else last.id,
        seeds=[
            {"id": message.id, "role": message.role, "content": message.text}
            for message in before
            if message.seeds
        ],
        seeds_required=False,
        before=_lineage(before, body),
    )


def _lineage(before: list[UIMessage], body: dict[str, Any]) -> list[str]:
    """What the page's list says of the history: what is not in it, it has cut off.

    A message alone says nothing, since pages may send the newest only; but assistant-ui, whose bodies have
    `tools`, always sends all that there is.
    """
    if not before:
        return [""] if "tools" in body else []
    return [message.id for message in reversed(before) if message.role != "system"][:_LINEAGE]


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """The chunk that a reader has seen last."""

    seq: int
    k: int
    turn_id: str = ""

    @classmethod
    def parse(cls, value: str) -> Cursor:
        """Raises bad_cursor."""
        found = _CURSOR.fullmatch(value)
        if found is None:
            raise ServiceError("bad_cursor", "Last-Event-ID has to be the id of a chunk of this chat.")
        return cls(int(found[2]), int(found[3]), found[1])


class AiSdkEncoder(Encoder):
    name = "aisdk"
    media_type = "text/event-stream"
    heartbeat = b": keep-alive\n\n"
    headers: ClassVar[dict[str, str]] = {"x-vercel-ai-ui-message-stream": "v1"}

    def __init__(
        self, turn_id: str, *, after: Cursor | None = None, resets: bool = False, holds: bool = True
    ) -> None:
        self._turn = turn_id.encode()
        self._after = (after.seq, after.k) if after else (0, 0)
        self._resets = resets
        # Whoever comes back has been shown something: its status line waits for nothing.
        self.holds = holds and after is None
        self._shown = after is not None and after.seq > 1
        self._open: tuple[str, str] | None = None
        self._calls: dict[int, _Call] = {}
        self._model = ""

    def shows(self, event: Event) -> bool:
        return event.name in events.SHOWN

    def encode(self, event: Event) -> bytes:
        data = b""
        for k, chunk in enumerate(self._chunks(event)):
            if (event.id, k) > self._after:
                data += b"data: %b\nid: %b.%d.%d\n\n" % (chunk, self._turn, event.id, k)
        return data

    def _chunks(self, event: Event) -> list[bytes]:
        name = event.name
        if name == events.DELTA or name == events.REASONING:
            self._shown = True
            return self._piece("text" if name == events.DELTA else "reasoning", event)
        if name == events.TOOL_CALL:
            self._shown = True
            return self._call(event.data)
        if name == events.STARTED:
            started = event.data
            self._model = started["model"]
            metadata = {
                "turnId": started["turn_id"],
                "state": "running",
                "model": self._model,
                "createdAt": started["created"],
            }
            message_id = ids.answer_id(started["turn_id"])
            return [_chunk("start", messageId=message_id, messageMetadata=metadata), _chunk("start-step")]
        if name == events.ATTEMPT:
            self._model = event.data["model"]
        if name == events.RESTARTED:
            return self._restart(event)
        if name == events.COMPLETED:
            told = self._ended("completed", event.data)
            return [
                *self._close(),
                *self._finish_calls(),
                _chunk("finish-step"),
                _chunk("finish", finishReason=told["finishReason"], messageMetadata=told),
                b"[DONE]",
            ]
        if name in (events.STOPPED, events.FAILED):
            stopped = name == events.STOPPED
            told = self._ended("stopped" if stopped else "failed", event.data)
            last = _chunk("abort") if stopped else _error(from_event(event.data))
            return [*self._close(), _chunk("message-metadata", messageMetadata=told), last, b"[DONE]"]
        return []

    def _ended(self, state: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the end adds to the metadata of `start`; a page that is loaded later finds the same."""
        return ended_metadata(state, body.get("finish_reason"), self._model, body.get("usage"))

    def _piece(self, kind: str, event: Event) -> list[bytes]:
        chunks = []
        if self._open is None or self._open[0] != kind:
            chunks = self._close()
            self._open = (kind, f"{kind}-{event.id}")
            chunks.append(_chunk(f"{kind}-start", id=self._open[1]))
        chunks.append(_chunk(f"{kind}-delta", id=self._open[1], delta=event.text))
        return chunks

    def _close(self) -> list[bytes]:
        if self._open is None:
            return []
        kind, part = self._open
        self._open = None
        return [_chunk(f"{kind}-end", id=part)]

    def _call(self, delta: dict[str, Any]) -> list[bytes]:
        chunks = self._close()
        index, function = delta.get("index", 0), delta.get("function") or {}
        call = self._calls.get(index)
        if call is None:
            given = delta.get("id") or f"call-{self._turn.decode()}-{index}"
            call = self._calls[index] = _Call(given, function.get("name") or "", "")
            chunks.append(_chunk("tool-input-start", toolCallId=call.id, toolName=call.name))
        if function.get("arguments"):
            call.arguments += function["arguments"]
            chunks.append(
                _chunk("tool-input-delta", toolCallId=call.id, inputTextDelta=function["arguments"])
            )
        return chunks

    def _finish_calls(self) -> list[bytes]:
        chunks = []
        for call in self._calls.values():
            try:
                given = orjson.loads(call.arguments or "{}")
            except orjson.JSONDecodeError:
                given = call.arguments  # as the model wrote it; whoever runs the tool checks it anyway
            chunks.append(_chunk("tool-input-available", toolCallId=call.id, toolName=call.name, input=given))
        return chunks

    def _restart(self, event: Event) -> list[bytes]:
        self._open, self._calls = None, {}
        if self._shown and event.id > self._after[0] and not self._resets:
            raise BrokenAnswer("the text so far is void")
        shown, self._shown = self._shown, False
        return [_chunk("reset-step")] if shown else []

    def failed(self, error: ServiceError) -> bytes | None:
        """A reader breaks off and comes back where that may help, and is told otherwise."""
        return None if error.retryable else b"data: %b\n\n" % _error(error)


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    arguments: str


def _chunk(kind: str, **fields: Any) -> bytes:
    return orjson.dumps({"type": kind, **fields})


def _error(error: ServiceError) -> bytes:
    return _chunk("error", errorText=sentence(error))


def ended_metadata(
    state: str, finish_reason: str | None, model: str, usage: dict[str, Any] | None
) -> dict[str, Any]:
    """Of an answer that has ended, live or in the history. Failed ones have the reason `error`."""
    reason = "error" if state == "failed" else _REASONS.get(finish_reason or "", "other")
    found = {"state": state, "finishReason": reason, "model": model}
    return {**found, "usage": _usage(usage)} if usage else found


def _usage(usage: dict[str, Any]) -> dict[str, int]:
    """By the names that the AI SDK has for it; details where the provider told some."""
    told = {
        "inputTokens": usage["prompt_tokens"],
        "outputTokens": usage["completion_tokens"],
        "totalTokens": usage["total_tokens"],
        "reasoningTokens": detail(usage, "reasoning_tokens"),
        "cachedInputTokens": detail(usage, "cached_tokens"),
    }
    return {name: tokens for name, tokens in told.items() if tokens or name not in _DETAILS}
