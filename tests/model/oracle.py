"""What every history has to be like, whatever has happened: the rules, and what broke them.

The oracle hears what actors send and what readers are shown, and asks the service at the end. It knows
nothing of how a fault was caused. Redis syncs each write in this model, so nothing acknowledged is lost: ids
are gapless from 1 within a life of a log (a Redis that was restarted begins one, to be on the safe side), and
no event is ever another one to somebody else.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Final

from service.store.turn_records import LIFE
from tests.double import expected_text
from tests.support.readers import TERMINAL
from tests.support.sse import Frame, text_of

# More attempts than any turn can have: a text is right if it is that of one of them.
_ATTEMPTS: Final = 30


def follows(before: int, after: int) -> bool:
    """May an event have the id `after` right behind one with the id `before`?"""
    return after == before + 1 or (after > before and after % LIFE == 0)


@dataclass
class Sent:
    """One message: who sent it where, how long its answer is, and the turn that it began."""

    number: int
    principal: str
    session: str
    tokens: int
    body: dict[str, Any]
    key: str
    turn: str = ""  # its path, once somebody was told

    @property
    def marker(self) -> str:
        """In the message and in no other, so that the provider's calls can be told apart."""
        return f" n{self.number}."


@dataclass
class Oracle:
    turns: dict[tuple[str, str], Sent] = field(default_factory=dict)  # by principal and path
    shown: dict[tuple[str, str], dict[int, Frame]] = field(default_factory=dict)
    deleted: set[tuple[str, str]] = field(default_factory=set)  # principal and session, at least once
    wrong: list[str] = field(default_factory=list)

    def broken(self, rule: str, *facts: object) -> None:
        self.wrong.append(" ".join([rule, *map(str, facts)]))

    def began(self, sent: Sent, path: str) -> None:
        """The service says that this message is answered by this turn."""
        other = self.turns.setdefault((sent.principal, path), sent)
        if other.number != sent.number:
            self.broken("a turn answers two messages:", path, other.number, sent.number)
        gone = (sent.principal, sent.session) in self.deleted
        if sent.turn and sent.turn != path and not gone and not self._freed(sent):
            self.broken("a message was sent once and began two turns:", sent.turn, path)
        sent.turn = path

    def _freed(self, sent: Sent) -> bool:
        """A turn that failed with nothing shown frees its key."""
        events = self.shown.get((sent.principal, sent.turn), {}).values()
        kinds = {frame.event for frame in events}
        return "turn.failed" in kinds and "delta" not in kinds

    def heard(self, principal: str, path: str, frame: Frame) -> None:
        """A reader was shown an event."""
        known = self.shown.setdefault((principal, path), {})
        assert frame.id is not None
        if known.setdefault(frame.id, frame) != frame:
            self.broken("two readers were shown two things:", path, known[frame.id], frame)
        end = next((one for one, event in known.items() if event.event in TERMINAL), None)
        if end is not None and max(known) > end:
            self.broken("something was shown behind the end:", path, end, max(known))

    def log(self, principal: str, path: str, events: list[Frame], resource: dict[str, Any]) -> None:
        """The whole log of a turn, read when all is over, and its resource."""
        for frame in events:
            self.heard(principal, path, frame)
        ids = [frame.id or 0 for frame in events]
        if not all(follows(before, after) for before, after in itertools.pairwise([0, *ids])):
            self.broken("ids have a gap:", path, ids)
        if [frame.id for frame in events if frame.event in TERMINAL] != ids[-1:]:
            self.broken("not exactly one end, at the end:", path, [frame.event for frame in events])
        missing = set(self.shown[principal, path]) - {frame.id for frame in events}
        if missing:
            self.broken("shown, and in no log:", path, sorted(missing))
        state = events[-1].event.removeprefix("turn.")
        if resource["state"] != state or resource["text"] != text_of(events):
            self.broken("the turn and its log say two things:", path, resource["state"], state)
        sent = self.turns[principal, path]
        right = [expected_text(sent.tokens, attempt) for attempt in range(_ATTEMPTS)]
        text = text_of(events)
        if text not in right and (state == "completed" or not any(one.startswith(text) for one in right)):
            self.broken(f"{state} with a text of no answer:", path, repr(text[-80:]))

    def history(self, principal: str, session: str, messages: list[dict[str, Any]]) -> None:
        """All messages of a session when all is over."""
        own = f" {principal} "
        for message in messages:
            if message["role"] == "user" and own not in message["content"]:
                self.broken("a message of somebody else:", principal, session, message["content"])
            path = f"/v1/sessions/{session}/turns/{message['turn_id']}"
            events = self.shown.get((principal, path))
            if message["role"] == "assistant" and events:
                said = text_of([events[number] for number in sorted(events)])
                if message["content"] != said:
                    self.broken("history has another answer than its log:", path)

    def calls(self, sent: Sent, made: int, attempts: int) -> None:
        """How often the provider was asked for a message, and how many attempts its turns' logs have."""
        if made > attempts:
            self.broken("the provider was asked by no attempt of a log:", sent.turn, made, attempts)
