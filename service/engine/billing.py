"""What a turn costs: the sum of its calls to the provider, in tokens and in money.

A call is billed from the moment it is sent, whatever ends it (stop, orphan, timeout, cut, takeover):
what the provider reported, else the estimated prompt and the tokens that were counted. A call that
the provider refused, or that was never sent, costs nothing: Groq does not bill it. Invariant: the
turn's hash has the calls that ended in `billed` and the one under way in `prompt_tokens` and
`tokens`; one append moves a call from these to that, so that whoever takes over bills it once. The price
of the call under way stands there too (`price`), so that it is the one at which it was asked for, whoever
bills it and whatever catalogue that worker has. An amount in `billed` has the name `cost <currency>`; where
there are tokens and no amount, one of the calls had no known price, and then the turn has none.
"""

from __future__ import annotations

from typing import Any, Final

from service.money import NANOS, Amount
from service.store.turn_records import Turn
from service.telemetry import metrics
from service.usage import NAMES, Count, detail, told

_COST: Final = "cost "
_NOTHING: Final = dict.fromkeys(NAMES, 0)


def billed(turn: Turn, tokens: int, reported: Count | None = None) -> Count:
    """The calls that ended and the one under way, of which `tokens` were counted.

    What `reported` leaves open is as estimated and counted.
    """
    call = {"prompt_tokens": turn.prompt_tokens, "completion_tokens": tokens, **(reported or {})}
    if not _any(call):  # the one that ended last is in `billed`
        return {**_NOTHING, **turn.billed}
    total = {name: turn.billed.get(name, 0) + call.get(name, 0) for name in NAMES}
    before = _amount(turn.billed)
    now = Amount(turn.price.nanos(call), turn.price.currency) if turn.price else None
    amount = before.plus(now) if before and now else None
    return {**total, _COST + amount.currency: amount.nanos} if amount and amount.currency else total


def cost(turn: Turn, tokens: int, reported: Count | None = None) -> Amount | None:
    """What all of it comes to; None where nobody knows."""
    return _amount(billed(turn, tokens, reported))


def _amount(count: Count) -> Amount | None:
    for name, nanos in count.items():
        if name.startswith(_COST):
            return Amount(nanos, name.removeprefix(_COST))
    return None if _any(count) else Amount(0)


def _any(count: Count) -> bool:
    return any(map(count.get, NAMES))


def usage(turn: Turn, tokens: int, reported: Count | None = None) -> dict[str, Any]:
    """The same as clients are told."""
    return told(billed(turn, tokens, reported))


def count(model: str, usage: dict[str, Any], cost: Amount | None) -> None:
    """What was used and what it cost, in this worker's metrics."""
    for direction, name in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        metrics.tokens.labels(direction=direction).inc(usage[name])
        metrics.model_tokens.labels(model=model, direction=direction).inc(usage[name])
    for metric, name in (
        (metrics.cached_tokens, "cached_tokens"),
        (metrics.reasoning_tokens, "reasoning_tokens"),
    ):
        if tokens := detail(usage, name):
            metric.labels(model=model).inc(tokens)
    if cost is None:
        metrics.unpriced_turns.labels(model=model).inc()
    elif cost.nanos:
        metrics.cost.labels(model=model, currency=cost.currency).inc(cost.nanos / NANOS)
