"""The UI message stream of Vercel's AI SDK (useChat): its chunks. Requests: aisdk_request.py.

Chunks have no extra keys and no nulls (the schemas were strict for years). The id of a chunk is
`<turn>.<event>.<k>`: the encoder is a pure function of the log, so a reader who comes back is sent
exactly what follows the id it had.

A restart cannot take text back in a stream, except by `reset-step`, which only later versions of
AI SDK 7 know and a client has to ask for. For other clients the stream breaks there, and the replay
that follows leaves the void text out (docs/decisions).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import orjson

from service import events, ids, parts
from service.dialects.base import Encoder, nests_deeper
from service.dialects.errors import from_event, sentence
from service.errors import BrokenAnswer, ServiceError
from service.events import Event
from service.parts import Part
from service.usage import detail

_CURSOR: Final = re.compile(r"(t_[a-z0-9]{1,60})\.(\d{1,15})\.(\d{1,6})", re.ASCII)
# Levels, and objects and lists, of a tool's arguments that are sent as a value; the same as for a body.
_MOST_LEVELS: Final = 64
_MOST_CONTAINERS: Final = 20_000
_DETAILS: Final = ("reasoningTokens", "cachedInputTokens")
_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
}


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
        self,
        turn_id: str,
        *,
        after: Cursor | None = None,
        resets: bool = False,
        holds: bool = True,
        before: Sequence[Part] = (),
    ) -> None:
        self._turn = turn_id.encode()
        self._after = (after.seq, after.k) if after else (0, 0)
        self._resets = resets
        # A reader that comes back has been shown something already: its status line does not wait.
        self.holds = holds and after is None
        self._shown = after is not None and after.seq > 1
        self._before = before  # earlier rounds of the answer, for a page that builds all of it anew
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
            message_id = started.get("message_id") or ids.answer_id(started["turn_id"])
            start = _chunk("start", messageId=message_id, messageMetadata=metadata)
            return [start, *_retold(self._before), _chunk("start-step")]
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
        """The metadata at the end; a page that is loaded later finds the same in the history."""
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
        else:
            call.name += function.get("name") or ""  # which may come in pieces
        if function.get("arguments"):
            call.arguments += function["arguments"]
            chunks.append(
                _chunk("tool-input-delta", toolCallId=call.id, inputTextDelta=function["arguments"])
            )
        return chunks

    def _finish_calls(self) -> list[bytes]:
        return [
            _chunk(
                "tool-input-available",
                toolCallId=call.id,
                toolName=call.name,
                input=given_input(call.arguments),
            )
            for call in self._calls.values()
        ]

    def _restart(self, event: Event) -> list[bytes]:
        self._open, self._calls = None, {}
        if self._shown and event.id > self._after[0] and not self._resets:
            raise BrokenAnswer("the text so far is void")
        shown, self._shown = self._shown, False
        return [_chunk("reset-step")] if shown else []

    def failed(self, error: ServiceError) -> bytes | None:
        """If a repeat may help, the stream breaks, so that the reader comes back; else it gets the error."""
        return None if error.retryable else b"data: %b\n\n" % _error(error)


def _retold(before: Sequence[Part]) -> list[bytes]:
    """Earlier rounds of an answer, each as a step that is over."""
    chunks: list[bytes] = []
    for number, one in enumerate(parts.rounds(before)):
        chunks.append(_chunk("start-step"))
        for place, part in enumerate(one):
            chunks += _retold_part(part, f"before-{number}-{place}")
        chunks.append(_chunk("finish-step"))
    return chunks


def _retold_part(part: Part, name: str) -> list[bytes]:
    kind = part["type"]
    if kind == parts.CALL:
        called = {"toolCallId": part["id"], "toolName": part["name"], "input": given_input(part["arguments"])}
        return [_chunk("tool-input-available", **called)]
    if kind == parts.RESULT and part.get("is_error"):
        return [_chunk("tool-output-error", toolCallId=part["tool_call_id"], errorText=part["content"])]
    if kind == parts.RESULT:
        return [_chunk("tool-output-available", toolCallId=part["tool_call_id"], output=given_output(part))]
    if "text" not in part:
        return []
    kind = "reasoning" if kind == parts.REASONING else "text"
    return [
        _chunk(f"{kind}-start", id=name),
        _chunk(f"{kind}-delta", id=name, delta=part["text"]),
        _chunk(f"{kind}-end", id=name),
    ]


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    arguments: str


def _chunk(kind: str, **fields: Any) -> bytes:
    return orjson.dumps({"type": kind, **fields})


def _error(error: ServiceError) -> bytes:
    return _chunk("error", errorText=sentence(error))


def given_input(arguments: str) -> Any:
    """The arguments of a tool as a value; as text where they are no JSON: who runs the tool checks them.

    Also as text where the JSON is too large to parse quickly or too deep: orjson reads more levels than it
    writes.
    """
    if arguments.count("[") + arguments.count("{") > _MOST_CONTAINERS:
        return arguments
    try:
        given = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return arguments
    return arguments if nests_deeper(given, _MOST_LEVELS) else given


def given_output(result: Part) -> Any:
    """The result of a tool, in the type that it was sent in."""
    return orjson.loads(result["content"]) if result.get("json") else result["content"]


def ended_metadata(
    state: str, finish_reason: str | None, model: str, usage: dict[str, Any] | None
) -> dict[str, Any]:
    """Metadata of an answer that has ended, in a stream or in the history. A failure's reason is `error`."""
    reason = "error" if state == "failed" else _REASONS.get(finish_reason or "", "other")
    found = {"state": state, "finishReason": reason, "model": model}
    return {**found, "usage": _usage(usage)} if usage else found


def _usage(usage: dict[str, Any]) -> dict[str, int]:
    """Usage by the AI SDK's names; details only where the provider has told them."""
    told = {
        "inputTokens": usage["prompt_tokens"],
        "outputTokens": usage["completion_tokens"],
        "totalTokens": usage["total_tokens"],
        "reasoningTokens": detail(usage, "reasoning_tokens"),
        "cachedInputTokens": detail(usage, "cached_tokens"),
    }
    return {name: tokens for name, tokens in told.items() if tokens or name not in _DETAILS}
