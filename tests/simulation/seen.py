"""What the oracle has seen of turns and sessions: plain data, and the text that a log has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from service import events
from service.events import Event


@dataclass
class SessionSnapshot:
    """A turn's hash and log as they were after the last command."""

    state: bytes = b""
    epoch: int = 0
    owner: bytes = b""
    claim: bytes = b""
    last: int = 0
    lease: int = 0
    stop: bool = False


@dataclass
class Checked:
    """A log as it was checked last: a log grows at its end, so what came since is all that is looked at."""

    count: int = 0  # of its entries
    last: tuple[int, bytes] = (0, b"")
    ends: list[int] = field(default_factory=list)  # places of terminal events


@dataclass
class Asked:
    """A question of a session, the turn that answers it, and the answer."""

    message: bytes
    content: str
    turn: str
    answer: str | None = None


@dataclass
class Kept:
    turns: dict[bytes, SessionSnapshot] = field(default_factory=dict)
    sessions: dict[bytes, list[Asked]] = field(default_factory=dict)
    bills: dict[str, dict[str, int]] = field(default_factory=dict)
    settled: dict[str, bool] = field(default_factory=dict)  # whether it was booked
    keys: dict[bytes, str] = field(default_factory=dict)
    named: set[bytes] = field(default_factory=set)  # sessions whose id was sent


def text_of(log: Sequence[Event]) -> str:
    """The answer that a log, or a reader that has followed it, has."""
    found: list[str] = []
    for event in log:
        if event.name == events.DELTA:
            found.append(event.text)
        elif event.name == events.RESTARTED:
            found.clear()
    return "".join(found)
