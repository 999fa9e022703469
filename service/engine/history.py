"""History: sessions, their messages and their turns, as callers look at them.

The rule of this file: a call that names a session gives it a name. From then on it is listed, lives as long
as others with a name, and its answers run on without readers. Plain reads are the store's, under the same
names.
"""

from __future__ import annotations

from functools import partial

from service import ids
from service.engine.chains import base_of
from service.errors import ServiceError
from service.store.messages import Session
from service.store.store import Store
from service.store.turn_records import TurnRef


def session_not_found() -> ServiceError:
    return ServiceError("session_not_found", "There is no such session.")


def turn_not_found() -> ServiceError:
    return ServiceError("turn_not_found", "There is no such turn in this session.")


def mismatch() -> ServiceError:
    return ServiceError(
        "idempotency_mismatch",
        "The idempotency key was used for another request; take a new one.",
        headers={"x-should-retry": "false"},
    )


def answering(sentence: str, session_id: str, turn_id: str) -> ServiceError:
    """The session is busy with a turn, to which the headers lead."""
    events = f"/v1/sessions/{session_id}/turns/{turn_id}/events"
    headers = {"Location": events, "X-Turn-Id": turn_id}
    return ServiceError("turn_in_progress", sentence, retry_after=1, headers=headers)


class History:
    def __init__(self, store: Store) -> None:
        self._sessions = store.sessions
        self.sessions = store.sessions.page
        self.messages = store.sessions.messages
        self.message = store.sessions.message
        self.count = store.sessions.count
        self.place = store.sessions.place
        self.newest_turn = store.sessions.newest_turn
        self.find_turn = store.turns.get
        self.events = store.log.read_all
        self._log = store.log
        self.deliver = store.turns.deliver
        self.withdraw = store.turns.withdraw
        self.base_of = partial(base_of, store)
        self.usage = store.ledger.usage
        self.versions = store.versions.all
        self.image = store.images.get
        self.read_session = store.sessions.get
        self.all_of = store.inventory.sessions
        self._choose = store.versions.choose

    async def has_events(self, ref: TurnRef) -> bool:
        """Is the log of a turn still kept?"""
        return bool(await self._log.read(ref, 0, 1))

    async def session(self, principal: str, session_id: str) -> Session | None:
        """A session; it has a name from now on."""
        session = await self._sessions.get(principal, session_id)
        if session is not None and not session.named:
            await self._sessions.update(principal, session_id, {})
        return session

    async def existing(self, principal: str, session_id: str) -> Session:
        """The same. Raises session_not_found, and invalid_request for what is no id."""
        session = await self.session(principal, ids.check_session_id(session_id))
        if session is None:
            raise session_not_found()
        return session

    async def named(self, ref: TurnRef) -> None:
        """The same, by a turn of it. Raises turn_not_found."""
        if await self.session(ref.principal, ref.session_id) is None:
            raise turn_not_found()

    async def choose(self, principal: str, session_id: str, version: str) -> bool:
        """Put an earlier version back. True where images may have lost their last name.

        Raises not_found, turn_in_progress, invalid_request.
        """
        outcome, turn, unnamed = await self._choose(principal, session_id, version)
        if outcome == "NO_VERSION":
            raise ServiceError("not_found", "What the session says now has no version of that id.")
        if outcome == "TOO_LONG":
            raise ServiceError("invalid_request", "What stands there now is too long for a version; fork it.")
        if outcome == "BUSY":
            raise answering(f"The session is answering, in turn {turn}.", session_id, turn)
        return unnamed
