"""Money: what tokens cost, in whole numbers, so that sums are exact.

An amount is a number of nanos (10^-9) of a currency. A price is in picos (10^-12) a token, which is what the
sixth decimal of a price per million tokens comes to. What is not known is None, never 0. Nothing here
knows who pays; where prices come from is upstream/models.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

NANOS: Final = 1_000_000_000
_PICOS: Final = 1_000_000  # picos a token, for a price of 1 per million tokens
_PICOS_PER_NANO: Final = 1_000
#: the largest amount: far below what Redis counts exactly in scripts (2^53 nanos)
MOST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of one token, in picos; `cached` is for tokens from the provider's prompt cache."""

    currency: str
    input: int
    cached: int
    output: int

    def nanos(self, count: Mapping[str, int]) -> int:
        """What a call has cost, rounded half up."""
        cached = min(count.get("cached_tokens", 0), count["prompt_tokens"])
        fresh = count["prompt_tokens"] - cached
        picos = fresh * self.input + cached * self.cached + count["completion_tokens"] * self.output
        return (picos + _PICOS_PER_NANO // 2) // _PICOS_PER_NANO


@dataclass(frozen=True, slots=True)
class Amount:
    """`currency` is '' where nothing was used, and so nothing has a price."""

    nanos: int
    currency: str = ""

    def plus(self, other: Amount) -> Amount | None:
        """None for two currencies: nobody knows what they come to."""
        if self.currency and other.currency and self.currency != other.currency:
            return None
        return Amount(self.nanos + other.nanos, self.currency or other.currency)

    def told(self) -> dict[str, str]:
        """As clients read it."""
        return {self.currency: decimal(self.nanos)} if self.currency else {}

    def __str__(self) -> str:
        return f"{self.nanos} {self.currency}"

    @classmethod
    def parse(cls, text: str) -> Amount | None:
        """What `str` has made; None for ''."""
        nanos, _, currency = text.partition(" ")
        return cls(int(nanos), currency) if nanos else None


def price(value: object) -> int:
    """A price per million tokens, in picos a token. Raises ValueError."""
    picos = _exact(value) * _PICOS
    if picos != int(picos):
        raise ValueError("a price per million tokens has at most 6 decimals")
    return int(picos)


def nanos(value: object) -> int:
    """An amount such as `2.50`. Raises ValueError."""
    found = _exact(value) * NANOS
    if found != int(found):
        raise ValueError("an amount has at most 9 decimals")
    return int(found)


def decimal(amount: int) -> str:
    """Nanos as a decimal number, exactly."""
    whole, rest = divmod(amount, NANOS)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".") if rest else str(whole)


def _exact(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise ValueError("an amount is a number like 0.15")
    try:
        found = Decimal(value)
    except InvalidOperation:
        raise ValueError("an amount is a number like 0.15") from None
    if not found.is_finite() or not 0 <= found <= MOST:
        raise ValueError(f"an amount is a number from 0 to {MOST}")
    return found
