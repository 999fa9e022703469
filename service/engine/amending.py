"""Amending: messages that a call adds to a session, or removes, without a turn.

Results of the newest answer's calls, and what the model said after them, become part of that answer; all
other messages stand by themselves. Images are stored as those of a send. Invariants: the bytes are charged to
the caller's storage before they are written; nothing changes while the session is answering.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import orjson

from service import ids, parts
from service.engine.engine import Engine
from service.engine.exchanges import MOST_BYTES
from service.engine.history import mismatch, session_not_found
from service.engine.pictures import measure
from service.errors import ServiceError
from service.images import Image
from service.parts import Chat, Part
from service.store.amendments import Outcome, bytes_of
from service.store.messages import Message
from service.store.turn_records import TurnRef

# Tries, where other calls amend the same session at the same moment.
_TRIES: Final = 5
# Bytes that an idempotency key is counted with, as in lua/amend.lua.
_KEY_BYTES: Final = 300


@dataclass(frozen=True, slots=True)
class Added:
    """The newest answer as it was, if it has got parts (else None), and the messages with all parts."""

    before: Message | None = None
    now: Sequence[Message] = ()


#: makes the chat messages that follow an answer of these parts. Raises ServiceError
Following = Callable[[Sequence[Part]], Sequence[Chat]]


async def add(
    engine: Engine,
    principal: str,
    session_id: str,
    following: Following,
    images: Mapping[str, Image],
    key: str | None,
    fingerprint: str,
) -> Added:
    """`images` are new; `fingerprint` is what makes a repeat under the key the same.

    Raises session_not_found, turn_in_progress, storage_full, context_too_long, image_too_large,
    invalid_request, idempotency_mismatch, and what `following` does.
    """
    ref = TurnRef(principal, session_id, ids.new_turn_id())  # of no turn: it holds the images meanwhile
    async with engine.pictures.keeping(ref) as keeping:
        for _ in range(_TRIES):
            if key is not None and (again := await _added_before(engine, ref, key, fingerprint)):
                return again
            known = await engine.store.amendments.newest(principal, session_id)
            before, changed, added = _arranged(known[0] if known else None, following, images)
            if changed is None and not added:
                return Added()
            names = [part["ref"] for one in added for part in one.parts if "ref" in part]
            await engine.pictures.keep(ref, names, images, keeping)
            newest = known[0] if known else None
            more = sum(map(bytes_of, added)) + (_KEY_BYTES if key is not None else 0)
            if newest is not None and changed is not None:
                more += bytes_of(changed) - bytes_of(newest)
            await engine.storage.charge(principal, session_id, more, new=False)
            counts = [len(before), len(changed.whole) if changed is not None else 0]
            now = [one.id for one in (changed, *added) if one is not None]
            outcome = await engine.store.amendments.write(
                principal,
                session_id,
                known,
                changed or newest,
                added,
                newest=True,
                keyed=(key, fingerprint, orjson.dumps([*counts, *now])) if key is not None else None,
            )
            if outcome == "DONE":
                keeping.begun = True
                await engine.store.sessions.list_it(principal, session_id)
                if newest is not None and changed is not None:
                    return Added(newest, [changed, *added])
                return Added(None, added)
            await engine.storage.charge(principal, session_id, -more, new=False)
            _check(outcome)
        raise _changing()


def _arranged(
    newest: Message | None, following: Following, images: Mapping[str, Image]
) -> tuple[list[Part], Message | None, list[Message]]:
    """The newest answer's parts, the answer with more parts (None: it gets none), and the new messages."""
    before = newest.whole if newest is not None and newest.role == "assistant" else []
    after, others = parts.arranged(before, following(before))
    for _, whole in others:
        measure(whole, images)
    added = [_message(role, whole) for role, whole in others]
    changed = newest.made_of(after) if newest is not None and len(after) > len(before) else None
    if max((parts.size_of(one.whole) for one in (changed, *added) if one), default=0) > MOST_BYTES:
        raise ServiceError("context_too_long", f"A message has {MOST_BYTES} bytes at most.")
    return before, changed, added


async def _added_before(engine: Engine, ref: TurnRef, key: str, fingerprint: str) -> Added | None:
    """What the first call with this key has added, as far as it still exists. Raises idempotency_mismatch."""
    known = await engine.store.amendments.known(ref.principal, ref.session_id, key)
    if known is None:
        return None
    if known[0] != fingerprint:
        raise mismatch()
    before, after, *names = orjson.loads(known[1])
    read = engine.store.amendments.read
    found = [one[0] for name in names if (one := await read(ref.principal, ref.session_id, name))]
    if not after or not found or found[0].id != names[0]:
        return Added(None, found)
    answer, *rest = found  # the answer may have more parts by now
    return Added(answer.made_of(answer.whole[:before]), [answer.made_of(answer.whole[:after]), *rest])


@asynccontextmanager
async def once(
    engine: Engine, principal: str, session_id: str | None, key: str | None, fingerprint: str
) -> AsyncIterator[None]:
    """A block around a call that makes a session: it uses the idempotency key, and frees it if it fails.

    Without a session the key is the same as that of sends without one. Raises idempotency_mismatch.
    """
    if key is None:
        yield
        return
    session_id = session_id or ids.derived_session_id(principal, key)
    if await engine.store.amendments.use_key(principal, session_id, key, fingerprint) != fingerprint:
        raise mismatch()
    try:
        yield
    except ServiceError:
        await engine.store.amendments.free_key(principal, session_id, key)
        raise


async def remove(
    engine: Engine, principal: str, session_id: str, message_id: str, rest: Callable[[Message], list[Part]]
) -> None:
    """Reduce a message to the parts that `rest` returns; remove it where there are none.

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
            if any("ref" in part for part in known[0].parts):
                await engine.pictures.sweep(principal, session_id)
            return
        _check(outcome)
    raise _changing()


def _message(role: str, whole: list[Part]) -> Message:
    now = int(time.time() * 1000)
    return Message(ids.new_message_id(), role, "", "", "completed", now).made_of(whole)


def _check(outcome: Outcome) -> None:
    if outcome == "NO_SESSION":
        raise session_not_found()
    if outcome == "BUSY":
        raise ServiceError("turn_in_progress", "The conversation is answering; try again.", retry_after=1)


def _changing() -> ServiceError:
    return ServiceError("turn_in_progress", "The conversation is changing; try again.", retry_after=1)
