"""Turns in Redis: begin, claim, stop, seal, release, read.

Every change of a turn is one script (lua/), guarded by the epoch. What a turn is for and when
it changes is the engine's; the log's entries are log.py's.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

from service import ids
from service.config.settings import Settings
from service.errors import StoreUnavailable
from service.store.connection.client import Client
from service.store.connection.clock import Clock
from service.store.connection.scripts import Call, Scripts
from service.store.keys import Keys, SessionKeys
from service.store.turn_records import Begin, Begun, Claim, Seal, Sealed, Turn, TurnRef, _turn

# A begin that takes longer has an answer that nobody waits for.
_OF_THE_TIMEOUT: Final = 0.95


def _pairs(fields: dict[str, Any]) -> list[Any]:
    flat: list[Any] = []
    for name, value in fields.items():
        flat += (name, value)
    return flat


class Turns:
    def __init__(
        self, client: Client, scripts: Scripts, keys: Keys, settings: Settings, clock: Clock
    ) -> None:
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
            begin.ref.turn_id,
            owner,
            self.lease_ms,
            settings.session_ttl_seconds,
            settings.ephemeral_ttl_seconds,
            settings.log_ttl_seconds,
            settings.idempotency_ttl_seconds,
            begin.fingerprint if begin.key else "",
            begin.mode,
            begin.message_id,
            begin.message,
            begin.on_busy,
            settings.max_queued_turns,
            int(begin.named),
            int(begin.must_exist),
            begin.started,
            int(time.time() * 1000),
            till,
            len(fields),
            *_pairs(fields),
            len(begin.defaults),
            *_pairs(begin.defaults),
            int(begin.seeds_required),
            len(begin.seeds),
        ]
        for seed in begin.seeds:
            args += seed
        args += [len(begin.before), *begin.before]
        names = [
            keys.session,
            keys.order,
            keys.messages,
            keys.turns,
            keys.queue,
            keys.turn(begin.ref.turn_id),
            keys.log(begin.ref.turn_id),
            idem,
        ]
        return "begin", names, args

    def begun(self, begin: Begin, answer: list[Any]) -> Begun:
        """Raises StoreUnavailable where Redis came to it too late."""
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
            )
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
            outcome,
            turn,
            promoted=answer[1] == b"1",
            milliseconds_lapsed=int(answer[2]),
            previous_owner=answer[3].decode(),
        )

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
        names = [
            keys.turn(turn.ref.turn_id),
            keys.log(turn.ref.turn_id),
            keys.session,
            keys.order,
            keys.messages,
            keys.queue,
            turn.idem or keys.idempotency("-"),
        ]
        answer = await self._scripts.call(
            "seal",
            names,
            [
                turn.epoch,
                turn.claim,
                seal.first_id,
                seal.state,
                seal.answer_id,
                seal.answer,
                settings.session_ttl_seconds,
                settings.ephemeral_ttl_seconds,
                settings.log_ttl_seconds,
                int(seal.frees_key),
                int(time.time() * 1000),
                len(seal.fields),
                *_pairs(seal.fields),
                *seal.payloads,
            ],
        )
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
