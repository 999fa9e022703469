"""Turns in Redis: begin, claim, stop, seal, release, read.

Every change of a turn is one script (lua/), guarded by the epoch. What a turn is for and when
it changes is the engine's; the log's entries are log.py's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from service import ids
from service.errors import StoreUnavailable
from service.store.connection import lua
from service.store.connection.clock import Clock
from service.store.connection.typed_scripts import Call, flat
from service.store.leases import Leases
from service.store.part import Shared, StorePart, now_ms
from service.store.turn_records import Begin, Begun, Claim, Seal, Sealed, Turn, TurnRef, turn_of

# A turn begins within this share of the store timeout or not at all: later nobody waits for the reply.
_BEGIN_SHARE: Final = 0.95
# The fields of a turn that a list of turns shows.
_OUTLINE: Final = (
    *("state", "model", "answered_by", "attempt", "created", "owner", "epoch"),
    *("tokens", "prompt_tokens", "billed"),
)
# Turns that are read in one round trip.
_TURNS_AT_ONCE: Final = 500
# The fields that say which results of tools a turn was sent.
_RESULTS: Final = ("state", "answer", "sent", "round")


class Turns(StorePart):
    def __init__(self, shared: Shared, clock: Clock, leases: Leases) -> None:
        super().__init__(shared)
        self._clock = clock
        self._leases = leases

    def idempotency(self, ref: TurnRef, key: str | None) -> str:
        """The name of an idempotency key's entry, '' without a key; the turn's hash keeps it."""
        return self._session(ref).idempotency(key) if key else ""

    def until(self, within: float = math.inf) -> int:
        """The time, in ms of Redis's clock, after which a turn may not begin any more.

        That is in `within` seconds, or earlier: when the store timeout has nearly passed. 0, which is no
        bound, while Redis's clock is not known.
        """
        return self._clock.after(min(within, self._client.timeout * _BEGIN_SHARE))

    def beginning(self, begin: Begin, owner: str, till: int) -> Call:
        """The call that begins a turn, unless Redis reaches it after `till`; `begun` reads its reply."""
        keys = self._session(begin.ref)
        settings = self._settings
        fields = {**begin.fields, "idem": self.idempotency(begin.ref, begin.key), "claim": begin.claim}
        return lua.begin(
            keys,
            turn=keys.turn(begin.ref.turn_id),
            log=keys.log(begin.ref.turn_id),
            idem=keys.idempotency(begin.key or "-"),
            turn_id=begin.ref.turn_id,
            owner=owner,
            lease_ms=self.lease_ms,
            session_ttl=settings.session_ttl_seconds,
            ephemeral_ttl=settings.ephemeral_ttl_seconds,
            log_ttl=settings.log_ttl_seconds,
            idem_ttl=settings.idempotency_ttl_seconds,
            fingerprint=begin.fingerprint if begin.key else "",
            mode=begin.mode,
            message_id=begin.message_id,
            last_turn=begin.last_turn,
            message=begin.message,
            on_busy=begin.on_busy,
            most_queued=settings.max_queued_turns,
            named=begin.named,
            must_exist=begin.must_exist,
            most_versions=settings.max_versions if begin.keeps_versions else 0,
            started=begin.started,
            now_ms=now_ms(),
            till=till,
            seeds_required=begin.seeds_required,
            fields=flat(fields),
            defaults=flat(begin.defaults),
            seeds=[value for seed in begin.seeds for value in seed],
            before=begin.before,
        )

    def begun(self, begin: Begin, answer: list[Any]) -> Begun:
        """Reads the reply of `beginning`. Raises StoreUnavailable where Redis reached it after `till`."""
        outcome = answer[0].decode()
        if outcome == "LATE":
            raise StoreUnavailable
        if outcome == "BEGUN":
            return Begun(
                outcome,
                begin.ref.turn_id,
                answer[1].decode(),
                answer[3].decode(),
                int(answer[4]),
                int(answer[5]),
                cut=len(answer) < 7 or int(answer[6]) > 0,
                drops=len(answer) > 7 and int(answer[7]) > 0,
            )
        return Begun(outcome, answer[1].decode() if len(answer) > 1 else "")

    async def begin(self, begin: Begin, owner: str) -> Begun:
        return self.begun(begin, await self._scripts.call(self.beginning(begin, owner, self.until())))

    async def known(self, principal: str, session_id: str, key: str) -> tuple[str, str] | None:
        """The turn that an idempotency key has begun, and the fingerprint of its request."""
        name = self._keys.session(principal, session_id).idempotency(key)
        asking = self._redis.hmget(name, ("turn", "fingerprint"))
        turn, fingerprint = await self._client.run("known", asking)
        return (turn.decode(), fingerprint.decode()) if turn and fingerprint else None

    async def get(self, ref: TurnRef) -> Turn | None:
        fields = await self._client.run("get_turn", self._redis.hgetall(self._turn(ref)))
        return turn_of(ref, fields) if fields else None

    async def newest_of(self, principal: str, session_id: str, answer_id: str, count: int) -> list[Turn]:
        """Of the `count` newest turns of a session those that wrote an answer or its rest, newest first."""
        keys = self._keys.session(principal, session_id)
        names = await self._client.run("turns", self._redis.lrange(keys.turns, -count, -1))
        refs = [TurnRef(principal, session_id, name.decode()) for name in reversed(names)]
        turns = await self._read_fields(refs, _RESULTS)
        return [turn for turn in turns if turn.answer_id == answer_id]

    async def outlines(self, refs: Sequence[TurnRef]) -> list[Turn]:
        """The turns that exist, with the fields that a list shows. No text is read."""
        return await self._read_fields(refs, _OUTLINE)

    async def _read_fields(self, refs: Sequence[TurnRef], names: Sequence[str]) -> list[Turn]:
        """The turns that exist, with these fields of their hashes only."""
        turns: list[Turn] = []
        for first in range(0, len(refs), _TURNS_AT_ONCE):
            batch = refs[first : first + _TURNS_AT_ONCE]
            pipeline = self._redis.pipeline()
            for ref in batch:
                pipeline.hmget(self._turn(ref), names)
            replies = await self._client.run("list", pipeline.execute(), commands=len(batch))
            for ref, values in zip(batch, replies, strict=True):
                fields = {name.encode(): value for name, value in zip(names, values, strict=True) if value}
                if b"state" in fields:
                    turns.append(turn_of(ref, fields))
        return turns

    async def claim(self, ref: TurnRef, owner: str, *, force: bool = False) -> Claim:
        wait_ms = 0 if force else self._leases.owners_first_ms(ref)
        if wait_ms:
            return Claim("LEASED", milliseconds_left=wait_ms)
        keys = self._session(ref)
        answer = await self._scripts.call(
            lua.claim(
                keys,
                turn=keys.turn(ref.turn_id),
                log=keys.log(ref.turn_id),
                owner=owner,
                lease_ms=self.lease_ms,
                force=force,
                log_ttl=self._settings.log_ttl_seconds,
                claim=ids.new_claim(),
                now_ms=now_ms(),
            ),
            # While a Cluster moves their slot, its owner cannot renew either: the owner is to go on first.
            patient=force,
        )
        outcome = answer[0].decode()
        if outcome == "LEASED":
            return Claim(outcome, milliseconds_left=int(answer[1]))
        claimed = outcome == "CLAIMED"
        flat = answer[4:] if claimed else answer[1:]
        turn = turn_of(ref, dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None
        if not claimed:
            return Claim(outcome, turn)
        return Claim(
            outcome,
            turn,
            promoted=answer[1] == b"1",
            milliseconds_lapsed=int(answer[2]),
            previous_owner=answer[3].decode(),
        )

    async def free_session(self, ref: TurnRef, key: str | None = None) -> tuple[str, str]:
        """Free the session, and the idempotency key if given, of a turn that is gone or has ended.

        Returns (FREED | NOTHING | HELD | ABANDONED, the id of the queued turn that is next or '').
        """
        keys = self._session(ref)
        outcome, *following = await self._scripts.call(
            lua.free_session(
                keys, turn=keys.turn(ref.turn_id), idem=keys.idempotency(key or "-"), turn_id=ref.turn_id
            )
        )
        return outcome.decode(), following[0].decode() if following else ""

    async def stop(self, ref: TurnRef) -> tuple[str, str, int] | None:
        """Ask for a stop. Returns (state, owner, ms that the lease has left), None for an unknown turn."""
        answer = await self._scripts.call(lua.stop(turn=self._turn(ref)))
        return (answer[0].decode(), answer[1].decode(), int(answer[2])) if answer else None

    async def deliver(self, ref: TurnRef) -> None:
        """Note that a reader was sent the end of the turn."""
        await self._scripts.call(lua.deliver(turn=self._turn(ref)))

    async def withdraw(self, ref: TurnRef) -> None:
        """Forget what a Response repeats of its request; the turn is no Response any more."""
        await self._scripts.call(lua.withdraw(turn=self._turn(ref)))

    async def notify(self, worker: str, ref: TurnRef) -> None:
        """Tell a worker at once that one of its turns is to stop."""
        await self._client.run("ring", self._redis.publish(self._keys.worker_channel(worker), str(ref)))

    async def seal(self, turn: Turn, seal: Seal) -> Sealed:
        """Raises StoreUnavailable."""
        return self.sealed(await self._scripts.call(self.sealing(turn, seal)))

    def sealing(self, turn: Turn, seal: Seal) -> Call:
        """The call that seals a turn; `sealed` reads its reply."""
        keys = self._session(turn.ref)
        settings = self._settings
        return lua.seal(
            keys,
            turn=keys.turn(turn.ref.turn_id),
            log=keys.log(turn.ref.turn_id),
            log_copy=keys.log_copy(turn.ref.turn_id),
            idem=turn.idem or keys.idempotency("-"),
            epoch=turn.epoch,
            claim=turn.claim,
            first=seal.first_id,
            state=seal.state,
            answer_id=seal.answer_id,
            answer=seal.answer,
            session_ttl=settings.session_ttl_seconds,
            ephemeral_ttl=settings.ephemeral_ttl_seconds,
            log_ttl=settings.log_ttl_seconds,
            frees_key=seal.frees_key,
            now_ms=now_ms(),
            fields=flat(seal.fields),
            payloads=seal.payloads,
        )

    def sealed(self, answer: list[Any]) -> Sealed:
        if len(answer) == 1:
            return Sealed(answer[0].decode())
        return Sealed(answer[0].decode(), answer[1].decode(), int(answer[2]), answer[3].decode())

    async def lost_writes(self, turn: Turn) -> bool:
        """May the store have lost acknowledged writes since the turn was begun or claimed?"""
        present = await self._scripts.call(lua.history(key=self._turn(turn.ref)))
        return bool(turn.store_history) and present.decode() != turn.store_history

    async def release(self, turn: Turn) -> bool:
        releasing = lua.release(turn=self._turn(turn.ref), epoch=turn.epoch, claim=turn.claim)
        return bool(await self._scripts.call(releasing))
