"""Budgets: how many turns a principal may have at once, and how many tokens and how much money per period.

A turn reserves its place and its tokens (prompt estimate + completion limit) before it begins and
settles with real usage at every ending. Invariants: settling is exactly once however often and by
whomever it is repeated, budgets or not, so that the usage ledger equals what was logged; without
Redis nothing begins (fail closed), and what runs is not ended. How it is stored is store/ledger.py's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from service.config.settings import Settings
from service.engine import billing
from service.engine.charging import Charging, charged
from service.engine.context import Contexts
from service.engine.sends import Candidate
from service.engine.storage import Storage
from service.errors import ServiceError
from service.money import Amount, decimal
from service.store.credentials import OwnLimits
from service.store.ledger import Booking, Bounds, Ledger, Need, Reserved
from service.store.ledger_records import Standing
from service.store.send_admission import SendAdmission
from service.store.turn_records import Begin, Begun, Turn, TurnRef
from service.telemetry import metrics
from service.upstream.models import Model
from service.usage import Count, told

# A turn that has just ended gives its place back within a round trip; its reader may be faster.
_SECOND_LOOK_SECONDS: Final = 0.1
# Refusals because of what the principal stores already.
_KEPT: Final = ("sessions", "bytes")
# Turns in a queue are looked at once per lease, half a second later at worst.
_QUEUED_LEASES: Final = 2
# Tokens or nanos a day; no principal uses so much.
_NO_BOUND: Final = 2**52


class SlotsBusy(ServiceError):
    """Refused because running turns hold all places or tokens; they come free when these end."""


class Budgets:
    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        send_admission: SendAdmission,
        contexts: Contexts,
        storage: Storage,
        currency: str,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self.usage, self.principals = ledger.usage, ledger.principals
        self._send_admission = send_admission
        self._contexts = contexts
        self._storage = storage
        self.currency = currency  # of budgets in money

    def bounds(self, own: OwnLimits) -> Bounds:
        """The bounds of a caller: its own, else the settings'."""
        settings = self._settings
        return Bounds(
            running=_first(own.max_running_turns, settings.max_running_turns_per_principal),
            month=_first(own.budget_tokens_per_month, settings.budget_tokens_per_month),
            day=_first(own.budget_tokens_per_day, settings.budget_tokens_per_day),
            minute=_first(own.budget_tokens_per_minute, settings.budget_tokens_per_minute),
            month_money=_first(own.budget_money_per_month, settings.budget_money_per_month),
            day_money=_first(own.budget_money_per_day, settings.budget_money_per_day),
            currency=self.currency,
        )

    async def standing(self, principal: str) -> Standing:
        return await self._ledger.standing(principal, self.currency)

    async def need(self, candidate: Candidate) -> Need:
        """The tokens that a turn is about to ask for, with the bounds."""
        bounds, model = self.bounds(candidate.send.own), candidate.model
        if bounds.money:
            if model.price is None:
                raise _exhausted(
                    f"The budget is in money, and nobody knows what {model.id} costs; take another model.",
                    None,
                )
            bounds = replace(bounds, price=model.price)
        prompt = 0
        if any(bounds.budgets):
            prompt = await self._contexts.estimate(candidate)
        return Need(prompt, self._contexts.completion_of(model, candidate.params), bounds)

    async def enter(self, begin: Begin, need: Need, charging: Charging | None) -> tuple[int, Begun | None]:
        """Charge the send, reserve, and begin the turn, the last only if all tokens were granted.

        Returns the tokens that the turn holds (fewer than needed where a budget has no more), and the begin.
        Raises rate_limited, concurrency_limited, budget_exhausted, storage_full, store_unavailable.
        """
        ask = partial(self._send_admission.admit, begin, need)
        entered = await charged(charging, ask)
        if entered.reserved.by == "turns":
            await asyncio.sleep(_SECOND_LOOK_SECONDS)
            entered = await ask(None)
        if entered.reserved.by in _KEPT and await self._storage.heal(begin.ref.principal):
            entered = await ask(None)
        reserved = entered.reserved
        if reserved.by in _KEPT:
            raise self._storage.refusal(reserved.by)
        if reserved.by:
            raise _refusal(reserved, need.bounds)
        if any(need.bounds.budgets):
            metrics.budget_reserved.inc(reserved.tokens)
        return min(reserved.tokens, need.tokens), entered.begun

    async def hold(self, turns: Sequence[Turn]) -> None:
        """Keep what running turns hold, for another lease."""
        await self._ledger.hold([turn.ref for turn in turns if turn.reserved])

    async def hold_queued(self, ref: TurnRef) -> None:
        """A queued turn has no owner that renews; the sweep does, once a lease."""
        await self._ledger.hold([ref], _QUEUED_LEASES * self._ledger.lease_ms + 1_000)

    async def settle(self, turn: Turn, model: str, usage: dict[str, Any]) -> bool:
        """Book what an ended turn has used, cost and keeps. True for the one call that has booked it."""
        return await self._ledger.settle(turn.ref, model, usage, turn.stored, turn.cost, self.currency)

    def booking(self, turn: Turn, model: str, usage: dict[str, Any]) -> Booking:
        """The booking that the sealer of a turn sends with the seal."""
        return Booking(model, usage, turn.cost, self.currency)

    async def book_apart(self, ref: TurnRef, model: Model, spent: Count) -> None:
        """Book a call that belongs to no turn (a title). No budget refuses it, but it counts against them."""
        usage, price = told(spent), model.price
        cost = Amount(price.nanos(spent), price.currency) if price else None
        billing.count(model.id, usage, cost)
        standing = await self.standing(ref.principal)
        bounds = Bounds(
            day=_NO_BOUND if any(standing.used.values()) else 0,
            day_money=_NO_BOUND if any(standing.spent.values()) else 0,
            currency=self.currency,
            price=price,
        )
        await self._ledger.reserve(ref, spent["prompt_tokens"], spent["completion_tokens"], bounds)
        await self._ledger.settle(ref, model.id, usage, "", cost, self.currency)

    async def unsettled(self, refs: Sequence[TurnRef]) -> list[TurnRef]:
        """The turns, all of one principal, whose usage is not booked yet."""
        waiting = await self._ledger.unsettled(refs[0].principal) if refs else set()
        return [ref for ref in refs if ref.turn_id in waiting]

    async def cancel(self, ref: TurnRef) -> None:
        """Give back what a turn that never began has reserved."""
        await self._ledger.settle(ref, "", {})


def _first(own: int | None, setting: int | None) -> int:
    return setting or 0 if own is None else own


def _refusal(reserved: Reserved, bounds: Bounds) -> ServiceError:
    if reserved.by == "turns":
        metrics.limit_rejections.labels(limit="turns").inc()
        return SlotsBusy(
            "concurrency_limited",
            f"{bounds.running} answers are running, which is the limit; wait for one.",
            retry_after=1,
        )
    metrics.limit_rejections.labels(limit="budget").inc()
    period = reserved.by
    budget = f"The budget of {_said(bounds, period)}"
    if reserved.wait is None:
        return _exhausted(f"{budget} is smaller than this message needs.", None)
    if reserved.wait == 0:
        sentence = f"{budget} is reserved by answers that are running; wait for one."
        return SlotsBusy("budget_exhausted", sentence, retry_after=1, retryable=True)
    wait = max(1, math.ceil(reserved.wait))
    retryable = period == "minute"
    return _exhausted(f"{budget} is used up; there is room again in {wait} s.", wait, retryable=retryable)


def _said(bounds: Bounds, period: str) -> str:
    of = period.removesuffix("_money")
    if of == period:
        return f"{getattr(bounds, period)} tokens a {period}"
    return f"{decimal(getattr(bounds, period))} {bounds.currency} a {of}"


def _exhausted(sentence: str, wait: int | None, *, retryable: bool | None = None) -> ServiceError:
    """budget_exhausted. Retryable only if a short wait helps: a client must not wait for a day."""
    if retryable is None:
        retryable = wait is not None
    return ServiceError(
        "budget_exhausted",
        sentence,
        retry_after=wait,
        retryable=retryable,
        headers={} if retryable else {"x-should-retry": "false"},
    )
