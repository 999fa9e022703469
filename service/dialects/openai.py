"""OpenAI's chat completions: the body that its clients send, chunks and completions back.

The client's messages are the whole context; the session only keeps the last of them and the answer. The first
chunk has the role, with an empty text unless a tool call follows (the AI SDK would make a part of that text).
`usage` has a chunk of its own, only when asked for, and `[DONE]` is last. This dialect cannot take text back:
a restart after something was shown ends the stream with an error. Groq's clients get the same chunks, with
what Groq said of the call.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from service import events
from service.dialects.base import Encoder
from service.dialects.errors import openai_error
from service.errors import BrokenAnswer, ServiceError
from service.events import Event, provider
from service.parts import joined_calls

# Service tiers -> the names that OpenAI's types allow. Other tiers are left out.
_TIERS: Final = {"on_demand": "default", "performance": "priority"} | {
    name: name for name in ("auto", "default", "flex", "scale", "priority")
}


def restarted() -> ServiceError:
    return ServiceError("upstream_unavailable", "The answer was begun again; send the request again.")


class _Head:
    """The fields that are the same on all chunks of a turn."""

    def __init__(self, started: dict[str, Any]) -> None:
        self.fields = {
            "id": f"chatcmpl-{started['turn_id']}",
            "created": started["created"] // 1000,
            "model": started["model"],
        }
        self.groq_id = f"req_{started['turn_id']}"

    def describe(self, kind: str) -> dict[str, Any]:
        return {"id": self.fields["id"], "object": kind, **self.fields}


class StreamEncoder(Encoder):
    name = "openai"
    media_type = "text/event-stream; charset=utf-8"
    tells_stops = False
    heartbeat = b": keep-alive\n\n"

    def __init__(self, *, include_usage: bool = False, reasoning: bool = True, groq: bool = False) -> None:
        self._include_usage = include_usage
        self._groq = groq
        self._reasoning = reasoning
        self._shown = False
        self._groq_id = ""
        self._prefix = b""
        self._begun = False  # the role has been sent

    def shows(self, event: Event) -> bool:
        return event.name in events.SHOWN and (self._reasoning or event.name != events.REASONING)

    def encode(self, event: Event) -> bytes:
        name = event.name
        if name in events.SHOWN:
            if not self.shows(event):
                return b""
            self._shown = True
            return self._begin(text=name != events.TOOL_CALL) + self._delta(_content(event))
        if name == events.STARTED:
            head = _Head(event.data)
            self._groq_id = head.groq_id
            self._prefix = b"data: " + orjson.dumps(head.describe("chat.completion.chunk"))[:-1]
            return b""
        if name == events.RESTARTED and self._shown:
            raise restarted()
        if not event.terminal:
            return b""
        failure = self.failure(event)
        return self._ending(event) if failure is None else self.failed(failure)

    def _begin(self, *, text: bool) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._delta(b'{"role":"assistant","content":""}' if text else b'{"role":"assistant"}')

    def _delta(self, delta: bytes, reason: bytes = b"null", tail: bytes = b"") -> bytes:
        choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}' % (delta, reason)
        return self._prefix + b',"choices":[' + choice + b"]" + tail + b"}\n\n"

    def _ending(self, event: Event) -> bytes:
        told = PassedOn(event, self._groq_id, groq=self._groq)
        data = self._begin(text=True) + self._delta(
            b"{}", orjson.dumps(event.data["finish_reason"]), _more(told.last_chunk())
        )
        if self._include_usage:
            data += self._prefix + b',"choices":[]' + _more(told.usage_chunk()) + b"}\n\n"
        return data + b"data: [DONE]\n\n"

    def failed(self, error: ServiceError) -> bytes:
        if self._groq and error.provider is not None:  # as Groq sends it, status included
            words = openai_error(error)["error"]
            return b"event: error\n" + _data({"error": {**words, "status_code": error.status}})
        return _error(error)

    def reconnect(self) -> bytes:
        return _error(ServiceError("draining", "This replica is shutting down; send the request again."))


class CompletionEncoder(Encoder):
    """The answer in one piece: shows nothing before its end.

    A failure is an HTTP status while the head is held, then a broken connection: an error object under
    status 200 would be taken for an answer.
    """

    name = "openai"
    media_type = "application/json"
    tells_stops = False
    heartbeat = b" "  # JSON may begin with white space

    def __init__(self, *, reasoning: bool = True, groq: bool = False) -> None:
        self._keep_reasoning = reasoning
        self._groq = groq
        self._head = _Head({"turn_id": "", "created": 0, "model": ""})
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []

    def encode(self, event: Event) -> bytes:
        name = event.name
        if name == events.DELTA:
            self._text.append(event.text)
        elif name == events.REASONING and self._keep_reasoning:
            self._reasoning.append(event.text)
        elif name == events.TOOL_CALL:
            self._calls.append(event.data)
        elif name == events.STARTED:
            self._head = _Head(event.data)
        elif name == events.RESTARTED:
            self._text, self._reasoning, self._calls = [], [], []
        elif self.failure(event) is not None:
            raise BrokenAnswer(name)
        elif event.terminal:
            return self._whole(event)
        return b""

    def _whole(self, event: Event) -> bytes:
        calls = joined_calls(self._calls)
        text = "".join(self._text)
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
        if self._reasoning:
            message["reasoning"] = "".join(self._reasoning)
        if calls:
            message["tool_calls"] = calls
        told = PassedOn(event, self._head.groq_id, groq=self._groq)
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": event.data["finish_reason"],
        }
        return orjson.dumps(
            {
                **self._head.describe("chat.completion"),
                "choices": [choice],
                **told.completion(),
            }
        )


def _content(event: Event) -> bytes:
    if event.name == events.DELTA:
        return b'{"content":' + orjson.dumps(event.text) + b"}"
    if event.name == events.REASONING:
        return b'{"reasoning":' + orjson.dumps(event.text) + b"}"
    return b'{"tool_calls":[' + orjson.dumps(event.data) + b"]}"


def _more(fields: dict[str, Any]) -> bytes:
    """The fields as JSON, to be put behind others of an object."""
    return b"," + orjson.dumps(fields)[1:-1]


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _error(error: ServiceError) -> bytes:
    return _data(openai_error(error))


class PassedOn:
    """What the provider said besides its answer, from the terminal event of a turn.

    `groq`: for Groq's clients (below /openai) Groq's own fields, as they came; else the fields and values
    that OpenAI's types allow, and an `x_groq` of ours. `call` is our own id of the call.
    """

    def __init__(self, event: Event, call: str, *, groq: bool) -> None:
        said = provider(event.data) or {}
        self._groq = groq
        self._fingerprint = said.get("system_fingerprint")
        self._tier = said.get("service_tier") if groq else _TIERS.get(said.get("service_tier", ""))
        self._x_groq: dict[str, Any] = {"id": said.get("id", call) if groq else call}
        if groq and "seed" in said:
            self._x_groq["seed"] = said["seed"]
        self.usage: dict[str, Any] = {**event.data["usage"], **(said.get("times", {}) if groq else {})}

    def _known(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Unknown fields are null for Groq's clients, and left out for OpenAI's."""
        return fields if self._groq else {name: value for name, value in fields.items() if value is not None}

    def completion(self) -> dict[str, Any]:
        """Fields of an answer in one piece."""
        fields = {"system_fingerprint": self._fingerprint, "service_tier": self._tier}
        return {"usage": self.usage, **self._known(fields), "x_groq": self._x_groq}

    def last_chunk(self) -> dict[str, Any]:
        """Fields of the chunk that has the finish_reason."""
        fields = {"system_fingerprint": self._fingerprint} if self._fingerprint else {}
        if self._groq:
            fields["usage"] = self.usage  # Groq's clients get it without asking
        return {**fields, "x_groq": {**self._x_groq, "usage": self.usage}}

    def usage_chunk(self) -> dict[str, Any]:
        """Fields of the extra chunk that `stream_options.include_usage` asks for."""
        return {"usage": self.usage, **self._known({"service_tier": self._tier})}
