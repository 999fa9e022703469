"""Charging: a send's place in the request limits of whoever sends it, taken once, on its way in.

The charge is plain data (store/windows.py). The first call to the store that can carry it takes it along, and
returns the limit's reply. What the reply means, the refusal that a client sees, and what a worker does when
Redis is silent, are the edge's (api/limits.py). After a silence the begin goes on with the same turn id,
since Redis may have carried out what it has not answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from service.errors import StoreRefusesWrites, StoreUnavailable
from service.store.send_admission import AdmitResult, SessionSnapshot
from service.store.windows import Charge


class Charging(Protocol):
    async def charge_now(self) -> None:
        """Charge at once, in a call of its own, unless it was charged already. Raises rate_limited."""

    def due(self) -> Charge | None:
        """The charge that is still to be taken, None where there is none. Raises rate_limited."""

    def charged(self, answer: list[Any]) -> None:
        """Take the store's reply to the charge. Raises rate_limited."""

    async def begun(self) -> None:
        """The turn has begun. If the same send begins another one later, it is charged again."""

    def unanswered(self) -> None:
        """Redis is silent: the worker counts by itself. Raises rate_limited."""


T = TypeVar("T", SessionSnapshot, AdmitResult)


async def charged(charging: Charging | None, ask: Callable[[Charge | None], Awaitable[T]]) -> T:
    """Ask the store, with the charge where it is due; once more without it where Redis was silent.

    Raises rate_limited, store_unavailable.
    """
    if charging is not None and (due := charging.due()) is not None:
        try:
            answer = await ask(due)
        except StoreRefusesWrites:
            raise  # a turn could not begin either
        except StoreUnavailable:
            charging.unanswered()
        else:
            charging.charged(answer.charged)
            return answer
    return await ask(None)
