"""Sessions and messages as records: their form in Redis, and their form as JSON. No I/O here.

Invariant: what version 0.1.0 has stored is read, and what is stored it can read. What clients are shown of
a message is the edge's, what a model is told of it parts.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from service import parts
from service.parts import Part


@dataclass(frozen=True, slots=True)
class Session:
    """`asked`: what made it under an idempotency key, as far as a repeat has to be the same."""

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
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """`content` is exact; `created` in ms.

    `id` is the field under which the message is stored. The body names one too, which is another where a
    send is repeated after a failure and its question keeps its first id: scripts write bodies as they come.
    An answer has the model and the usage of its turn, when that began (`begun`, ms), and a `finish_reason`
    unless it failed; of an answer of several turns they are the last one's.
    `content` is all that is text, which is all that version 0.1.0 reads. `parts` is empty unless there is
    more: rounds of tools, images, refusals. `tool_calls` are those without a result, as deltas.
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
    parts: tuple[Part, ...] = ()

    @property
    def whole(self) -> list[Part]:
        """All that it is made of, in order."""
        return list(self.parts) or parts.said(self.reasoning, self.content, self.tool_calls)

    def made_of(self, whole: Sequence[Part]) -> Message:
        """The same message with these parts."""
        simple = all(part["type"] in (parts.TEXT, parts.REASONING, parts.CALL) for part in whole)
        return replace(
            self,
            content=parts.text_of(whole),
            reasoning=parts.reasoning_of(whole),
            tool_calls=tuple(parts.call_deltas(parts.open_calls(whole))),
            parts=() if simple else tuple(whole),
        )

    def dump(self) -> bytes:
        body: dict[str, Any] = {
            "id": self.id,
            "role": self.role,
            "content": self.content,
            "turn_id": self.turn_id,
            "state": self.state,
            "created": self.created,
        }
        if self.reasoning and not self.parts:  # which have it
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
        if self.parts:
            body["parts"] = _slim(self.parts, self.content)
        return orjson.dumps(body)

    @classmethod
    def load(cls, message_id: str, raw: bytes) -> Message:
        body = orjson.loads(raw)
        more = _filled(body)
        return cls(
            id=message_id,
            role=body["role"],
            content=body["content"],
            turn_id=body.get("turn_id", ""),
            state=body.get("state", "completed"),
            created=body.get("created", 0),
            reasoning=body.get("reasoning", "") or parts.reasoning_of(more),
            tool_calls=tuple(body.get("tool_calls", ())),
            finish_reason=body.get("finish_reason", ""),
            model=body.get("model", ""),
            usage=body.get("usage"),
            begun=body.get("begun", 0),
            parts=tuple(more),
        )


def _slim(whole: Sequence[Part], content: str) -> list[Part]:
    """A text that is all of the content is stored once."""
    text: Part = {"type": parts.TEXT, "text": content}
    return [{"type": parts.TEXT} if part == text else part for part in whole]


def _filled(body: dict[str, Any]) -> list[Part]:
    whole: list[Part] = body.get("parts") or []
    return [{**part, "text": body["content"]} if part == {"type": parts.TEXT} else part for part in whole]


class Said(NamedTuple):
    """What a model is told of a message, and its place: even for a question, the next for its answer.

    `parts` is empty where `content` is all.
    """

    place: int
    role: str
    content: str
    turn_id: str
    parts: Sequence[Part] = ()
    reasoning: str = ""

    @property
    def whole(self) -> Sequence[Part]:
        return self.parts or parts.said(self.reasoning, self.content, ())


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """The newest messages below a place, newest first; `more`: there are older ones."""

    said: list[Said]
    more: bool

    def below(self, place: int) -> HistoryPage:
        return HistoryPage([one for one in self.said if one.place < place], self.more)

    def followed_by(self, older: HistoryPage) -> HistoryPage:
        return HistoryPage([*self.said, *older.said], older.more)


def page_of(answer: list[Any]) -> HistoryPage:
    more, *flat = answer
    said = []
    for place, raw in zip(flat[::2], flat[1::2], strict=True):
        body = orjson.loads(raw)
        said.append(
            Said(
                int(place),
                body["role"],
                body["content"],
                body.get("turn_id", ""),
                _filled(body),
                body.get("reasoning", ""),
            )
        )
    return HistoryPage(said, bool(more))


def session_of(session_id: str, fields: dict[bytes, bytes]) -> Session | None:
    """A session from its hash; None where there is none."""
    if not fields:
        return None

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
        asked=text(b"asked"),
    )
