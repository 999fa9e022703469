"""Tolls: what a send pays on its way in, its place in the request limits of whoever sends it.

A toll is paid once, within the first call to the store that can take it along. What a limit is
and what it says to a client is the edge's (api/limits.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from service.errors import StoreRefusesWrites, StoreUnavailable
from service.store.connection.typed_scripts import Call


class Toll(Protocol):
    async def pay(self) -> None:
        """At once and by itself, unless it is paid. Raises rate_limited."""

    def due(self) -> Call | None:
        """The call that charges it; None where nothing is to be paid any more. Raises rate_limited."""

    def paid(self, answer: list[Any]) -> None:
        """With what the call returned. Raises rate_limited."""

    async def begun(self) -> None:
        """What it was paid for has begun: the same send pays again, should it begin anew."""

    def unanswered(self) -> None:
        """Redis is silent: the worker charges it by itself. Raises rate_limited."""


class Charged(Protocol):
    """What comes back of a call that took a toll along: what the limit said, among other things."""

    @property
    def charged(self) -> list[Any]: ...


T = TypeVar("T", bound=Charged)


async def paying(toll: Toll | None, ask: Callable[[Call | None], Awaitable[T]]) -> T:
    """Ask the store, with the toll where it is due; once more without it where Redis was silent.

    Raises rate_limited, store_unavailable.
    """
    if toll is not None and (due := toll.due()) is not None:
        try:
            answer = await ask(due)
        except StoreRefusesWrites:
            raise  # what cannot be charged cannot begin either
        except StoreUnavailable:
            toll.unanswered()
        else:
            toll.paid(answer.charged)
            return answer
    return await ask(None)
