"""What the scripts of a turn are given and what they return, as typed records. No I/O here.

Invariant: a field that a worker of another version has not written reads as its default. When a turn changes
is the engine's, how turns.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_type_hints

import orjson

from service import ids
from service.money import Amount, Price
from service.parts import Part
from service.store.messages import HistoryPage

#: what a response shows of an answer before it ends well: all events, text but no reasoning, nothing
Shows = Literal["all", "text", "end"]
_SHOWS: Final[dict[bytes, Shows]] = {b"text": "text", b"end": "end"}
#: ids between the beginnings of two lives of a log (lua/next_life.lua); more than a turn has events
LIFE: Final = 1_000_000
# The keys of a turn, its session and its entries in indexes, whatever is said in it (measured).
_TURN_BYTES: Final = 3_000


@dataclass(frozen=True, slots=True)
class TurnRef:
    """Names one turn everywhere; its text form stands in indexes and notifications."""

    principal: str
    session_id: str
    turn_id: str

    def __str__(self) -> str:
        return f"{self.principal}/{self.session_id}/{self.turn_id}"

    @classmethod
    def parse(cls, text: str) -> TurnRef:
        principal, session_id, turn_id = text.split("/")
        return cls(principal, session_id, turn_id)


@dataclass(slots=True)
class Turn:
    """A turn's hash, decoded. Times are ms since 1970."""

    ref: TurnRef
    state: str
    epoch: int  # with `claim` its owner's right to write
    attempt: int
    model: str
    user: str  # the id of the message that it answers
    pos: int  # the position of its answer in the session
    last: int  # the id of its last event
    created: int
    params: dict[str, Any] = field(default_factory=dict)
    shown: bool = False
    stop: bool = False
    owner: str = ""
    claim: str = ""  # a nonce
    store_history: str = ""
    kept: int | None = None  # the last event that a loss in the store has left; a new life of the log follows
    tokens: int = 0
    prompt_tokens: int = 0
    billed: dict[str, int] = field(default_factory=dict)
    started: bytes = b""
    idem: str = ""
    reserved: int = 0
    answered_by: str = ""
    usage: dict[str, int] | None = None
    finish_reason: str | None = None
    error: dict[str, Any] | None = None
    trace: str = ""
    request: str = ""
    void: int = 0  # the id of its last restart: text before it does not count
    delivered: bool = False  # its end was sent to a reader who cannot ask for what it lacks (AI SDK)
    shows: Shows = "all"  # to its sender, before it ends well
    question: str = ""  # the text that it answers; known to the worker that has begun it, others read it
    history: HistoryPage | None = None  # before the question; the same
    goes_on: str = ""  # the id of the answer that it goes on with, '' where it makes one of its own
    before: list[Part] | None = None  # the parts of that answer before this turn, once they are read
    stored: str = ""  # what its seal says of the bytes that it keeps, for the ledger
    response: dict[str, Any] = field(default_factory=dict)  # what OpenAI's Response repeats of its request
    sent: str = ""  # the fingerprint of a send with results of tools
    round: int = 0  # the round of its answer that these results belong to, from 1; 0 where it is not known
    drops: bool = False  # its begin may have left images without a name; known where it began
    hook: str = ""  # the API key whose own webhook is told of its end
    price: Price | None = None  # of the model that answers, None where it is not known
    cost: Amount | None = None  # of a turn that has ended

    @property
    def answer_id(self) -> str:
        """The id of the message that it makes or goes on with."""
        return self.goes_on or ids.answer_id(self.ref.turn_id)

    @property
    def sealed(self) -> bool:
        return self.state in ("completed", "stopped", "failed")

    @property
    def opens_life(self) -> bool:
        """It was claimed after a loss and has written nothing since: nobody knows what readers were shown."""
        return self.kept is not None and (self.last + 1) % LIFE == 0


def _number(raw: bytes) -> int:
    return int(float(raw or 0))


# How a field of the hash is read, by the type that it has in a Turn.
_READ: Final[dict[Any, Callable[[bytes], Any]]] = {
    str: bytes.decode,
    str | None: lambda raw: raw.decode() or None,
    int: _number,
    int | None: lambda raw: _number(raw) if raw else None,
    bool: lambda raw: raw == b"1",
    bytes: bytes,
    dict[str, Any]: lambda raw: orjson.loads(raw) if raw else {},
    dict[str, int]: lambda raw: orjson.loads(raw) if raw else {},
    dict[str, Any] | None: lambda raw: orjson.loads(raw) if raw else None,
    dict[str, int] | None: lambda raw: orjson.loads(raw) if raw else None,
}
_NAMES: Final = {"store_history": "history", "finish_reason": "finish", "goes_on": "answer"}
# The question is not in the hash; what has another type is read by itself.
_FIELDS: Final = {
    _NAMES.get(name, name).encode(): (name, _READ[kind])
    for name, kind in get_type_hints(Turn).items()
    if kind in _READ and name != "question"
}
_ABSENT: Final = {"epoch": 0, "attempt": 0, "model": "", "user": "", "pos": 0, "last": 0, "created": 0}


def turn_of(ref: TurnRef, stored: dict[bytes, bytes]) -> Turn:
    found: dict[str, Any] = {**_ABSENT}
    for key, raw in stored.items():
        if (known := _FIELDS.get(key)) is not None:
            found[known[0]] = known[1](raw)
    turn = Turn(ref, **found)
    turn.shows = _SHOWS.get(stored.get(b"shows", b""), "all")
    turn.price = _price(stored.get(b"price", b"").decode(), turn.answered_by)
    turn.cost = Amount.parse(stored.get(b"cost", b"").decode())
    return turn


def priced(price: Price | None, model: str) -> str:
    """A price as the turn's hash has it. It names its model: old workers change only that."""
    return f"{price.currency} {price.input} {price.cached} {price.output} {model}" if price else ""


def _price(text: str, model: str) -> Price | None:
    if not text:
        return None
    currency, entry, cached, output, of = text.split(" ", 4)
    return Price(currency, int(entry), int(cached), int(output)) if of == model else None


@dataclass(frozen=True, slots=True)
class Begin:
    """Everything begin.lua needs; see its header. Repeated with the same `claim` it is the same begin."""

    ref: TurnRef
    mode: Literal["append", "edit", "regenerate", "continue"]
    message_id: str
    message: bytes
    fields: dict[str, Any]
    started: bytes
    defaults: dict[str, str]
    seeds: Sequence[tuple[str, str, bytes]] = ()
    seeds_required: bool = True
    before: Sequence[str] = ()
    on_busy: str = "reject"
    named: bool = False
    must_exist: bool = False
    key: str | None = None
    fingerprint: str = ""
    keeps_versions: bool = False
    last_turn: str = ""
    created: int = 0  # as `started` says it, ms
    claim: str = field(default_factory=ids.new_claim)

    @property
    def size(self) -> int:
        """Bytes of the parts whose length a caller chooses: the message, a whole context, a history."""
        asked = len(self.fields.get("params", b"")) + len(self.fields.get("response", b""))
        return len(self.message) + asked + sum([len(seed[2]) for seed in self.seeds])

    @property
    def adds(self) -> int:
        """Bytes that it adds to Redis without the answer; nearly what begin.lua and seal.lua will count."""
        overhead = sum(2 * len(seed_id.encode()) + 160 for seed_id, _, _ in self.seeds)
        session = sum(len(value.encode()) for value in self.defaults.values())
        return _TURN_BYTES + self.size + overhead + session + 2 * len(self.started)


@dataclass(frozen=True, slots=True)
class Begun:
    outcome: str  # BEGUN KNOWN MISMATCH BUSY HAS_HISTORY NO_SESSION NO_MESSAGE MESSAGE_EXISTS FREE
    turn_id: str = ""
    state: str = ""
    message_id: str = ""
    pos: int = 0
    turns: int = 0  # of its session, with this one
    cut: bool = False  # its message stands where others may have stood
    drops: bool = False  # images may have lost the last message or version that named them


@dataclass(frozen=True, slots=True)
class Claim:
    outcome: str  # CLAIMED LEASED SEALED WAITING GONE
    turn: Turn | None = None
    promoted: bool = False
    milliseconds_left: int = 0
    milliseconds_lapsed: int = 0
    previous_owner: str = ""


@dataclass(frozen=True, slots=True)
class Seal:
    """Everything seal.lua needs. `first_id` 0: the payloads begin a new life of a log that lost events."""

    state: str
    first_id: int
    payloads: Sequence[bytes]
    fields: dict[str, Any]
    answer_id: str
    answer: bytes
    frees_key: bool = False


@dataclass(frozen=True, slots=True)
class Sealed:
    """`following` is the queued turn whose time has come, '' for none; `last` the terminal event's id.

    `stored` says, for the ledger, how many bytes are kept.
    """

    outcome: str  # SEALED FENCED GONE LOST UNKNOWN (the store is away)
    following: str = ""
    last: int = 0
    stored: str = ""
