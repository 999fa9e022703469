"""Amending: what is added to a session, or taken out of it, by itself and not by a turn.

What follows the calls of the newest answer (their results, and what was said then) becomes part of that
answer, all else are messages of their own. Invariants: charged against the caller's storage before it is
written; nothing changes while the session is answering.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from service import ids, parts
from service.engine.engine import Engine
from service.engine.exchanges import MOST_BYTES
from service.engine.history import session_not_found
from service.errors import ServiceError
from service.parts import Chat, Part
from service.store.amendments import Outcome, bytes_of
from service.store.messages import Message

# Tries to amend what another call amends at the same moment.
_TRIES: Final = 5

#: what is said behind an answer of these parts, as chat messages. Raises ServiceError
Following = Callable[[Sequence[Part]], Sequence[Chat]]


async def add(
    engine: Engine, principal: str, session_id: str, following: Following
) -> tuple[Message | None, list[Message]]:
    """Returns the answer that goes on with some of it, as it was, and the messages that have it all now.

    Raises session_not_found, turn_in_progress, storage_full, context_too_long, and what `following` does.
    """
    for _ in range(_TRIES):
        known = await engine.store.amendments.newest(principal, session_id)
        newest = known[0] if known else None
        before = newest.whole if newest is not None and newest.role == "assistant" else []
        said = following(before)
        for image in (part for one in said for part in _images(one)):
            if not await engine.store.images.has(principal, session_id, image):
                raise ServiceError("invalid_request", "There is no such image in this conversation.")
        after, others = parts.arranged(before, said)
        added = [_message(role, whole) for role, whole in others]
        goes_on = newest is not None and len(after) > len(before)
        changed = newest.made_of(after) if newest is not None and goes_on else newest
        if max((parts.size_of(one.whole) for one in (changed, *added) if one), default=0) > MOST_BYTES:
            raise ServiceError("context_too_long", f"A message has {MOST_BYTES} bytes at most.")
        if not added and not goes_on:
            return None, []
        more = sum(map(bytes_of, added))
        if newest is not None and changed is not None:
            more += bytes_of(changed) - bytes_of(newest)
        await engine.storage.charge(principal, session_id, more, new=False)
        outcome = await engine.store.amendments.write(
            principal, session_id, known, changed, added, newest=True
        )
        if outcome == "DONE":
            await engine.store.sessions.list_it(principal, session_id)
            return (newest, [changed, *added]) if goes_on and changed is not None else (None, added)
        await engine.storage.charge(principal, session_id, -more, new=False)
        _check(outcome)
    raise _changing()


async def remove(
    engine: Engine, principal: str, session_id: str, message_id: str, rest: Callable[[Message], list[Part]]
) -> None:
    """Leave of a message what `rest` says; without any it goes.

    Raises session_not_found, turn_in_progress, and what `rest` does.
    """
    for _ in range(_TRIES):
        known = await engine.store.amendments.read(principal, session_id, message_id)
        if known is None:
            raise ServiceError("not_found", "There is no such item.")
        left = rest(known[0])
        changed = known[0].made_of(left) if left else None
        outcome = await engine.store.amendments.write(principal, session_id, known, changed)
        if outcome == "DONE":
            less = bytes_of(known[0]) - (bytes_of(changed) if changed is not None else 0)
            await engine.storage.charge(principal, session_id, -less, new=False)
            return
        _check(outcome)
    raise _changing()


def _message(role: str, whole: list[Part]) -> Message:
    now = int(time.time() * 1000)
    return Message(ids.new_message_id(), role, "", "", "completed", now).made_of(whole)


def _images(message: Chat) -> list[str]:
    """Images that are kept with a session, which a message names."""
    content = message.get("content")
    given = content if isinstance(content, list) else []
    urls = [part["image_url"]["url"] for part in given if part["type"] == "image_url"]
    return [url.removeprefix(parts.REF) for url in urls if url.startswith(parts.REF)]


def _check(outcome: Outcome) -> None:
    if outcome == "NO_SESSION":
        raise session_not_found()
    if outcome == "BUSY":
        raise ServiceError("turn_in_progress", "The conversation is answering; try again.", retry_after=1)


def _changing() -> ServiceError:
    return ServiceError("turn_in_progress", "The conversation is changing; try again.", retry_after=1)
