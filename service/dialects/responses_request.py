"""`POST /v1/responses`: the body, its input items, and what is kept of it.

The input becomes a chat context as Groq takes it. Fields that the Response repeats (metadata, tools, ...) are
the `echo`, which is kept with the turn. Which session a request belongs to is engine/chains.py's. Fields that
are not listed are ignored; those that would change the answer and are not supported are 400
`unsupported_parameter`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StrictBool, StrictStr

from service import ids
from service.dialects import pictures
from service.dialects.base import (
    MAX_HISTORY,
    MAX_MESSAGES,
    MAX_TOOLS,
    Body,
    Completion,
    Label,
    Temperature,
    at_most,
    bytes_of,
    given,
    invalid,
    kept_prompt,
    query,
    refuse_unsupported,
    unsupported,
    validate,
)
from service.dialects.responses_content import pictured, text_of
from service.dialects.responses_tools import choice_of, format_of, tool_of
from service.dialects.tools import go_on
from service.engine.sends import Send
from service.errors import ServiceError
from service.parts import TEXT, Part, chat, folded, result

# Bytes of a function's name and of a call's id, as in every dialect.
_MOST_NAME_BYTES: Final = 512
# Fields that would change the answer and are not supported, with the values that change nothing.
_UNSUPPORTED: Final[dict[str, tuple[Any, ...]]] = {
    "top_logprobs": (None, 0),
    "prompt": (None,),
    "max_tool_calls": (None,),
    "moderation": (None,),
    "context_management": (None, []),
    "completion_window": (None, "soonest"),
    "service_tier": (None, "auto", "default"),
}
_ROLES: Final = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
# Input items that no model here is told of.
_DROPPED: Final = ("reasoning", "additional_tools")
_PASSED_ON: Final = ("temperature", "top_p", "user")
_ECHOED: Final = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "safety_identifier",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
)
Metadata = Annotated[
    dict[Annotated[StrictStr, Field(max_length=64)], Annotated[StrictStr, Field(max_length=512)]],
    Field(max_length=16),
]


class ReasoningOptions(Body):
    effort: Label | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class TextOptions(Body):
    format: Annotated[dict[str, Any], at_most(65_536)] | None = None


class ConversationName(Body):
    id: StrictStr


class ResponseBody(Body):
    """`POST /v1/responses`; fields that are not listed are ignored."""

    input: StrictStr | Annotated[list[dict[str, Any]], Field(max_length=MAX_MESSAGES)] | None = None
    model: StrictStr | None = None
    instructions: Annotated[StrictStr, at_most(262_144)] | None = None
    previous_response_id: StrictStr | None = None
    conversation: StrictStr | ConversationName | None = None
    stream: StrictBool | None = None
    background: StrictBool | None = None
    store: StrictBool | None = None
    max_output_tokens: Completion | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS), at_most(262_144)] | None = None
    tool_choice: Annotated[StrictStr | dict[str, Any], at_most(1_024)] | None = None
    parallel_tool_calls: StrictBool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Metadata | None = None
    include: list[StrictStr] | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None


_IDENTITY: Final = tuple(name for name in ResponseBody.model_fields if name != "stream")


@dataclass(slots=True)
class Item:
    """An input item. A `reference` only names a stored item; `call` is a tool call in Groq's form.

    `parts` are those of a message with images; `text` joins their texts.
    """

    place: int
    kind: Literal["message", "call", "output", "reference"]
    id: str = ""
    role: str = ""
    text: str = ""
    call: dict[str, Any] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    source: str = "input"  # the field of the body that has it

    @property
    def where(self) -> str:
        return f"{self.source}[{self.place}]"


@dataclass(slots=True)
class Call:
    """A parsed request, and the send that is made of it."""

    send: Send
    items: list[Item]
    body: ResponseBody
    conversation: str | None


def parse(body: Any, principal: str) -> Call:
    """Raises invalid_request, unsupported_parameter."""
    refuse_unsupported(body, _UNSUPPORTED)
    call = validate(ResponseBody, body)
    conversation = (
        call.conversation.id if isinstance(call.conversation, ConversationName) else call.conversation
    )
    if conversation is not None and not ids.is_session_id(conversation):
        raise invalid("conversation", "is no id of a conversation.")
    if call.previous_response_id and conversation:
        raise ServiceError(
            "invalid_request", "Give one of previous_response_id and conversation.", param="conversation"
        )
    if call.background and call.store is False:
        raise ServiceError("invalid_request", "A background response has to be stored.", param="store")
    check_include(call.include or ())
    echo = given(call, _ECHOED)
    if call.background:
        echo["background"] = True
    echo["store"] = call.store is not False
    if conversation:
        echo["conversation"] = conversation
    if call.reasoning is not None:
        echo["reasoning"] = call.reasoning.model_dump()
    params = _params(call, echo)
    summary = call.reasoning.summary if call.reasoning else None
    send = Send(
        route="responses",
        principal=principal,
        content="",
        model=call.model or None,
        params=params,
        seeds_required=False,
        trims=call.truncation == "auto",
        response=echo,
        shows=("all" if summary else "text") if call.stream else "end",
        # Not a dump of the model, which would walk through all of a large input.
        identity={name: body[name] for name in _IDENTITY if body.get(name) is not None},
    )
    return Call(send, input_items(call.input), call, conversation)


def _params(call: ResponseBody, echo: dict[str, Any]) -> dict[str, Any]:
    params = given(call, _PASSED_ON)
    if call.max_output_tokens:
        params["max_completion_tokens"] = call.max_output_tokens
    if call.reasoning is not None and call.reasoning.effort:
        params["reasoning_effort"] = call.reasoning.effort
    if call.text is not None and call.text.format is not None:
        if (form := format_of(call.text.format)) is not None:
            params["response_format"] = form
        echo["format"] = call.text.format
    choice = choice_of(call.tool_choice)
    if call.tools:
        params["tools"] = [tool_of(tool, i) for i, tool in enumerate(call.tools)]
        # All fields, as strict clients ask for them.
        echo["tools"] = [
            {"description": None, "parameters": None, "strict": None, **tool} for tool in call.tools
        ]
        if choice is not None:
            params["tool_choice"] = choice
        if call.parallel_tool_calls is not None:
            params["parallel_tool_calls"] = call.parallel_tool_calls
    return params


def check_include(wanted: Sequence[str]) -> None:
    """Raises unsupported_parameter."""
    if "message.output_text.logprobs" in wanted:
        raise unsupported("include", "include: message.output_text.logprobs is not supported.")


def input_items(given: str | list[dict[str, Any]] | None, source: str = "input") -> list[Item]:
    """Raises invalid_request, unsupported_parameter."""
    if isinstance(given, str):
        return [Item(0, "message", role="user", text=given)]
    items: list[Item] = []
    for place, raw in enumerate(given or ()):
        # OpenAI's types let a reference go without its type.
        kind = raw.get("type") or ("message" if "role" in raw or "id" not in raw else "item_reference")
        where = f"{source}[{place}]"
        item = Item(place, "message", raw["id"] if isinstance(raw.get("id"), str) else "", source=source)
        if kind == "message":
            role = _ROLES.get(raw["role"]) if isinstance(raw.get("role"), str) else None
            if role is None:
                raise invalid(f"{where}.role", "is one of user, assistant, system, developer.")
            content, item.role = raw.get("content"), role
            item.parts = pictured(content, f"{where}.content") if role == "user" else []
            item.text = pictures.text_of(item.parts) if item.parts else text_of(content, f"{where}.content")
        elif kind == "function_call":
            function = {"name": _name(raw, "name", where), "arguments": _string(raw, "arguments", where)}
            item.kind = "call"
            item.call = {"id": _name(raw, "call_id", where), "type": "function", "function": function}
        elif kind == "function_call_output":
            item.kind, item.text = "output", text_of(raw.get("output"), f"{where}.output")
            item.call = {"id": _name(raw, "call_id", where)}
        elif kind == "item_reference":
            item.kind, item.id = "reference", _string(raw, "id", where)
        elif kind in _DROPPED:
            continue
        else:
            raise unsupported(f"{where}.type", f"Input items of type {kind!r:.60} are not supported.")
        items.append(item)
    return items


def _string(raw: dict[str, Any], name: str, where: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str):
        raise invalid(f"{where}.{name}", "has to be a string.")
    return value


def _name(raw: dict[str, Any], name: str, where: str) -> str:
    value = _string(raw, name, where)
    if not 0 < bytes_of(value) <= _MOST_NAME_BYTES:
        raise invalid(f"{where}.{name}", f"has 1 to {_MOST_NAME_BYTES} bytes.")
    return value


def begin_with(call: Call, items: list[Item]) -> None:
    """Make the input the whole context of the send. Raises query_empty, invalid_request."""
    messages = chat_of(items)
    answered = {item.call["id"] for item in items if item.kind == "output"}
    for item in items:
        if item.kind == "call" and item.call["id"] not in answered:
            raise ServiceError(
                "invalid_request",
                f"There is no output for the function call {item.call['id']:.100}.",
                param="input",
            )
    asked = [i for role in ("system", "user") for i, one in enumerate(messages) if one["role"] == role]
    if not asked:
        raise ServiceError("query_empty", "input has no message of the user.", param="input")
    last, send = asked[-1], call.send
    pictures.ask(send, messages[last], "input")
    send.seeds = folded(messages[:last])[-MAX_HISTORY:]
    system = [one["content"] for one in messages if one["role"] == "system" and one["content"].strip()]
    send.system = kept_prompt("\n\n".join(system) or None)
    since = messages[last + 1 :]
    if call.body.instructions:
        messages.insert(0, {"role": "system", "content": call.body.instructions})
    send.messages = messages
    go_on(send, since)


def go_on_with(call: Call, items: list[Item]) -> None:
    """Make the input the next message of a session, or the outputs of the calls of its newest answer.

    Raises query_empty, unsupported_parameter, invalid_request.
    """
    outputs = [item for item in items if item.kind == "output"]
    for item in items:
        if item.role == "assistant" or (item.role == "user" and outputs):
            raise unsupported(
                f"{item.where}.role", "A conversation goes on with messages of the user, or with outputs."
            )
    said = [item for item in items if item.role == "user" and (item.parts or item.text.strip())]
    system = [call.body.instructions, *(item.text for item in items if item.role == "system")]
    send = call.send
    if outputs:
        send.mode, send.must_exist = "continue", True
        send.results = [result(item.call["id"], item.text) for item in outputs]
    elif any(item.parts for item in said):
        for item in said:
            send.parts += [{"type": TEXT, "text": "\n\n"}] if send.parts else []
            send.parts += item.parts or [{"type": TEXT, "text": item.text}]
        send.content = pictures.text_of(send.parts)
    else:
        send.content = query("\n\n".join(item.text for item in said), "input")
    send.instructions = "\n\n".join(text for text in system if text) or None


def chat_of(items: list[Item], known: Collection[str] = ()) -> list[dict[str, Any]]:
    """The items as chat messages: calls that follow each other, or an assistant's text, share one message.

    `known`: the ids of calls that came before. Raises invalid_request.
    """
    messages: list[dict[str, Any]] = []
    calls = set(known)
    for item in items:
        last = messages[-1] if messages else {}
        if item.kind == "message":
            content = chat("user", "", item.parts)[0]["content"] if item.parts else item.text
            messages.append({"role": item.role, "content": content})
        elif item.kind == "output":
            if item.call["id"] not in calls:
                sentence = f"{item.where}: no function_call of this call_id comes before it."
                raise ServiceError("invalid_request", sentence, param=f"{item.where}.call_id")
            messages.append({"role": "tool", "tool_call_id": item.call["id"], "content": item.text})
        else:
            calls.add(item.call["id"])
            if last.get("role") != "assistant":
                messages.append(last := {"role": "assistant", "content": None})
            last["content"] = last["content"] or None
            last.setdefault("tool_calls", []).append(item.call)
    return messages
