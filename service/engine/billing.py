"""What a turn costs: the sum of its calls to the provider, in tokens and in money.

A call is billed from the moment it is sent, whatever ends it (stop, orphan, timeout, cut, takeover):
what the provider reported, else the estimated prompt and the tokens that were counted. A call that
the provider refused, or that was never sent, costs nothing: Groq does not bill it. Invariant: in the turn's
hash, `billed` has the calls that have ended, `prompt_tokens` and `tokens` the one under way; one append moves
a call from these to that, so that a worker that takes over bills it once. `price` is that of the call under
way, as of its begin, whichever worker bills it with whichever catalogue. An amount in `billed` has the name
`cost <currency>`. Tokens without an amount: one of the calls had no known price, so the turn has no cost.
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
    """Usage of the calls that have ended, and of the one under way: as `reported` by the provider, else as
    estimated (prompt) and counted (`tokens`).
    """
    call = {"prompt_tokens": turn.prompt_tokens, "completion_tokens": tokens, **(reported or {})}
    if not _any(call):  # none is under way
        return {**_NOTHING, **turn.billed}
    total = {name: turn.billed.get(name, 0) + call.get(name, 0) for name in NAMES}
    before = _amount(turn.billed)
    now = Amount(turn.price.nanos(call), turn.price.currency) if turn.price else None
    amount = before.plus(now) if before and now else None
    return {**total, _COST + amount.currency: amount.nanos} if amount and amount.currency else total


def cost(turn: Turn, tokens: int, reported: Count | None = None) -> Amount | None:
    """The cost of all calls; None where it is not known."""
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
