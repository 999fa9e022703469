"""Entry: what stands between a send and its turn, in as few round trips as there can be.

The request limit, the place and the tokens, the announcement and the begin each have a module and
a script of their own; where there is one server they are called together, since every round trip is
time before the first token: in one (lua/enter.lua), or where a session is to be looked at in two
(lua/look.lua). A large message goes into the begin alone, when all the others have let it in: a
refusal costs Redis nothing that grows with it. Invariant: whatever refuses leaves nothing behind of
what comes after it. What a refusal means is not decided here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from service.errors import StoreUnavailable
from service.store.connection.client import Client
from service.store.connection.scripts import Call, Scripts
from service.store.leases import Leases
from service.store.ledger import Bounds, Ledger, Reserved
from service.store.sessions import Page, Session, Sessions
from service.store.turns import Begin, Begun, Turns

# A way in with a toll is left undone where Redis comes to it later: after 0.25 s of silence it is asked anew.
_WITH_TOLL_SECONDS: Final = 0.5
# What Redis takes in without a pause that others notice: 0.1 ms for a message of this size, twenty times as
# much for the largest.
_SMALL_BYTES: Final = 16_384
# By the limit: nothing was reserved.
_REFUSED: Final = Reserved(by="limit")


@dataclass(slots=True)
class Seen:
    """A session and the newest of its history: `page` is None where that is still to be read, and grows.

    `charged` is what the limit answered, [] without a toll; where it refused nothing was looked at.
    """

    charged: list[Any] = field(default_factory=list)
    session: Session | None = None
    page: Page | None = None


@dataclass(frozen=True, slots=True)
class Entered:
    """What the limit answered, [] without a toll; what was reserved; what came of the begin.

    The begin waits where fewer tokens were granted than asked for, where its message is large, and on
    Cluster.
    """

    charged: list[Any]
    reserved: Reserved = _REFUSED
    begun: Begun | None = None


class Entry:
    def __init__(
        self, client: Client, scripts: Scripts, sessions: Sessions, leases: Leases, ledger: Ledger,
        turns: Turns, worker: str,
    ) -> None:  # fmt: skip
        self._client = client
        self._scripts = scripts
        self._sessions = sessions
        self._leases = leases
        self._ledger = ledger
        self._turns = turns
        self._worker = worker

    async def look(self, principal: str, session_id: str, count: int, size: int, toll: Call | None) -> Seen:
        """The session and its newest messages, as many as `Sessions.window` gives.

        `toll` is the call that charges the send to its request limit (windows.py), if any.
        Raises StoreUnavailable; with a toll as soon as Redis is silent.
        """
        way = self._look_one_by_one if self._client.cluster else self._look_at_once
        looking = way(principal, session_id, count, size, toll)
        return await (looking if toll is None else self._client.unless_silent(looking))

    async def _look_at_once(
        self, principal: str, session_id: str, count: int, size: int, toll: Call | None
    ) -> Seen:
        names, window = self._sessions.looking(principal, session_id, count, size)
        name, of_limit, limits = toll or ("", (), ())
        charged, *rest = await self._scripts.call(
            "look", [*names, *of_limit], [*window, *limits, name.removeprefix("limit_")]
        )
        return Seen(charged, *self._sessions.looked_at(session_id, *rest)) if rest else Seen(charged)

    async def _look_one_by_one(
        self, principal: str, session_id: str, count: int, size: int, toll: Call | None
    ) -> Seen:
        charged, passes = await self._charge(toll)
        if not passes:
            return Seen(charged)
        return Seen(charged, await self._sessions.get(principal, session_id))

    async def enter(
        self, begin: Begin, prompt: int, completion: int, bounds: Bounds, toll: Call | None
    ) -> Entered:
        """`toll` as for `look`. Raises StoreUnavailable; with a toll as soon as Redis is silent."""
        if self._client.doubted:
            # A read first: a turn that replicas do not acknowledge is there, though its sender is told 503.
            await self._sessions.get(begin.ref.principal, begin.ref.session_id)
        alone = self._client.cluster or begin.size > _SMALL_BYTES
        way = self._enter_one_by_one if alone else self._enter_at_once
        entering = way(begin, prompt, completion, bounds, toll)
        return await (entering if toll is None else self._client.unless_silent(entering))

    async def _enter_at_once(
        self, begin: Begin, prompt: int, completion: int, bounds: Bounds, toll: Call | None
    ) -> Entered:
        within = math.inf if toll is None else _WITH_TOLL_SECONDS
        beginning = self._turns.beginning(begin, self._worker, within)
        reserving = self._ledger.reserving(
            begin.ref, prompt, completion, bounds, begin.adds, named=begin.named
        )
        announcing = self._leases.announcing(begin.ref)
        name, names, limits = toll or ("", (), ())
        answer = await self._scripts.call(
            "enter",
            [*beginning[1], *reserving[1], *announcing[1], *names],
            [*beginning[2], *reserving[2], *announcing[2], *limits, name.removeprefix("limit_"), len(limits)],
        )
        if not answer:
            raise StoreUnavailable  # it has come to it too late
        charged, *rest = answer
        return Entered(
            charged,
            self._ledger.reserved(rest[0]) if rest else _REFUSED,
            self._turns.begun(begin, rest[1]) if len(rest) > 1 else None,
        )

    async def _enter_one_by_one(
        self, begin: Begin, prompt: int, completion: int, bounds: Bounds, toll: Call | None
    ) -> Entered:
        charged, passes = await self._charge(toll)
        if not passes:
            return Entered(charged)
        await self._leases.own(begin.ref)
        reserved = await self._ledger.reserve(
            begin.ref, prompt, completion, bounds, begin.adds, named=begin.named
        )
        if reserved.by:
            await self._leases.settle(begin.ref)
        return Entered(charged, reserved)

    async def _charge(self, toll: Call | None) -> tuple[list[Any], bool]:
        """What the limit answers, and whether it lets the send in."""
        charged: list[Any] = [] if toll is None else await self._scripts.call(*toll)
        return charged, toll is None or bool(charged[0])
