"""Charging: a send's place in the request limits of whoever sends it, taken once, on its way in.

It is taken within the first call to the store that can take it along: what is taken is plain data
(store/windows.py), and the answer says what it came to. What that means, what it says to a client, and
what a worker does whose Redis is silent, is the edge's (api/limits.py). That is decided in the middle of a
begin, which goes on with the same turn's id: Redis may have carried out what it has not answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from service.errors import StoreRefusesWrites, StoreUnavailable
from service.store.send_admission import AdmitResult, SessionSnapshot
from service.store.windows import Charge


class Charging(Protocol):
    async def charge_now(self) -> None:
        """At once and by itself, unless it is done. Raises rate_limited."""

    def due(self) -> Charge | None:
        """What is to be charged; None where nothing is any more. Raises rate_limited."""

    def charged(self, answer: list[Any]) -> None:
        """With what the store has answered. Raises rate_limited."""

    async def begun(self) -> None:
        """What it was charged for has begun: the same send is charged again, should it begin anew."""

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
            raise  # what cannot be charged cannot begin either
        except StoreUnavailable:
            charging.unanswered()
        else:
            charging.charged(answer.charged)
            return answer
    return await ask(None)
