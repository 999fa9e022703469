"""Entry: what stands between a send and its turn, in one round trip where there is one server.

The request limit, the place and the tokens, the announcement and the begin each have a module and
a script of their own; here they are called together (lua/enter.lua), since every round trip is time
before the first token. Invariant: whatever refuses leaves nothing behind of what comes after it.
What a refusal means is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from service.store.client import Client
from service.store.leases import Leases
from service.store.ledger import Bounds, Ledger, Reserved
from service.store.scripts import Call, Scripts
from service.store.turns import Begin, Begun, Turns

# By the limit: nothing was reserved.
_REFUSED: Final = Reserved(by="limit")


@dataclass(frozen=True, slots=True)
class Entered:
    """What the limit answered, [] without a toll; what was reserved; what came of the begin.

    The begin waits where fewer tokens were granted than asked for, and on Cluster.
    """

    charged: list[Any]
    reserved: Reserved = _REFUSED
    begun: Begun | None = None


class Entry:
    def __init__(
        self, client: Client, scripts: Scripts, leases: Leases, ledger: Ledger, turns: Turns, worker: str
    ) -> None:  # fmt: skip
        self._client = client
        self._scripts = scripts
        self._leases = leases
        self._ledger = ledger
        self._turns = turns
        self._worker = worker

    async def enter(
        self, begin: Begin, prompt: int, completion: int, bounds: Bounds, toll: Call | None
    ) -> Entered:
        """`toll` is the call that charges the send to its request limit (windows.py), if any.

        Raises StoreUnavailable; with a toll as soon as Redis is silent.
        """
        way = self._one_by_one if self._client.cluster else self._at_once
        entering = way(begin, prompt, completion, bounds, toll)
        return await (entering if toll is None else self._client.unless_silent(entering))

    async def _at_once(
        self, begin: Begin, prompt: int, completion: int, bounds: Bounds, toll: Call | None
    ) -> Entered:
        beginning = self._turns.beginning(begin, self._worker)
        reserving = self._ledger.reserving(begin.ref, prompt, completion, bounds)
        announcing = self._leases.announcing(begin.ref)
        name, names, limits = toll or ("", (), ())
        charged, *rest = await self._scripts.call(
            "enter",
            [*beginning[1], *reserving[1], *announcing[1], *names],
            [*beginning[2], *reserving[2], *announcing[2], *limits, name.removeprefix("limit_"), len(limits)],
        )
        return Entered(
            charged,
            self._ledger.reserved(rest[0]) if rest else _REFUSED,
            self._turns.begun(begin, rest[1]) if len(rest) > 1 else None,
        )

    async def _one_by_one(
        self, begin: Begin, prompt: int, completion: int, bounds: Bounds, toll: Call | None
    ) -> Entered:
        charged: list[Any] = []
        if toll is not None:
            charged = await self._scripts.call(*toll)
            if not charged[0]:
                return Entered(charged)
        await self._leases.own(begin.ref)
        reserved = await self._ledger.reserve(begin.ref, prompt, completion, bounds)
        if reserved.by:
            await self._leases.settle(begin.ref)
        return Entered(charged, reserved)
