"""Admitting a send: all that Redis is asked between a request and its turn, in few round trips.

The request limit, the running-turn slot, the token budget, the announcement and the begin each have a
module and a script of their own. On one server they are called together, since every round trip delays
the first token: in one (lua/enter.lua), or in two where the session is read first (lua/look.lua). A
large message is sent by the begin alone, after all the others have let it in, so that a refusal costs
Redis nothing that grows with the message. Invariant: a step that refuses leaves nothing behind of the
steps after it. What a refusal means is decided elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from service.errors import StoreUnavailable
from service.store.connection import lua
from service.store.connection.typed_scripts import NO_CALL, Call
from service.store.leases import Leases
from service.store.ledger import Ledger, Need, Reserved
from service.store.messages import HistoryPage, Session, page_of, session_of
from service.store.part import Shared, StorePart
from service.store.sessions import Sessions
from service.store.turn_records import Begin, Begun
from service.store.turns import Turns
from service.store.windows import Charge, Windows

# If Redis reaches this later than 0.5 s it must do nothing, since we ask again after 0.25 s of silence.
_WITH_CHARGE_SECONDS: Final = 0.5
# Bytes of a message that Redis takes in within 0.1 ms; the largest takes 2 ms, in which others wait.
_SMALL_BYTES: Final = 16_384
# The request limit has refused: nothing was reserved.
_REFUSED: Final = Reserved(by="limit")


@dataclass(slots=True)
class SessionSnapshot:
    """A session and its newest messages: `page` is None until they are read, and grows.

    `charged` is the reply of the request limit, [] without a charge; where it refused, nothing was read.
    """

    charged: list[Any] = field(default_factory=list)
    session: Session | None = None
    page: HistoryPage | None = None


@dataclass(frozen=True, slots=True)
class AdmitResult:
    """The reply of the request limit ([] without a charge), what was reserved, and the begin.

    `begun` is None where the begin is still to be called: fewer tokens were granted than asked for, the
    message is large, or the store is a Cluster.
    """

    charged: list[Any]
    reserved: Reserved = _REFUSED
    begun: Begun | None = None


class SendAdmission(StorePart):
    def __init__(
        self,
        shared: Shared,
        sessions: Sessions,
        windows: Windows,
        leases: Leases,
        ledger: Ledger,
        turns: Turns,
    ) -> None:
        super().__init__(shared)
        self._sessions = sessions
        self._windows = windows
        self._leases = leases
        self._ledger = ledger
        self._turns = turns

    async def read_snapshot(
        self, principal: str, session_id: str, count: int, size: int, charge: Charge | None
    ) -> SessionSnapshot:
        """The session and its newest messages, as many as `Sessions.window` gives.

        `charge` is what the send costs of its caller's request limit (windows.py), if anything.
        Raises StoreUnavailable; with a charge as soon as Redis is silent.
        """
        if self._client.cluster:
            stepping = self._snapshot_step_by_step(principal, session_id, charge)
            return await (stepping if charge is None else self._client.unless_silent(stepping))
        looking = self._scripts.call(
            lua.look(
                self._keys.session(principal, session_id),
                limiting=self._limiting(charge),
                reading=self._sessions.reading(principal, session_id, count, size),
            )
        )
        charged, *rest = await (looking if charge is None else self._client.unless_silent(looking))
        if not rest:
            return SessionSnapshot(charged)
        fields, window = rest
        session = session_of(session_id, dict(zip(fields[::2], fields[1::2], strict=True)))
        return SessionSnapshot(charged, session, page_of(window))

    async def _snapshot_step_by_step(
        self, principal: str, session_id: str, charge: Charge | None
    ) -> SessionSnapshot:
        charged, passes = await self._charge(charge)
        if not passes:
            return SessionSnapshot(charged)
        return SessionSnapshot(charged, await self._sessions.get(principal, session_id))

    async def admit(self, begin: Begin, need: Need, charge: Charge | None) -> AdmitResult:
        """`charge` as for `read_snapshot`. Raises StoreUnavailable; with one as soon as Redis is silent."""
        if self._client.doubted:
            # A read first: it is 503 while replicas do not acknowledge. So is a begin, but it leaves a turn.
            await self._sessions.get(begin.ref.principal, begin.ref.session_id)
        alone = self._client.cluster or begin.size > _SMALL_BYTES
        way = self._admit_step_by_step if alone else self._admit_in_one
        admitting = way(begin, need, charge)
        return await (admitting if charge is None else self._client.unless_silent(admitting))

    async def _admit_in_one(self, begin: Begin, need: Need, charge: Charge | None) -> AdmitResult:
        ref, till = begin.ref, self._turns.until(math.inf if charge is None else _WITH_CHARGE_SECONDS)
        answer = await self._scripts.call(
            lua.enter(
                self._keys.session(ref.principal, ref.session_id),
                till=till,
                tokens=need.prompt + need.completion,
                limiting=self._limiting(charge),
                reserving=self._ledger.reserving(ref, need, begin.adds, named=begin.named),
                announcing=self._leases.announcing(ref),
                beginning=self._turns.beginning(begin, self._worker, till),
            )
        )
        if not answer:
            raise StoreUnavailable  # Redis reached it too late
        charged, *rest = answer
        return AdmitResult(
            charged,
            self._ledger.reserved(rest[0]) if rest else _REFUSED,
            self._turns.begun(begin, rest[1]) if len(rest) > 1 else None,
        )

    async def _admit_step_by_step(self, begin: Begin, need: Need, charge: Charge | None) -> AdmitResult:
        charged, passes = await self._charge(charge)
        if not passes:
            return AdmitResult(charged)
        await self._leases.own(begin.ref)
        reserved = await self._ledger.reserve(
            begin.ref, need.prompt, need.completion, need.bounds, begin.adds, named=begin.named
        )
        if reserved.by:
            await self._leases.forget(begin.ref)
        return AdmitResult(charged, reserved)

    def _limiting(self, charge: Charge | None) -> Call:
        return NO_CALL if charge is None else self._windows.call_of(charge)

    async def _charge(self, charge: Charge | None) -> tuple[list[Any], bool]:
        """The reply of the limit, and whether it lets the send in."""
        charged: list[Any] = [] if charge is None else await self._scripts.call(self._windows.call_of(charge))
        return charged, charge is None or bool(charged[0])
