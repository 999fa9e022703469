"""The ledger: what a principal's turns hold and have used, by Redis's clock.

A turn that begins is announced, reserves a place and tokens (lua/reserve.lua), keeps them while
it runs (hold.lua) and settles once (settle.lua). Invariants: a turn's entry in `reserved` is the one
chance to settle it, so that a settle may be repeated at any time; places lapse with their worker
and come back by themselves; `held` is what all places have reserved, added up. What the bounds are and
what a refusal says belong to engine/budgets.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from service.errors import StoreUnavailable
from service.money import Amount, Price
from service.store.account import Account
from service.store.connection import lua
from service.store.connection.typed_scripts import Call
from service.store.leases import Leases
from service.store.ledger_records import Standing, Usage, by_model, ends_of_periods
from service.store.part import Shared, StorePart, now_ms
from service.store.turn_records import TurnRef
from service.telemetry import metrics
from service.usage import detail

#: longest first: of two exhausted budgets the longer one says how long to wait
PERIODS: Final = ("month", "day", "minute")
#: the same for budgets in money
MONEY_PERIODS: Final = ("month", "day")
#: days of usage that are kept: a year and a bit, for who compares this month with the last year's
USAGE_DAYS: Final = 400
# An answer shorter than a paragraph or two is not worth its prompt.
_LEAST_COMPLETION: Final = 256
# Principals that a worker remembers to have listed among those with usage; beyond it, it starts anew.
_MOST_NOTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many turns a principal may run at once, and how much it may use per period; 0 is no bound.

    Money is in nanos of `currency`. A turn is reserved for at `price`, that of its model.
    """

    running: int = 0
    month: int = 0
    day: int = 0
    minute: int = 0
    month_money: int = 0
    day_money: int = 0
    currency: str = "USD"
    price: Price | None = None

    @property
    def money(self) -> int:
        return self.month_money + self.day_money

    @property
    def budgets(self) -> tuple[int, ...]:
        return (self.month, self.day, self.minute, self.month_money, self.day_money)


@dataclass(frozen=True, slots=True)
class Need:
    """Tokens of a turn that is about to begin, and what bounds them."""

    prompt: int
    completion: int
    bounds: Bounds

    @property
    def tokens(self) -> int:
        """What the turn will hold; 0 where nothing is bounded."""
        bounded = self.bounds.running or any(self.bounds.budgets)
        return self.prompt + self.completion if bounded else 0


@dataclass(frozen=True, slots=True)
class Reserved:
    """`by` is '' or what refused: turns, month, day, minute, month_money, day_money, sessions, bytes.

    `wait` s; 0 as soon as turns end.
    """

    tokens: int = 0
    by: str = ""
    wait: float | None = None


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


@dataclass(frozen=True, slots=True)
class Booking:
    """What a turn that has ended has used. Model '': it gives back what it holds, and nothing is booked.

    `cost` None: not known. `currency` is that of the budgets in money.
    """

    model: str
    usage: dict[str, Any]
    cost: Amount | None = None
    currency: str = "USD"
    date: str = field(default_factory=_today)


class Ledger(StorePart):
    def __init__(self, shared: Shared, account: Account, leases: Leases) -> None:
        super().__init__(shared)
        self._leases = leases
        self._account = account
        self._ttl = account.longest  # as long as the turn's hash: a sweep may settle it until then
        self._noted: set[str] = set()
        self._noted_on = ""

    def reserving(self, ref: TurnRef, need: Need, size: int, *, named: bool) -> Call:
        """The call that reserves for a turn that stores `size` bytes; `reserved` reads its reply."""
        keys, account, bounds = self._keys.principal(ref.principal), self._account, need.bounds
        return lua.reserve(
            keys,
            month_spent=keys.spent("month", bounds.currency),
            day_spent=keys.spent("day", bounds.currency),
            turn_id=ref.turn_id,
            lease_ms=self.lease_ms,
            places=bounds.running,
            prompt=need.prompt,
            completion=need.completion,
            ttl=self._ttl,
            least_completion=_LEAST_COMPLETION,
            month_budget=bounds.month,
            day_budget=bounds.day,
            minute_budget=bounds.minute,
            session_id=ref.session_id,
            adds=size,
            most_sessions=account.most_sessions,
            most_bytes=account.most_bytes,
            lives=account.lives(named=named),
            month_money=bounds.month_money,
            day_money=bounds.day_money,
            input_price=bounds.price.input if bounds.price else 0,
            output_price=bounds.price.output if bounds.price else 0,
        )

    async def reserve(
        self, ref: TurnRef, prompt: int, completion: int, bounds: Bounds, size: int = 0, *, named: bool = True
    ) -> Reserved:
        """Reserve for a turn that was announced: a sweep gives it back if the worker dies."""
        call = self.reserving(ref, Need(prompt, completion, bounds), size, named=named)
        return self.reserved(await self._scripts.call(call))

    def reserved(self, answer: list[Any]) -> Reserved:
        by, amount = answer[0].decode().lower(), int(answer[1])
        if by == "ok":
            return Reserved(amount)
        if by in ("turns", "sessions", "bytes"):
            return Reserved(by=by)
        return Reserved(by=by, wait=amount / 1000 if amount >= 0 else None)

    async def hold(self, refs: Sequence[TurnRef], milliseconds: int | None = None) -> None:
        """Keep the places of turns for one lease, or for `milliseconds`; one round trip for all."""
        turns: dict[str, list[str]] = {}
        for ref in refs:
            turns.setdefault(ref.principal, []).append(ref.turn_id)
        calls = [
            lua.hold(
                self._keys.principal(principal),
                lease_ms=milliseconds or self.lease_ms,
                ttl=self._ttl,
                turn_ids=ids,
            )
            for principal, ids in turns.items()
        ]
        if calls:
            await self._scripts.batch("hold", calls)

    async def settle(
        self,
        ref: TurnRef,
        model: str,
        usage: dict[str, Any],
        stored: str = "",
        cost: Amount | None = None,
        currency: str = "USD",
    ) -> bool:
        """Book the usage and take the turn out of the index. True when this call has booked it.

        `stored` is what the turn's seal said of the bytes that it keeps; for the rest see Booking.
        """
        booking = Booking(model, usage, cost, currency)
        booked = await self._leases.settled(ref, self.settling(ref, booking, stored))
        if booked:
            await self.note_booked(ref.principal, booking)
        return bool(booked)

    def settling(self, ref: TurnRef, booking: Booking, stored: str = "") -> Call:
        """The call that settles."""
        keys, usage, cost = self._keys.principal(ref.principal), booking.usage, booking.cost
        return lua.settle(
            keys,
            month_spent=keys.spent("month", booking.currency),
            day_spent=keys.spent("day", booking.currency),
            usage=keys.usage(booking.date),
            turn_id=ref.turn_id,
            model=booking.model,
            prompt_tokens=usage.get("prompt_tokens", 0),
            completion_tokens=usage.get("completion_tokens", 0),
            cached_tokens=detail(usage, "cached_tokens"),
            reasoning_tokens=detail(usage, "reasoning_tokens"),
            usage_ttl=USAGE_DAYS * 86_400,
            session_id=ref.session_id,
            stored=stored,
            account_ttl=self._account.ttl,
            currency=cost.currency if cost else "",
            nanos=cost.nanos if cost else -1,
        )

    async def note_booked(self, principal: str, booking: Booking) -> None:
        """Count what a call has booked, and list its principal."""
        if booking.model:
            usage = booking.usage
            metrics.budget_settled.inc(usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0))
            with suppress(StoreUnavailable):  # then the next turn of the principal lists it
                await self._note(principal, booking.date)

    async def unsettled(self, principal: str) -> set[str]:
        """The ids of the principal's turns that run, wait or are not booked yet."""
        found = await self._client.run("settle", self._redis.hkeys(self._keys.principal(principal).reserved))
        return {raw.decode() for raw in found}

    async def _note(self, principal: str, today: str) -> None:
        """Put the principal on the list of those that have usage, once a day and worker."""
        if self._noted_on != today or len(self._noted) >= _MOST_NOTED:
            self._noted_on = today
            self._noted.clear()
        if principal in self._noted:
            return
        now = int(time.time())
        pipeline = self._redis.pipeline()
        pipeline.zadd(self._keys.principals, {principal: now})
        pipeline.zremrangebyscore(self._keys.principals, "-inf", now - USAGE_DAYS * 86_400)
        pipeline.expire(self._keys.principals, USAGE_DAYS * 86_400)
        await self._client.run("note", pipeline.execute())
        self._noted.add(principal)

    # For GET /v1/usage

    async def usage(self, principal: str, days: int) -> list[Usage]:
        """The last `days` days (UTC) with usage, newest first, by model."""
        today = datetime.now(UTC).date()
        dates = [(today - timedelta(days=back)).isoformat() for back in range(days)]
        pipeline = self._redis.pipeline()
        for date in dates:
            pipeline.hgetall(self._keys.principal(principal).usage(date))
        found: list[Usage] = []
        for date, fields in zip(dates, await self._client.run("usage", pipeline.execute()), strict=True):
            found += by_model(date, fields)
        return found

    async def standing(self, principal: str, currency: str = "USD") -> Standing:
        pipeline = self._redis.pipeline()
        keys = self._keys.principal(principal)
        for name in (keys.month, keys.day, keys.minute):  # as PERIODS
            pipeline.get(name)
        for period in MONEY_PERIODS:
            pipeline.get(keys.spent(period, currency))
        pipeline.zrangebyscore(keys.running, now_ms(), "+inf")
        *used, running = await self._client.run("usage", pipeline.execute())
        held: list[Any] = []
        if running:
            fields = [*running, *(b"$" + turn for turn in running)]
            held = await self._client.run("usage", self._redis.hmget(keys.reserved, fields))
        counters = [int(value or 0) for value in used]
        reserved = [int(value) if value and value != b"-" else 0 for value in held]
        return Standing(
            dict(zip(PERIODS, counters, strict=False)),
            ends_of_periods(datetime.now(UTC)),
            sum(reserved[: len(running)]),
            dict(zip(MONEY_PERIODS, counters[len(PERIODS) :], strict=True)),
            sum(reserved[len(running) :]),
        )

    async def principals(self) -> list[tuple[str, int]]:
        """Principals with usage and a time (s) of the last day that has some, newest first."""
        found = await self._client.run(
            "usage", self._redis.zscored(self._keys.principals, "+inf", "-inf", newest_first=True)
        )
        return [(name.decode(), int(score)) for name, score in found]
