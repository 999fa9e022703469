"""OpenAI's chat completions: the body that its clients send, chunks and completions back.

The client's messages are the whole context; the session only keeps the last of them and the
answer. The role comes first, `[DONE]` last, `usage` alone and only when asked for. This dialect
cannot take text back: a restart after something was shown ends the stream in its error form.
Groq's clients are served by the same chunks, with what Groq said of the call (passed_on.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

import orjson
from pydantic import ConfigDict, Field, StrictBool, StrictInt, StrictStr
from typing_extensions import TypedDict

from service import events, ids
from service.dialects.base import (
    MAX_HISTORY,
    MAX_MESSAGES,
    MAX_TOOLS,
    Body,
    Completion,
    Encoder,
    Label,
    SessionId,
    StopText,
    Temperature,
    at_most,
    query,
    validate,
)  # fmt: skip
from service.dialects.errors import from_event, openai_error
from service.dialects.passed_on import PassedOn
from service.dialects.prompts import kept
from service.engine.sends import OnBusy, Send
from service.errors import BrokenAnswer, ServiceError
from service.events import Event

# Ours -> OpenAI's; everything else has the same name on both sides.
_REASONS: Final = {"abandoned": "stop"}

# What would change the answer and cannot be had, with the values that ask for nothing.
_UNSUPPORTED: Final[dict[str, tuple[Any, ...]]] = {
    "n": (None, 1),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "audio": (None,),
    "modalities": (None, [], ["text"]),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
}
_PASSED_ON: Final = (
    "temperature", "top_p", "seed", "stop", "tools", "tool_choice", "parallel_tool_calls",
    "response_format", "reasoning_effort", "user",
)  # fmt: skip


# What is said of tools, and refused by Groq where there are none.
_OF_TOOLS: Final = ("tools", "tool_choice", "parallel_tool_calls")
# Parts of an assistant's message that are not of what it said: Groq takes none of them.
_THOUGHTS: Final = ("reasoning", "thinking", "redacted_thinking")


# Bytes of what is kept with a turn until it ends. Tools and formats count as tokens of the prompt as well;
# of a choice Groq takes one name.
_Tools = Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS, fail_fast=True), at_most(262_144)]
_Format = Annotated[dict[str, Any], at_most(65_536)]
_Choice = Annotated[StrictStr | dict[str, Any], at_most(1_024)]


# Dicts, since a call may hold thousands of them: an object each would be dear.
class Function(TypedDict):
    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]  # pydantic's own way to say it
    name: Label
    arguments: StrictStr


class ToolCall(TypedDict):
    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]  # see above
    id: Label
    type: NotRequired[Literal["function"]]
    function: Function


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Any = Field(None, description="a text, or a list of parts of type text")
    refusal: StrictStr | None = Field(None, description="an assistant's words where it has no content")
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_call_id: Label | None = None


class StreamOptions(Body):
    include_usage: StrictBool | None = None


class CompletionBody(Body):
    """`POST /v1/chat/completions`; fields that are not listed are ignored."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    model: StrictStr | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: StrictInt | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    max_completion_tokens: Completion | None = None
    max_tokens: Completion | None = None
    tools: _Tools | None = None
    tool_choice: _Choice | None = None
    parallel_tool_calls: StrictBool | None = None
    response_format: _Format | None = None
    reasoning_effort: Label | None = None
    reasoning_format: Label | None = None
    include_reasoning: StrictBool | None = None
    user: Label | None = None
    session_id: SessionId | None = None
    on_busy: OnBusy | None = None


def parse(
    body: Any, principal: str, session_header: str | None, *, groq: bool = False
) -> tuple[Send, Encoder]:
    """The send and how its answer is to be written; `groq`: at the address of Groq's clients.

    Raises invalid_request, unsupported_parameter, query_empty.
    """
    for name, harmless in _UNSUPPORTED.items():
        if isinstance(body, dict) and body.get(name) not in harmless:
            raise _unsupported(name, f"{name} is not supported.")
    call = validate(CompletionBody, body)
    if session_header:
        ids.check_session_id(session_header)
    messages = [_message(message, i) for i, message in enumerate(call.messages)]
    last = _asked(messages)
    params = {
        name: value
        for name in _PASSED_ON
        if (value := getattr(call, name)) is not None and (call.tools or name not in _OF_TOOLS)
    }
    if completion := call.max_completion_tokens or call.max_tokens:
        params["max_completion_tokens"] = completion
    system = [message["content"] for message in messages if message["role"] == "system"]
    send = Send(
        route="openai", principal=principal, content=query(messages[last]["content"], "messages"),
        session_id=call.session_id or session_header or None, model=call.model or None,
        system=kept(next((text for text in system if text.strip()), None)), params=params, messages=messages,
        seeds=[
            {"role": message["role"], "content": message["content"]}
            for message in messages[:last]
            if message["role"] in ("user", "assistant") and message["content"]
        ][-MAX_HISTORY:],
        seeds_required=False, on_busy=call.on_busy or "reject", on_busy_asked=call.on_busy is not None,
    )  # fmt: skip
    reasoning = call.include_reasoning is not False and call.reasoning_format != "hidden"
    send.shows = "end" if not call.stream else "all" if reasoning else "text"
    if not call.stream:
        return send, CompletionEncoder(reasoning=reasoning, groq=groq)
    usage = bool(call.stream_options and call.stream_options.include_usage)
    return send, StreamEncoder(include_usage=usage, reasoning=reasoning, groq=groq)


def _asked(messages: list[dict[str, Any]]) -> int:
    """The message that the session keeps as what was asked: the user's last one.

    Without any of the user's Groq takes a system message for one. Raises query_empty.
    """
    for role in ("user", "system"):
        found = [i for i, one in enumerate(messages) if one["role"] == role]
        if found:
            return found[-1]
    raise ServiceError("query_empty", "messages has no message of the user.", param="messages")


def _unsupported(param: str, sentence: str) -> ServiceError:
    return ServiceError("unsupported_parameter", sentence, param=param)


def _message(message: ChatMessage, index: int) -> dict[str, Any]:
    """Only what Groq's closed schemas take: role, content, tool_calls, tool_call_id."""
    assistant = message.role == "assistant"
    text = _text(message.content, f"messages.{index}.content", assistant=assistant)
    if assistant and message.content is None:
        text = message.refusal or ""
    kept: dict[str, Any] = {"role": message.role, "content": text}
    if message.role == "developer":
        kept["role"] = "system"
    elif message.role == "tool":
        kept["tool_call_id"] = message.tool_call_id or ""
    elif assistant and message.tool_calls:
        kept["content"] = text or None
        kept["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": call["function"]}
            for call in message.tool_calls
        ]
    return kept


def _text(content: Any, where: str, *, assistant: bool = False) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        raise ServiceError("invalid_request", f"{where}: has to be a text or a list of parts.", param=where)
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if assistant and kind in _THOUGHTS:
            continue
        if kind != "text" and not (assistant and kind == "refusal"):
            raise _unsupported(where, f"{where}: only parts of type text are supported.")
        if not isinstance(part.get(kind), str):
            raise ServiceError("invalid_request", f"{where}: a part's text has to be a string.", param=where)
        texts.append(part[kind])
    return "".join(texts)


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
    heartbeat = b": keep-alive\n\n"

    def __init__(self, *, include_usage: bool = False, reasoning: bool = True, groq: bool = False) -> None:
        self._include_usage = include_usage
        self._groq = groq
        self._reasoning = reasoning
        self._shown = False
        self._groq_id = ""
        self._prefix = b""

    def shows(self, event: Event) -> bool:
        return event.name in events.SHOWN and (self._reasoning or event.name != events.REASONING)

    def encode(self, event: Event) -> bytes:
        name = event.name
        if name in events.SHOWN:
            if not self.shows(event):
                return b""
            self._shown = True
            return self._delta(_content(event))
        if name == events.STARTED:
            head = _Head(event.data)
            self._groq_id = head.groq_id
            self._prefix = b"data: " + orjson.dumps(head.describe("chat.completion.chunk"))[:-1]
            return self._delta(b'{"role":"assistant","content":""}')
        if name == events.RESTARTED and self._shown:
            raise restarted()
        if name == events.FAILED:
            return self.failed(from_event(event.data))
        return self._ending(event) if event.terminal else b""

    def _delta(self, delta: bytes, reason: bytes = b"null", tail: bytes = b"") -> bytes:
        choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}' % (delta, reason)
        return self._prefix + b',"choices":[' + choice + b"]" + tail + b"}\n\n"

    def _ending(self, event: Event) -> bytes:
        told = PassedOn(event, self._groq_id, groq=self._groq)
        data = self._delta(b"{}", orjson.dumps(_reason(event)), _more(told.last_chunk()))
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
    heartbeat = b" "  # JSON may begin with white space

    def __init__(self, *, reasoning: bool = True, groq: bool = False) -> None:
        self._keep_reasoning = reasoning
        self._groq = groq
        self._head = _Head({"turn_id": "", "created": 0, "model": ""})
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []

    def shows(self, event: Event) -> bool:
        return False

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
        elif name == events.FAILED:
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
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(event)}
        return orjson.dumps({
            **self._head.describe("chat.completion"), "choices": [choice], **told.completion(),
        })  # fmt: skip


def _content(event: Event) -> bytes:
    if event.name == events.DELTA:
        return b'{"content":' + orjson.dumps(event.text) + b"}"
    if event.name == events.REASONING:
        return b'{"reasoning":' + orjson.dumps(event.text) + b"}"
    return b'{"tool_calls":[' + orjson.dumps(event.data) + b"]}"


def _more(fields: dict[str, Any]) -> bytes:
    """Fields behind others of an object."""
    return b"," + orjson.dumps(fields)[1:-1]


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _error(error: ServiceError) -> bytes:
    return _data(openai_error(error))


def _reason(event: Event) -> str:
    reason = str(event.data["finish_reason"])
    return _REASONS.get(reason, reason)


def joined_calls(deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls put together by their index, as clients of a stream do."""
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        function = delta.get("function") or {}
        call = calls.setdefault(
            delta.get("index", 0), {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = delta.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
    return list(calls.values())
