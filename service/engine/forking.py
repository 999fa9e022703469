"""Forking: a new session with the messages of another one up to a given message.

Charged against the caller's storage before anything is written. The copy has the messages with their ids, the
images, the title, the model and the system prompt; turns, logs and earlier versions stay where they are.
Invariant: a fork is the session as it was at one moment, else it is refused.
"""

from __future__ import annotations

import time
from typing import Any, Final

from service import ids
from service.engine.engine import Engine
from service.engine.history import mismatch
from service.errors import ServiceError
from service.store.account import session_bytes
from service.store.images import named_in
from service.store.messages import Session

# What is copied of a session besides its messages.
_FIELDS: Final = ("title", "model", "system_prompt", "metadata")


async def fork(
    engine: Engine, principal: str, source: Session, through: str, key: str | None
) -> tuple[str, bool]:
    """The new session, and False where a repeat with the same key has met it.

    Raises message_not_found, idempotency_mismatch, storage_full, turn_in_progress, store_unavailable.
    """
    session_id = ids.new_session_id()
    if key is not None:
        session_id = ids.derived_session_id(principal, f"fork\n{source.id}\n{key}")
        if await _repeats(engine, principal, session_id, through):
            return session_id, False
    place = await engine.store.sessions.place(principal, source.id, through)
    if place is None:
        raise ServiceError("message_not_found", "There is no message of that id in this session.")
    fields = {name: value for name in _FIELDS if (value := getattr(source, name))}
    count, size = await engine.store.forks.weigh(principal, source.id, place)
    await engine.storage.charge(principal, session_id, session_bytes(fields) + size, new=True)
    now = int(time.time() * 1000)
    made: dict[str, Any] = {
        "id": session_id,
        **fields,
        "created": now,
        "updated": now,
        "named": 1,
        "turns": place // 2,  # questions, at most: none of its turns is here
        "seq": place // 2,
        "bytes": size,
    }
    if key is not None:
        made["asked"] = through
    try:
        fresh = await _copy(engine, principal, source.id, session_id, (place, through.encode()), count, made)
    except ServiceError:
        await engine.store.forks.discard(principal, session_id)
        await engine.store.account.drop_gone(principal, [session_id])
        raise
    await engine.store.sessions.list_it(principal, session_id)
    if not fresh:  # another call with this key was faster: was it the same?
        await _repeats(engine, principal, session_id, through)
    return session_id, fresh


async def _repeats(engine: Engine, principal: str, session_id: str, through: str) -> bool:
    """Does this copy exist already? Raises idempotency_mismatch if the key has made a different one."""
    known = await engine.store.sessions.get(principal, session_id)
    if known is not None and known.asked != through:
        raise mismatch()
    return known is not None


async def _copy(
    engine: Engine,
    principal: str,
    source: str,
    target: str,
    end: tuple[int, bytes],
    count: int,
    made: dict[str, Any],
) -> bool:
    """Copy the messages. True where the copy is new.

    An edit or a regenerate meanwhile removes the last message, or replaces it: then the fork is refused.
    """
    forks = engine.store.forks
    written, after, place = 0, -1, end[0]
    named: set[str] = set()  # images
    of_images = 0
    while True:
        part = await forks.part(principal, source, after, place)
        if not part:
            break
        last = part[-1].place == place
        named.update(*(named_in(one.body) for one in part))
        if last and (written + len(part) != count or part[-1].message_id != end[1]):
            break
        if last and named:
            of_images = await _bring(engine, principal, source, target, named, written, made)
        outcome = await forks.write(principal, target, written, part, made if last else None)
        if outcome == "LOST":
            break
        if last or outcome == "EXISTS":
            if outcome == "EXISTS" and of_images:
                await engine.storage.charge(principal, target, -of_images, new=False)
            return outcome == "COPIED"
        written += len(part)
        after = part[-1].place
    raise ServiceError("turn_in_progress", "The session is changing; fork it again.", retry_after=1)


async def _bring(
    engine: Engine,
    principal: str,
    source: str,
    target: str,
    named: set[str],
    written: int,
    made: dict[str, Any],
) -> int:
    """Copy the images that its messages name, while the copy has `written` messages. Returns their bytes.

    Raises storage_full.
    """
    forks = engine.store.forks
    images = await forks.images(principal, source, named)
    size = sum(images.values())
    await engine.storage.charge(principal, target, size, new=False)
    for ref in images:
        await forks.copy_image(principal, source, target, ref, written)
    made["images"] = "".join(f"{ref} " for ref in images)
    made["bytes"] += size
    return size
