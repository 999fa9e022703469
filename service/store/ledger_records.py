"""What the ledger tells of a principal: usage by day and model, and how its budgets stand. No I/O here.

Days and periods are of UTC. What a budget is and what it refuses are engine/budgets.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from service.usage import NAMES

# The field of a day's hash that has the nanos: this, the currency, and the model.
_COST: Final = "cost:"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a principal's turns of one day and model have used.

    `cost` is nanos by currency, of the `priced` turns; the cost of the others is not known.
    """

    date: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    turns: int
    cost: dict[str, int]
    priced: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How the budgets of a principal stand: tokens per period and its end (s since 1970), tokens that
    running turns have reserved; and the same for money, in nanos."""

    used: dict[str, int]
    resets_at: dict[str, int]
    reserved: int
    spent: dict[str, int]
    money_reserved: int


def by_model(date: str, fields: dict[bytes, bytes]) -> list[Usage]:
    counts: dict[str, dict[str, int]] = {}
    for field, value in fields.items():
        what, _, model = field.decode().partition(" ")
        counts.setdefault(model, {})[what] = int(value)
    return [
        Usage(
            date,
            model,
            **{name: count.get(name, 0) for name in (*NAMES, "turns")},
            cost={name.removeprefix(_COST): nanos for name, nanos in count.items() if name.startswith(_COST)},
            priced=count.get("priced_turns", 0),
        )
        for model, count in sorted(counts.items())
    ]


def ends_of_periods(now: datetime) -> dict[str, int]:
    """When the periods that hold `now` end, in seconds since 1970; settle.lua has the same rule."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return {
        "minute": int(now.timestamp()) // 60 * 60 + 60,
        "day": int((midnight + timedelta(days=1)).timestamp()),
        "month": int(month.timestamp()),
    }
