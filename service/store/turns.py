"""Turns in Redis: begin, claim, stop, seal, release, read.

Every change of a turn is one script (lua/), guarded by the epoch. What a turn is for and when
it changes is the engine's; the log's entries are log.py's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from service import ids
from service.config.settings import Settings
from service.errors import StoreUnavailable
from service.store.connection.client import Client
from service.store.connection.clock import Clock
from service.store.connection.scripts import Call, Scripts
from service.store.keys import Keys, SessionKeys
from service.store.sessions import Page

#: what a response shows of an answer before it ends well: all events, text but no reasoning, nothing
Shows = Literal["all", "text", "end"]
_SHOWS: Final[dict[bytes, Shows]] = {b"text": "text", b"end": "end"}
#: ids between the beginnings of two lives of a log (lua/next_life.lua); more than a turn has events
LIFE: Final = 1_000_000
# The keys of a turn, its session and its entries in indexes, whatever is said in it (measured).
_TURN_BYTES: Final = 3_000
# A begin that takes longer has an answer that nobody waits for.
_OF_THE_TIMEOUT: Final = 0.95


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
    """A turn's hash, decoded.

    `epoch` and `claim` (a nonce) are its owner's right to write. `kept` is the last event that was left
    where the store may have lost some, None where it has not; what follows is a new life of the log.
    `last` is the id of its last event, `void` that of its last restart. `delivered`: a reader who
    cannot ask for what it lacks (AI SDK) was sent the end of it. `shows`: what its sender
    is shown before it ends well. `question` is what it answers, where
    this worker has begun it, and `history` what it then knew to be before that; else they are read.
    `stored` is what its seal has told the ledger of the bytes that it keeps. `response` is what a Response
    (OpenAI's) repeats of its request.
    """

    ref: TurnRef
    state: str
    epoch: int
    attempt: int
    model: str
    user: str
    pos: int
    last: int
    created: int
    params: dict[str, Any] = field(default_factory=dict)
    shown: bool = False
    stop: bool = False
    owner: str = ""
    claim: str = ""
    store_history: str = ""
    kept: int | None = None
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
    void: int = 0
    delivered: bool = False
    shows: Shows = "all"
    question: str = ""
    history: Page | None = None
    stored: str = ""
    response: dict[str, Any] = field(default_factory=dict)

    @property
    def sealed(self) -> bool:
        return self.state in ("completed", "stopped", "failed")

    @property
    def opens_life(self) -> bool:
        """Claimed after a loss, and nothing is written since: what readers were shown is not known."""
        return self.kept is not None and (self.last + 1) % LIFE == 0


def _turn(ref: TurnRef, fields: dict[bytes, bytes]) -> Turn:
    def number(name: bytes) -> int:
        return int(float(fields.get(name) or 0))

    def document(name: bytes) -> Any:
        return orjson.loads(fields[name]) if fields.get(name) else None

    return Turn(
        ref=ref,
        state=fields[b"state"].decode(),
        epoch=number(b"epoch"),
        attempt=number(b"attempt"),
        model=fields.get(b"model", b"").decode(),
        user=fields.get(b"user", b"").decode(),
        pos=number(b"pos"),
        last=number(b"last"),
        created=number(b"created"),
        params=document(b"params") or {},
        shown=fields.get(b"shown") == b"1",
        stop=fields.get(b"stop") == b"1",
        owner=fields.get(b"owner", b"").decode(),
        claim=fields.get(b"claim", b"").decode(),
        store_history=fields.get(b"history", b"").decode(),
        kept=number(b"kept") if b"kept" in fields else None,
        tokens=number(b"tokens"),
        prompt_tokens=number(b"prompt_tokens"),
        billed=document(b"billed") or {},
        started=fields.get(b"started", b""),
        idem=fields.get(b"idem", b"").decode(),
        reserved=number(b"reserved"),
        answered_by=fields.get(b"answered_by", b"").decode(),
        usage=document(b"usage"),
        finish_reason=fields[b"finish"].decode() if b"finish" in fields else None,
        error=document(b"error"),
        trace=fields.get(b"trace", b"").decode(),
        request=fields.get(b"request", b"").decode(),
        void=number(b"void"),
        delivered=fields.get(b"delivered") == b"1",
        shows=_SHOWS.get(fields.get(b"shows", b""), "all"),
        stored=fields.get(b"stored", b"").decode(),
        response=document(b"response") or {},
    )


@dataclass(frozen=True, slots=True)
class Begin:
    """Everything begin.lua needs; see its header. Repeated with the same `claim` it is the same begin."""

    ref: TurnRef
    mode: Literal["append", "edit", "regenerate"]
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
    claim: str = field(default_factory=ids.new_claim)

    @property
    def size(self) -> int:
        """Bytes of what a caller may make large: the message, a whole context, a history."""
        return (
            len(self.message)
            + sum(len(self.fields.get(name, b"")) for name in ("params", "response"))
            + sum(len(seed[2]) for seed in self.seeds)
        )

    @property
    def adds(self) -> int:
        """Bytes that it adds to Redis, without the answer; about what begin.lua and seal.lua will count."""
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

    `stored` is what the ledger is told of the bytes that are kept.
    """

    outcome: str  # SEALED FENCED GONE LOST UNKNOWN (the store is away)
    following: str = ""
    last: int = 0
    stored: str = ""


def _pairs(fields: dict[str, Any]) -> list[Any]:
    flat: list[Any] = []
    for name, value in fields.items():
        flat += (name, value)
    return flat


class Turns:
    def __init__(
        self, client: Client, scripts: Scripts, keys: Keys, settings: Settings, clock: Clock
    ) -> None:  # fmt: skip
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self.lease_ms = int(settings.lease_seconds * 1000)

    def _session(self, ref: TurnRef) -> SessionKeys:
        return self._keys.session(ref.principal, ref.session_id)

    def idempotency(self, ref: TurnRef, key: str | None) -> str:
        """The entry of an idempotency key, '' without one; it stands in the turn."""
        return self._session(ref).idempotency(key) if key else ""

    def beginning(self, begin: Begin, owner: str, within: float = math.inf) -> Call:
        """The call that begins a turn, in so many seconds or not at all; `begun` reads what it returns.

        In any case not when nobody waits for it any more, or its answer would come too late.
        """
        till = self._clock.after(min(within, self._client.timeout * _OF_THE_TIMEOUT))
        keys = self._session(begin.ref)
        settings = self._settings
        idem = keys.idempotency(begin.key or "-")
        fields = {**begin.fields, "idem": self.idempotency(begin.ref, begin.key), "claim": begin.claim}
        args: list[Any] = [
            begin.ref.turn_id, owner, self.lease_ms,
            settings.session_ttl_seconds, settings.ephemeral_ttl_seconds, settings.log_ttl_seconds,
            settings.idempotency_ttl_seconds, begin.fingerprint if begin.key else "", begin.mode,
            begin.message_id, begin.message, begin.on_busy, settings.max_queued_turns,
            int(begin.named), int(begin.must_exist), begin.started, int(time.time() * 1000), till,
            len(fields), *_pairs(fields), len(begin.defaults), *_pairs(begin.defaults),
            int(begin.seeds_required), len(begin.seeds),
        ]  # fmt: skip
        for seed in begin.seeds:
            args += seed
        args += [len(begin.before), *begin.before]
        names = [keys.session, keys.order, keys.messages, keys.turns, keys.queue,
                 keys.turn(begin.ref.turn_id), keys.log(begin.ref.turn_id), idem]  # fmt: skip
        return "begin", names, args

    def begun(self, begin: Begin, answer: list[Any]) -> Begun:
        """Raises StoreUnavailable where Redis came to it too late."""
        outcome = answer[0].decode()
        if outcome == "LATE":
            raise StoreUnavailable
        if outcome == "BEGUN":
            return Begun(
                outcome, begin.ref.turn_id, answer[1].decode(), answer[3].decode(), int(answer[4]),
                int(answer[5]), cut=len(answer) < 7 or int(answer[6]) > 0,
            )  # fmt: skip
        return Begun(outcome, answer[1].decode() if len(answer) > 1 else "")

    async def begin(self, begin: Begin, owner: str) -> Begun:
        return self.begun(begin, await self._scripts.call(*self.beginning(begin, owner)))

    async def known(self, principal: str, session_id: str, key: str) -> tuple[str, str] | None:
        """The turn and the fingerprint that an idempotency key belongs to."""
        name = self._keys.session(principal, session_id).idempotency(key)
        found = await self._client.run("known", self._client.redis.hmget(name, "turn", "fingerprint"))
        return (found[0].decode(), found[1].decode()) if found[0] else None

    async def get(self, ref: TurnRef) -> Turn | None:
        name = self._session(ref).turn(ref.turn_id)
        fields = await self._client.run("get_turn", self._client.redis.hgetall(name))
        return _turn(ref, fields) if fields else None

    async def claim(self, ref: TurnRef, owner: str, *, force: bool = False) -> Claim:
        keys = self._session(ref)
        answer = await self._scripts.call(
            "claim",
            [keys.turn(ref.turn_id), keys.log(ref.turn_id), keys.session],
            [
                owner,
                self.lease_ms,
                int(force),
                self._settings.log_ttl_seconds,
                ids.new_claim(),
                int(time.time() * 1000),
            ],
            # While its keys are apart its owner cannot renew it either; who is to go on first is the owner.
            patient=force,
        )
        outcome = answer[0].decode()
        if outcome == "LEASED":
            return Claim(outcome, milliseconds_left=int(answer[1]))
        claimed = outcome == "CLAIMED"
        flat = answer[4:] if claimed else answer[1:]
        turn = _turn(ref, dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None
        if not claimed:
            return Claim(outcome, turn)
        return Claim(
            outcome, turn, promoted=answer[1] == b"1", milliseconds_lapsed=int(answer[2]),
            previous_owner=answer[3].decode(),
        )  # fmt: skip

    async def free_session(self, ref: TurnRef, key: str | None = None) -> tuple[str, str]:
        """What the session, and the idempotency key where given, hold for a turn that is gone or has ended.

        Returns (FREED | NOTHING | HELD | ABANDONED, id of the queued turn whose time has come or '').
        """
        keys = self._session(ref)
        names = [keys.session, keys.turn(ref.turn_id), keys.queue, keys.idempotency(key or "-")]
        outcome, *following = await self._scripts.call("free_session", names, [ref.turn_id])
        return outcome.decode(), following[0].decode() if following else ""

    async def stop(self, ref: TurnRef) -> tuple[str, str, int] | None:
        """Note the wish. Returns (state, owner, ms the lease has left), None for an unknown turn."""
        answer = await self._scripts.call("stop", [self._session(ref).turn(ref.turn_id)], [])
        return (answer[0].decode(), answer[1].decode(), int(answer[2])) if answer else None

    async def deliver(self, ref: TurnRef) -> None:
        """Note that a reader was sent the end of the turn."""
        await self._scripts.call("deliver", [self._session(ref).turn(ref.turn_id)], [])

    async def withdraw(self, ref: TurnRef) -> None:
        """Forget what a Response repeats of its request; the turn is no Response any more."""
        await self._scripts.call("withdraw", [self._session(ref).turn(ref.turn_id)], [])

    async def notify(self, worker: str, ref: TurnRef) -> None:
        """Tell a worker at once that a turn of its own shall stop."""
        await self._client.run(
            "ring", self._client.redis.publish(self._keys.worker_channel(worker), str(ref))
        )

    async def seal(self, turn: Turn, seal: Seal) -> Sealed:
        """Raises StoreUnavailable."""
        keys = self._session(turn.ref)
        settings = self._settings
        names = [keys.turn(turn.ref.turn_id), keys.log(turn.ref.turn_id), keys.session, keys.order,
                 keys.messages, keys.queue, turn.idem or keys.idempotency("-")]  # fmt: skip
        answer = await self._scripts.call("seal", names, [
            turn.epoch, turn.claim, seal.first_id, seal.state, seal.answer_id, seal.answer,
            settings.session_ttl_seconds, settings.ephemeral_ttl_seconds, settings.log_ttl_seconds,
            int(seal.frees_key), int(time.time() * 1000),
            len(seal.fields), *_pairs(seal.fields), *seal.payloads,
        ])  # fmt: skip
        if len(answer) == 1:
            return Sealed(answer[0].decode())
        return Sealed(answer[0].decode(), answer[1].decode(), int(answer[2]), answer[3].decode())

    async def lost_writes(self, turn: Turn) -> bool:
        """May the store have lost acknowledged writes since the turn was begun or claimed?"""
        present = await self._scripts.call("history", [self._session(turn.ref).turn(turn.ref.turn_id)], [])
        return bool(turn.store_history) and present.decode() != turn.store_history

    async def release(self, turn: Turn) -> bool:
        name = self._session(turn.ref).turn(turn.ref.turn_id)
        return bool(await self._scripts.call("release", [name], [turn.epoch, turn.claim]))
