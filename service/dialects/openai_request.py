"""OpenAI's `POST /chat/completions`: a checked body to a `Send`. Answers: openai.py."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import ConfigDict, Field, StrictBool, StrictInt, StrictStr
from typing_extensions import TypedDict

from service import ids, parts
from service.dialects import pictures
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
    given,
    invalid,
    kept_prompt,
    refuse_unsupported,
    unsupported,
    validate,
)
from service.dialects.openai import CompletionEncoder, StreamEncoder
from service.dialects.tools import ToolFields, go_on, tool_params
from service.engine.sends import OnBusy, Send
from service.errors import ServiceError
from service.parts import folded

# Fields that would change the answer and are not supported, with the values that change nothing.
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
    "temperature",
    "top_p",
    "seed",
    "stop",
    "reasoning_effort",
    "user",
)


# Parts of an assistant's message that are thoughts: Groq does not take them.
_THOUGHTS: Final = ("reasoning", "thinking", "redacted_thinking")


# Dicts, since a request may hold thousands of them and objects take more time.
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
    content: Any = Field(None, description="a text, or a list of parts: text, and of the user image_url")
    refusal: StrictStr | None = Field(None, description="an assistant's words where it has no content")
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_call_id: Label | None = None


class StreamOptions(Body):
    include_usage: StrictBool | None = None


class CompletionBody(ToolFields):
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
    reasoning_effort: Label | None = None
    reasoning_format: Label | None = None
    include_reasoning: StrictBool | None = None
    user: Label | None = None
    session_id: SessionId | None = None
    on_busy: OnBusy | None = None


def parse(
    body: Any, principal: str, session_header: str | None, *, groq: bool = False
) -> tuple[Send, Encoder]:
    """The send, and the encoder of its answer; `groq`: it came to the address of Groq's clients.

    Raises invalid_request, unsupported_parameter, query_empty.
    """
    refuse_unsupported(body, _UNSUPPORTED)
    call = validate(CompletionBody, body)
    if session_header:
        ids.check_session_id(session_header)
    messages = [_message(message, i) for i, message in enumerate(call.messages)]
    last = _asked(messages)
    # Some clients send an empty text or list for a parameter that they do not set.
    params = {name: value for name, value in given(call, _PASSED_ON).items() if value not in ("", [])}
    params |= tool_params(call)
    if completion := call.max_completion_tokens or call.max_tokens:
        params["max_completion_tokens"] = completion
    system = [message["content"] for message in messages if message["role"] == "system"]
    send = Send(
        route="openai",
        principal=principal,
        content="",
        session_id=call.session_id or session_header or None,
        model=call.model or None,
        system=kept_prompt(next((text for text in system if text.strip()), None)),
        params=params,
        messages=messages,
        seeds=folded(messages[:last])[-MAX_HISTORY:],
        seeds_required=False,
        on_busy=call.on_busy or "reject",
        on_busy_asked=call.on_busy is not None,
    )
    pictures.ask(send, messages[last], "messages")
    go_on(send, messages[last + 1 :])
    reasoning = call.include_reasoning is not False and call.reasoning_format != "hidden"
    send.shows = "end" if not call.stream else "all" if reasoning else "text"
    if not call.stream:
        return send, CompletionEncoder(reasoning=reasoning, groq=groq)
    usage = bool(call.stream_options and call.stream_options.include_usage)
    return send, StreamEncoder(include_usage=usage, reasoning=reasoning, groq=groq)


def _asked(messages: list[dict[str, Any]]) -> int:
    """The place of the question: the user's last message, or without one the last system message, which Groq
    takes for a question. Raises query_empty."""
    for role in ("user", "system"):
        found = [i for i, one in enumerate(messages) if one["role"] == role]
        if found:
            return found[-1]
    raise ServiceError("query_empty", "messages has no message of the user.", param="messages")


def _message(message: ChatMessage, index: int) -> dict[str, Any]:
    """The message with the only fields that Groq takes: role, content, tool_calls, tool_call_id."""
    assistant = message.role == "assistant"
    if message.role == "user" and isinstance(message.content, list):
        found = pictures.said(message.content, f"messages.{index}.content")
        if pictures.pictured(found):
            return parts.chat("user", "", found)[0]
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
        raise invalid(where, "has to be a text or a list of parts.")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if assistant and kind in _THOUGHTS:
            continue
        if kind != "text" and not (assistant and kind == "refusal"):
            raise unsupported(where, f"{where}: only parts of type text are supported.")
        if not isinstance(part.get(kind), str):
            raise invalid(where, "a part's text has to be a string.")
        texts.append(part[kind])
    return "".join(texts)
