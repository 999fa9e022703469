"""Erasing a person: all sessions of a principal, with turns that run, and keys that sessions have left.

Invariants: one step is one session, so an erasure that is cut short has done part of it and is repeated;
what is counted for the bill stays, and the receipt says so. What begins while it runs may stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final

from service.engine.engine import Engine
from service.engine.webhooks import forget_text
from service.errors import ServiceError
from service.store.ledger import USAGE_DAYS

#: seconds that a call over HTTP may take: proxies wait for 60
CALL_SECONDS: Final = 30.0
# Sessions that are erased at once, with six round trips each.
_AT_ONCE: Final = 8

# What stays after an erasure: name, what it holds, until when, and seconds at most (None: no bound).
_KEPT: Final = (
    (
        "usage",
        "numbers of turns and tokens by day and model, for the bill; no text",
        f"{USAGE_DAYS} days after the day of use",
        USAGE_DAYS * 86_400,
    ),
    ("budgets", "tokens used in this minute, day and month", "the end of each", 31 * 86_400),
    ("limits", "times of requests", "the end of each limit's window", None),
    (
        "webhooks",
        "ids and figures of turns that a receiver is to be told of; no text",
        "it is told",
        3 * 86_400,
    ),
    ("api_keys", "names, owners, limits and digests of API keys", "30 days after they are revoked", None),
)


@dataclass(slots=True)
class Erased:
    """What was removed. `complete` is False where something is left: call again."""

    sessions: int = 0
    turns: int = 0
    messages: int = 0
    complete: bool = False


def receipt(principal: str, erased: Erased) -> dict[str, Any]:
    """What a caller or an operator is shown."""
    names = ("what", "holds", "until", "seconds")
    return {
        "object": "erasure",
        "principal": principal,
        "complete": erased.complete,
        "removed": {"sessions": erased.sessions, "turns": erased.turns, "messages": erased.messages},
        "kept": [dict(zip(names, row, strict=True)) for row in _KEPT],
    }


async def erase(engine: Engine, principal: str, seconds: float = CALL_SECONDS) -> Erased:
    """Remove all sessions of a principal, for so long. Raises store_unavailable; then call again."""
    return await _Erasure(engine, principal, asyncio.get_running_loop().time() + seconds).run()


class _Erasure:
    def __init__(self, engine: Engine, principal: str, deadline: float) -> None:
        self._engine = engine
        self._store = engine.store
        self._principal = principal
        self._deadline = deadline
        self._erased = Erased()
        self._left = 0  # sessions that went on answering

    async def run(self) -> Erased:
        inventory = self._store.inventory
        async for ids in inventory.sessions(self._principal):
            if not await self._each(self._session(session_id) for session_id in ids):
                return self._erased
        async for found in inventory.names(self._principal):
            if not await self._each(self._rest(*of_session) for of_session in found.items()):
                return self._erased
        await forget_text(self._store.webhooks, self._principal)
        self._erased.complete = self._left == 0
        return self._erased

    async def _each(self, steps: Iterable[Coroutine[Any, Any, None]]) -> bool:
        """Run the steps, some at a time; False when the time is up. A step's error follows its group."""
        left = list(steps)
        try:
            while left and asyncio.get_running_loop().time() < self._deadline:
                some = [left.pop(0) for _ in left[:_AT_ONCE]]
                for outcome in await asyncio.gather(*some, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
        finally:
            for step in left:
                step.close()
        return asyncio.get_running_loop().time() < self._deadline

    async def _session(self, session_id: str) -> None:
        if not await self._delete(session_id):
            await self._store.account.drop_gone(self._principal, [session_id])

    async def _rest(self, session_id: str, names: list[str]) -> None:
        if not await self._delete(session_id):
            await self._store.sessions.delete_left(self._principal, session_id, names)

    async def _delete(self, session_id: str) -> bool:
        """False where there is no such session. Raises store_unavailable."""
        try:
            turns, messages = await self._engine.delete(self._principal, session_id)
        except ServiceError as error:
            if error.code == "session_not_found":
                return False
            if error.code != "turn_in_progress":
                raise
            self._left += 1
            return True
        self._erased.sessions += 1
        self._erased.turns += turns
        self._erased.messages += messages
        return True
