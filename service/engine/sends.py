"""Sends: what a dialect has understood of a request that starts a turn.

Pure data plus its fingerprint; equal after parsing means the same send.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from service.store.turns import TurnRef

OnBusy = Literal["reject", "interrupt", "queue"]


@dataclass(slots=True)
class Send:
    """`route` is the kind of route; a key used at another kind is another send.

    `messages` is a whole context that replaces the history's (OpenAI); `seeds` are earlier
    messages for a new session, and unless `seeds_required` a session that has messages already
    does without them. `params` are what the model takes, already checked.
    `on_busy_asked`: the body itself says what to do in a busy session.
    """

    route: str
    principal: str
    content: str
    session_id: str | None = None
    mode: Literal["append", "edit", "regenerate"] = "append"
    message_id: str | None = None
    model: str | None = None
    system: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    seeds: list[dict[str, str]] = field(default_factory=list)
    seeds_required: bool = True
    messages: list[dict[str, Any]] | None = None
    on_busy: OnBusy = "reject"
    on_busy_asked: bool = False
    key: str | None = None
    must_exist: bool = False
    traceparent: str = ""
    request_id: str = ""

    def fingerprint(self) -> str:
        body = [
            self.route, self.session_id, self.mode, self.content, self.message_id, self.model,
            self.system, self.params, self.seeds if self.seeds_required else [], self.messages,
            self.on_busy if self.on_busy_asked else None,
        ]  # fmt: skip
        return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Attached:
    """A reader's way to a turn. `fresh` is False for a repeat that met a known turn.

    `void` is the id of the turn's last restart: what was shown before it is not of the answer.
    """

    ref: TurnRef
    model: str
    created: int
    fresh: bool
    state: str = "running"
    void: int = 0
