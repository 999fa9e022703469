"""What useChat of Vercel's AI SDK sends: a submit, an edit, a regenerate or results of tools, as a `Send`.

The texts on the server count; the page's list says which of the messages still exist. So a request is read
for the last message of the user and the ids before it; for their texts only where the server has no history.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Annotated, Any, Final, Literal, NotRequired

import orjson
from pydantic import ConfigDict, Field, StrictBool, StrictStr
from typing_extensions import TypedDict

from service import parts as made
from service.dialects.base import MAX_HISTORY, Body, Label, MessageId, SessionId, query, unsupported, validate
from service.dialects.pictures import image
from service.dialects.tools import ToolFields, result_part, tool_params
from service.engine.sends import OnBusy, Send
from service.errors import ServiceError
from service.parts import CALL, RESULT, TEXT, has_results, rounds, text_of

# States of a tool's part that has a result.
_ANSWERED: Final = ("output-available", "output-error")
# A page sends its whole chat each time. So many messages of it are read, the newest, with the question.
_MESSAGES: Final = MAX_HISTORY + 1
# Messages before the question whose ids are compared: so many in a row may be unknown to the server, since
# pages keep messages that it has refused.
_LINEAGE: Final = 64


class Part(TypedDict):
    """A part of a message. A dict, since a page sends thousands of them and objects take more time."""

    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]  # pydantic's own way to say it
    type: StrictStr
    text: NotRequired[StrictStr | None]
    toolCallId: NotRequired[Label]
    toolName: NotRequired[Label]
    state: NotRequired[Any]
    input: NotRequired[Any]
    output: NotRequired[Any]
    errorText: NotRequired[StrictStr | None]
    mediaType: NotRequired[Label]
    url: NotRequired[Any]


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
        """May it be in the history? Pages also keep refused messages: blank ones, the user's with files."""
        said = self.text.strip() or has_results(self.made_of)
        return self.role != "system" and bool(said) and not (self.role == "user" and self.has_files)

    @cached_property
    def made_of(self) -> list[made.Part]:
        """The parts of an assistant's message with tools; [] where it is text only."""
        found: list[made.Part] = []
        if self.role == "assistant" and any("toolCallId" in part for part in self.parts):
            for step in _steps(self.parts):
                results = [_result(part) for part in step if part.get("state") in _ANSWERED]
                found += [*filter(None, map(_said, step)), *results]
        return found

    def seed(self) -> dict[str, Any]:
        seed: dict[str, Any] = {"id": self.id, "role": self.role, "content": self.text}
        if has_results(self.made_of):
            seed |= {"content": text_of(self.made_of), "parts": self.made_of}
        return seed


def _steps(parts: list[Part]) -> list[list[Part]]:
    steps: list[list[Part]] = [[]]
    for part in parts:
        if part["type"] == "step-start":
            steps.append([])
        else:
            steps[-1].append(part)
    return steps


def _said(part: Part) -> made.Part | None:
    if part["type"] == "text" and part.get("text"):
        return {"type": TEXT, "text": part["text"]}
    if "toolCallId" not in part:
        return None
    given = part.get("input")
    name = part.get("toolName") or part["type"].removeprefix("tool-")
    arguments = given if isinstance(given, str) else orjson.dumps(given).decode()
    return {"type": CALL, "id": part["toolCallId"], "name": name, "arguments": arguments}


def _result(part: Part) -> made.Part:
    call_id = part.get("toolCallId", "")
    if part.get("state") == "output-error":
        return result_part(call_id, part.get("errorText") or "", is_error=True)
    return result_part(call_id, part.get("output"))


class UseChatBody(ToolFields):
    """`POST /api/chat` as DefaultChatTransport sends it; fields that are not listed are ignored."""

    id: SessionId
    messages: Annotated[list[UIMessage], Field(min_length=1, fail_fast=True)]
    trigger: Literal["submit-message", "regenerate-message"] | None = None
    messageId: MessageId | None = None
    model: StrictStr | None = None
    on_busy: OnBusy | None = None
    go_on: StrictBool | None = Field(
        None, alias="continue", description="true: the rest of the newest answer, which was cut"
    )


def parse(body: Any, principal: str) -> Send:
    """A submit, an edit (a submit that names its message) or a regenerate.

    The last two become a submit where the server does not know the message: its turn was
    refused before it began, or the history is lost. Raises invalid_request, query_empty.
    """
    if isinstance(body, dict) and isinstance(messages := body.get("messages"), list):
        body = {**body, "messages": messages[-_MESSAGES:]}
    by_name = isinstance(body, dict) and isinstance(body.get("tools"), dict)
    if by_name:
        body = {**body, "tools": _by_name(body["tools"])}
    chat = validate(UseChatBody, body)
    asked = [i for i, message in enumerate(chat.messages) if message.role == "user"]
    again = chat.trigger == "regenerate-message"
    goes_on = not again and chat.messages[-1].role == "assistant"
    edited = not again and not goes_on and chat.messageId is not None
    if edited:
        asked = [i for i in asked if chat.messages[i].id == chat.messageId]
    if not asked or (not again and not edited and not goes_on and asked[-1] != len(chat.messages) - 1):
        raise ServiceError("invalid_request", "The last message has to be one of the user.")
    last, before = chat.messages[asked[-1]], chat.messages[: asked[-1]]
    files = _pictured(last) if last.has_files else []
    send = Send(
        route="aisdk",
        principal=principal,
        content=last.text if files else query(last.text, "The message"),
        parts=files,
        session_id=chat.id,
        mode="regenerate" if again else "edit" if edited else "append",
        message_id=last.id,
        model=chat.model,
        on_busy=chat.on_busy or "interrupt",
        on_busy_asked=chat.on_busy is not None,
        key=None if again or edited else last.id,
        params=tool_params(chat),
        seeds=[message.seed() for message in before if message.seeds],
        seeds_required=False,
        before=_lineage(before, whole=by_name),
    )
    if goes_on:
        _go_on(send, chat)
    return send


def _pictured(message: UIMessage) -> list[made.Part]:
    """Its texts and its images, in order. Raises unsupported_parameter, invalid_request."""
    found: list[made.Part] = []
    for i, part in enumerate(message.parts):
        if part["type"] == "text" and part.get("text"):
            found.append({"type": TEXT, "text": part["text"]})
        elif part["type"] == "file":
            kind = (part.get("mediaType") or "").lower()
            if not kind.startswith("image/"):
                raise unsupported("messages", "Files are not supported, but for images.")
            found.append(image(part.get("url"), f"parts.{i}.url", kind))
    return found


def _go_on(send: Send, chat: UseChatBody) -> None:
    """The page's last message is an answer: the send brings results of its tools, or asks for its rest.

    Results make the idempotency key: a page that sends them twice gets one turn.
    """
    answer = chat.messages[-1]
    last = rounds(answer.made_of)[-1] if answer.made_of else []
    send.mode, send.prior = "continue", answer.made_of
    send.results = [part for part in last if part["type"] == RESULT]
    send.key = None
    if chat.go_on:
        send.must_exist, send.content, send.prior, send.results = True, "", [], []
    elif send.results:
        told = hashlib.sha256(orjson.dumps(send.results)).hexdigest()[:32]
        send.key = f"{answer.id}.{told}"
    else:
        raise ServiceError("invalid_request", "The last message has to be one of the user.")


def _by_name(tools: dict[str, Any]) -> list[dict[str, Any]]:
    """Tools by name, as assistant-ui sends them; what is no such tool is left out."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": tool["parameters"],
                **({"description": tool["description"]} if isinstance(tool.get("description"), str) else {}),
            },
        }
        for name, tool in tools.items()
        if isinstance(tool, dict) and isinstance(tool.get("parameters"), dict)
    ]


def _lineage(before: list[UIMessage], *, whole: bool) -> list[str]:
    """The ids before the question, newest first: messages of the history that are not among them are cut off.

    [] where the list has the question only, since pages may send just that. `whole`: the page always sends
    everything (assistant-ui, known by its `tools` by name), so then the history is empty: [""].
    """
    if not before:
        return [""] if whole else []
    return [message.id for message in reversed(before) if message.role != "system"][:_LINEAGE]
