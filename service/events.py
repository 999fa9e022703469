"""Events: the entries of a turn's log, and their bytes in Redis.

An event is (id, name, body). Ids are gapless integers per turn from 1. A `delta` or a
`reasoning` carries its text alone, everything else a JSON object. The encoding is one byte
string per event so that the hot path allocates nothing else:

    d<text>              delta
    r<text>              reasoning
    j<name> <json>       everything else

Readers skip names they do not know (versions live side by side). No HTTP and no Redis here.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

STARTED: Final = "turn.started"
ATTEMPT: Final = "attempt.started"
DELTA: Final = "delta"
REASONING: Final = "reasoning"
TOOL_CALL: Final = "tool_call"
RESTARTED: Final = "turn.restarted"
COMPLETED: Final = "turn.completed"
STOPPED: Final = "turn.stopped"
FAILED: Final = "turn.failed"

TERMINAL: Final = frozenset({COMPLETED, STOPPED, FAILED})
SHOWN: Final = frozenset({DELTA, REASONING, TOOL_CALL})


class Event:
    """One entry of a log. `frames` keeps what dialects encoded, once for all readers."""

    __slots__ = ("_data", "frames", "id", "name", "payload")

    def __init__(self, id: int, payload: bytes) -> None:
        self.id = id
        self.payload = payload
        self.frames: dict[str, bytes] = {}
        self._data: dict[str, Any] | None = None
        kind = payload[:1]
        if kind == b"d":
            self.name = DELTA
        elif kind == b"r":
            self.name = REASONING
        else:
            self.name = payload[1 : payload.index(b" ")].decode()

    @property
    def terminal(self) -> bool:
        return self.name in TERMINAL

    @property
    def text(self) -> str:
        """The text of a delta or reasoning event."""
        return self.payload[1:].decode()

    @property
    def data(self) -> dict[str, Any]:
        if self._data is None:
            if self.name in (DELTA, REASONING):
                self._data = {"text": self.text}
            else:
                self._data = orjson.loads(self.payload[self.payload.index(b" ") + 1 :])
        return self._data

    def __repr__(self) -> str:
        return f"<Event {self.id} {self.name}>"


def with_provider(body: dict[str, Any], words: dict[str, Any] | None) -> dict[str, Any]:
    """The body of a terminal event, with the provider's facts about the call and the time of the end.

    Some dialects pass them on; in the native event they are left out.
    """
    return {**body, "provider": words} if words else body


def without_provider(body: dict[str, Any]) -> dict[str, Any]:
    """The body of an event as the native dialect has it."""
    return {name: value for name, value in body.items() if name != "provider"}


def provider(body: dict[str, Any]) -> dict[str, Any] | None:
    """The provider's own words."""
    words: dict[str, Any] | None = body.get("provider")
    return words


def delta(text: str) -> bytes:
    return b"d" + text.encode()


def reasoning(text: str) -> bytes:
    return b"r" + text.encode()


def structured(name: str, body: dict[str, Any]) -> bytes:
    return b"j" + name.encode() + b" " + orjson.dumps(body)
