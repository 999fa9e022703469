"""Sessions and messages as records: their form in Redis, and their form as JSON. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    title: str | None
    model: str | None
    system_prompt: str | None
    created: int
    updated: int
    turns: int
    active_turn: str | None
    named: bool
    metadata: str | None = None  # JSON, of a conversation (OpenAI's)


@dataclass(frozen=True, slots=True)
class Message:
    """`content` is exact; `created` in ms.

    `id` is the field under which the message is stored. The body names one too, which is another where a
    send is repeated after a failure and its question keeps its first id: scripts write bodies as they come.
    An answer has the model and the usage of its turn, when that began (`begun`, ms), and a `finish_reason`
    unless it failed.
    """

    id: str
    role: str
    content: str
    turn_id: str
    state: str
    created: int
    reasoning: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    finish_reason: str = ""
    model: str = ""
    usage: dict[str, Any] | None = None
    begun: int = 0

    def dump(self) -> bytes:
        body: dict[str, Any] = {
            "id": self.id,
            "role": self.role,
            "content": self.content,
            "turn_id": self.turn_id,
            "state": self.state,
            "created": self.created,
        }
        if self.reasoning:
            body["reasoning"] = self.reasoning
        if self.tool_calls:
            body["tool_calls"] = list(self.tool_calls)
        if self.model:
            body |= {
                "finish_reason": self.finish_reason,
                "model": self.model,
                "usage": self.usage,
                "begun": self.begun,
            }
        return orjson.dumps(body)

    @classmethod
    def load(cls, message_id: str, raw: bytes) -> Message:
        body = orjson.loads(raw)
        return cls(
            id=message_id,
            role=body["role"],
            content=body["content"],
            turn_id=body.get("turn_id", ""),
            state=body.get("state", "completed"),
            created=body.get("created", 0),
            reasoning=body.get("reasoning", ""),
            tool_calls=tuple(body.get("tool_calls", ())),
            finish_reason=body.get("finish_reason", ""),
            model=body.get("model", ""),
            usage=body.get("usage"),
            begun=body.get("begun", 0),
        )


class Said(NamedTuple):
    """What a model is told of a message, and its place: even for a question, the next one for its answer."""

    place: int
    role: str
    content: str
    turn_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """The newest messages below a place, newest first; `more`: there are older ones."""

    said: list[Said]
    more: bool

    def below(self, place: int) -> Page:
        return Page([one for one in self.said if one.place < place], self.more)

    def followed_by(self, older: Page) -> Page:
        return Page([*self.said, *older.said], older.more)


def _page(answer: list[Any]) -> Page:
    more, *flat = answer
    said = []
    for place, raw in zip(flat[::2], flat[1::2], strict=True):
        body = orjson.loads(raw)
        said.append(Said(int(place), body["role"], body["content"], body.get("turn_id", "")))
    return Page(said, bool(more))


def _session(session_id: str, fields: dict[bytes, bytes]) -> Session:
    def text(name: bytes) -> str | None:
        return fields[name].decode() if name in fields else None

    return Session(
        id=session_id,
        title=text(b"title"),
        model=text(b"model"),
        system_prompt=text(b"system_prompt"),
        created=int(fields.get(b"created", 0)),
        updated=int(fields.get(b"updated", 0)),
        turns=int(fields.get(b"turns", 0)),
        active_turn=text(b"active"),
        named=fields.get(b"named") == b"1",
        metadata=text(b"metadata"),
    )
