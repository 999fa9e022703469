"""Request limits in Redis: windows that all workers of all replicas count together, exactly.

One script takes a request from all windows of a caller or from none, by Redis's clock, and
says in the same round trip what is left: no worker's clock counts, and no two requests can
take the same place. What a limit means and what happens without Redis are api/limits.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from service.store.connection import lua
from service.store.connection.typed_scripts import Call
from service.store.part import StorePart

# A send takes two store timeouts and 1 s at most from its charge to its begin. After that, a repeat finds the
# turn of its idempotency key and is not charged.
_MARK_MS: Final = 6_000


@dataclass(frozen=True, slots=True)
class Window:
    """`amount` requests per `seconds`."""

    amount: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Charge:
    """One request, to be taken from all windows of its caller or from none.

    Requests with the same `once` within 6 s take one place together ("": each its own); `by` names the one
    that has taken it.
    """

    who: str
    kind: str
    windows: tuple[Window, ...]
    shape: Literal["fixed", "moving"]
    once: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """Requests in a window after a decision; `reset` is the seconds until it has room again."""

    used: int
    reset: float


class Windows(StorePart):
    def call_of(self, charge: Charge) -> Call:
        """The call that takes the places; `taken` reads its reply."""
        limit = lua.limit_fixed if charge.shape == "fixed" else lua.limit_moving
        return limit(
            mark=self._mark(charge),
            windows=self._counters(charge),
            mark_ms=_MARK_MS if charge.once else 0,
            by=charge.by,
            amounts=[window.amount for window in charge.windows],
            periods_ms=[window.seconds * 1000 for window in charge.windows],
        )

    def _mark(self, charge: Charge) -> str:
        return self._keys.principal(charge.who).charged(charge.once)

    def _counters(self, charge: Charge) -> list[str]:
        keys = self._keys.principal(charge.who)
        return [keys.limit(charge.kind, charge.shape, window.seconds) for window in charge.windows]

    async def take(self, charge: Charge) -> list[Any]:
        """Raises StoreUnavailable, and that as soon as Redis is silent."""
        answer: list[Any] = await self._client.unless_silent(self._scripts.call(self.call_of(charge)))
        return answer

    async def forget(self, charge: Charge) -> None:
        """The next request with the same `once` takes a place of its own. Raises StoreUnavailable.

        Waits for nothing where that is possible: a mark that stays ends by itself.
        """
        command = ("UNLINK", self._mark(charge))
        if not self._client.start("forget", [command], lambda _: None):
            await self._client.run("forget", self._redis.unlink(self._mark(charge)))

    async def refund(self, charge: Charge) -> None:
        """Give a place back that `by` has taken, for a send that has not begun.

        Raises StoreUnavailable.
        """
        await self._scripts.call(
            lua.refund(
                mark=self._mark(charge), windows=self._counters(charge), by=charge.by, shape=charge.shape
            )
        )

    def taken(self, answer: list[Any]) -> tuple[bool, list[Use]]:
        """Was there a place in all windows? And what each holds now."""
        taken, *rest = answer
        uses = [Use(int(rest[i]), max(0, int(rest[i + 1])) / 1000) for i in range(0, len(rest), 2)]
        return bool(taken), uses
