"""Amendments: messages of a session that no turn brings: they are added, changed and removed by themselves.

Invariants: nothing changes while the session is answering; what a caller changes is what it has read. What an
amendment means for an answer is engine/amending.py's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Literal

from service.config.settings import Settings
from service.store.connection.client import Client
from service.store.connection.scripts import Scripts
from service.store.connection.typed_scripts import Value, Values, script
from service.store.forks import MESSAGE_BYTES
from service.store.keys import Keys
from service.store.messages import Message

Outcome = Literal["DONE", "NO_SESSION", "BUSY", "CHANGED"]
_OUTCOMES: Final[dict[bytes, Outcome]] = {b"DONE": "DONE", b"NO_SESSION": "NO_SESSION", b"BUSY": "BUSY"}


@script
def _amend(
    *,
    session: str,
    order: str,
    messages: str,
    turns: str,
    queue: str,
    idem: str,
    message_id: str,
    known: int,
    body: bytes,
    newest: bool,
    now_ms: int,
    ttl: int,
    fingerprint: str,
    result: bytes,
    idem_ttl: int,
    added: Values,
) -> None: ...


def bytes_of(message: Message) -> int:
    """What is counted of a message, as lua/amend.lua counts it."""
    return len(message.dump()) + 2 * len(message.id) + MESSAGE_BYTES


class Amendments:
    def __init__(self, client: Client, scripts: Scripts, keys: Keys, settings: Settings) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._ttl = settings.session_ttl_seconds
        self._key_ttl = settings.idempotency_ttl_seconds

    async def newest(self, principal: str, session_id: str) -> tuple[Message, int] | None:
        """The newest message, and the bytes that it has as it is stored."""
        name = self._keys.session(principal, session_id).order
        entries = await self._client.run(
            "messages", self._client.redis.zscored(name, "+inf", "-inf", newest_first=True, limit=(0, 1))
        )
        return await self.read(principal, session_id, entries[0][0].decode()) if entries else None

    async def read(self, principal: str, session_id: str, message_id: str) -> tuple[Message, int] | None:
        name = self._keys.session(principal, session_id).messages
        raw = await self._client.run("message", self._client.redis.hget(name, message_id))
        return (Message.load(message_id, raw), len(raw)) if raw else None

    async def known(self, principal: str, session_id: str, key: str) -> tuple[str, bytes] | None:
        """The fingerprint of the call that has used an idempotency key, and what it wrote down."""
        name = self._keys.session(principal, session_id).idempotency(key)
        asking = self._client.redis.hmget(name, ("fingerprint", "result"))
        fingerprint, result = await self._client.run("known", asking)
        return (fingerprint.decode(), result or b"") if fingerprint else None

    async def write(
        self,
        principal: str,
        session_id: str,
        known: tuple[Message, int] | None,
        changed: Message | None,
        added: Sequence[Message] = (),
        *,
        newest: bool = False,
        keyed: tuple[str, str, bytes] | None = None,
    ) -> Outcome:
        """Put `changed`, or nothing, in the place of `known`, and `added` behind all others.

        `newest`: only where `known` is the newest message; without it, only where there is none.
        `keyed`: an idempotency key, the fingerprint of the call, and what a repeat is to know.
        """
        keys = self._keys.session(principal, session_id)
        key, fingerprint, result = keyed or ("-", "", b"")
        flat: list[Value] = []
        for message in added:
            flat += (message.id, message.role, message.dump())
        answer = await self._scripts.call(
            _amend(
                session=keys.session,
                order=keys.order,
                messages=keys.messages,
                turns=keys.turns,
                queue=keys.queue,
                idem=keys.idempotency(key),
                message_id=known[0].id if known else "",
                known=known[1] if known else 0,
                body=changed.dump() if changed else b"",
                newest=newest,
                now_ms=int(time.time() * 1000),
                ttl=self._ttl,
                fingerprint=fingerprint,
                result=result,
                idem_ttl=self._key_ttl,
                added=flat,
            )
        )
        return _OUTCOMES.get(answer, "CHANGED")
