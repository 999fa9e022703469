"""Sends: a parsed request that starts a turn.

Pure data, its fingerprint (two sends with the same one are the same send), and the begin that the store is
asked for. No I/O here.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from service import events, ids, parts
from service.engine.charging import Charging
from service.images import Image
from service.parts import Part
from service.store.credentials import OwnLimits
from service.store.messages import Message
from service.store.send_admission import SessionSnapshot
from service.store.turn_records import Begin, Shows, TurnRef
from service.upstream.models import Model


@dataclass(frozen=True, slots=True)
class Base:
    """An answer that a send goes on with; `before` are its parts that stay, `place` is its position."""

    answer: Message
    question: Message
    before: list[Part]
    place: int


OnBusy = Literal["reject", "interrupt", "queue"]


@dataclass(slots=True)
class Send:
    """A send. Images are named by their digests in `parts`, or in `messages`."""

    route: str  # the kind of route; a key used at another kind is another send
    principal: str
    content: str  # the message's text
    session_id: str | None = None
    parts: list[Part] = field(default_factory=list)  # of a message that is more than its text
    images: dict[str, Image] = field(default_factory=dict)  # the new ones, by digest
    #: `continue` goes on with the session's newest answer: with `results`, or where it was cut
    mode: Literal["append", "edit", "regenerate", "continue"] = "append"
    message_id: str | None = None
    model: str | None = None
    system: str | None = None
    params: dict[str, Any] = field(default_factory=dict)  # what the model takes, already checked
    seeds: list[dict[str, Any]] = field(default_factory=list)  # earlier messages, for a new session
    seeds_required: bool = True  # False: a session that has messages already does without the seeds
    seeds_from: str = ""  # the session that has the images of the seeds
    #: ids of the messages before this one at its client, newest first, "" for the beginning: what the session
    #: has behind the first that it knows is cut off. Empty: the client says nothing of that.
    before: list[str] = field(default_factory=list)
    results: list[Part] = field(default_factory=list)  # of the answer's tools
    #: the parts of the answer that the client knows, the results in it: with them the question is appended
    #: where the session has no such answer
    prior: list[Part] = field(default_factory=list)
    base: Base | None = None  # what it goes on with, once that is found
    messages: list[dict[str, Any]] | None = None  # a whole context instead of the history (OpenAI)
    #: May what does not fit the model be left out, oldest first? None: of a history, but not of `messages`.
    trims: bool | None = None
    on_busy: OnBusy = "reject"
    on_busy_asked: bool = False  # the body itself has `on_busy`
    shows: Shows = "all"  # what the response shows of an answer before it ends well
    key: str | None = None
    must_exist: bool = False
    traceparent: str = ""
    request_id: str = ""
    own: OwnLimits = field(default_factory=OwnLimits)
    hook: str = ""  # the API key whose own webhook is told of the turn's end, if any
    charging: Charging | None = None
    large: bool = False  # steps before its begin take ms, so other tasks run between them
    instructions: str | None = None  # a system text for this turn alone, before the session's own
    response: dict[str, Any] = field(default_factory=dict)  # what a Response repeats of its request
    #: what the fingerprint is made of, where that is not the send's fields
    identity: dict[str, Any] | None = None
    _fingerprint: str = field(default="", repr=False, compare=False)

    async def breathe(self) -> None:
        """Called between two steps of a send: if it is large, other tasks of the event loop run first."""
        if self.large:
            await asyncio.sleep(0)

    def fingerprint(self) -> str:
        """Two sends with the same one are the same send. Made once, when it is first asked for."""
        if not self._fingerprint:
            self._fingerprint = self._digest()
        return self._fingerprint

    def _digest(self) -> str:
        if self.identity is not None:
            return fingerprint_of([self.route, self.identity])
        return fingerprint_of(
            [
                self.route,
                self.session_id,
                self.mode,
                [self.content, self.parts, self.results] if self.parts or self.results else self.content,
                self.message_id,
                self.model,
                self.system,
                self.params,
                self.seeds if self.seeds_required else [],
                self.messages,
                self.on_busy if self.on_busy_asked else None,
            ]
        )


def fingerprint_of(body: list[Any]) -> str:
    """The fingerprint of a parsed body: its spaces and the order of its keys do not count."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Attached:
    """The turn that a reader follows. `fresh` is False if the send was a repeat.

    `void` is the id of the turn's last restart: events before it are not of the answer.
    """

    ref: TurnRef
    model: str
    created: int
    fresh: bool
    state: str = "running"
    void: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A send that may become the turn `ref`, with what was read of its session, the model and its params."""

    send: Send
    ref: TurnRef
    seen: SessionSnapshot
    model: Model
    params: dict[str, Any]


def draft(candidate: Candidate, reserved: int) -> Begin:
    """The begin of the turn: its message, its fields, its first event."""
    send, ref, model, params = candidate.send, candidate.ref, candidate.model.id, candidate.params
    now = int(time.time() * 1000)
    message_id = send.message_id or ("" if send.mode == "regenerate" else ids.new_message_id())
    message = b""
    if send.base is not None:
        answer = send.base.answer
        message = answer.made_of(send.base.before).dump()
    elif send.content or send.parts:
        said = tuple(send.parts)
        question = Message(message_id, "user", send.content, ref.turn_id, "completed", now, parts=said)
        message = question.dump()
    started = {"turn_id": ref.turn_id, "session_id": ref.session_id, "model": model, "created": now}
    if send.base is not None:
        started["message_id"] = send.base.answer.id
    defaults = {"id": ref.session_id}
    if send.system:
        defaults["system_prompt"] = send.system
    if send.model:
        defaults["model"] = model
    return Begin(
        ref=ref,
        mode=send.mode,
        message_id=message_id,
        message=message,
        fields={"model": model, "reserved": reserved, "params": orjson.dumps(params), **_fields(send)},
        started=events.structured(events.STARTED, started),
        created=now,
        defaults=defaults,
        seeds=[_seed(item, now) for item in send.seeds],
        on_busy=send.on_busy,
        named=send.session_id is not None,
        must_exist=send.must_exist,
        seeds_required=send.seeds_required,
        before=send.before,
        keeps_versions=True,
        last_turn=send.base.answer.turn_id if send.base is not None else "",
        key=send.key,
        fingerprint=send.fingerprint() if send.key else "",
    )


def _fields(send: Send) -> dict[str, Any]:
    """What the turn's hash keeps of a send."""
    fields: dict[str, Any] = {"trace": send.traceparent, "request": send.request_id, "route": send.route}
    if send.base is not None:
        fields["answer"] = send.base.answer.id
    if send.hook:
        fields["hook"] = send.hook
    if send.results:
        fields["sent"] = send.fingerprint()
        before = send.prior if send.base is None else send.base.before
        fields["round"] = sum(map(parts.has_results, parts.rounds(before)))
    if send.shows != "all":
        fields["shows"] = send.shows
    if send.response:
        fields["response"] = orjson.dumps(send.response)
    return fields


def _seed(item: dict[str, Any], now: int) -> tuple[str, str, bytes]:
    """An earlier message of a new session: its id, its role, its JSON."""
    seed_id, role = item.get("id") or ids.new_message_id(), item["role"]
    seed = Message(seed_id, role, item["content"], "", "completed", now)
    return seed_id, role, replace(seed, parts=tuple(item.get("parts", ()))).dump()
