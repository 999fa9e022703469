"""Amendments: messages that are added, changed or removed without a turn, and the idempotency keys of calls
that begin no turn.

Invariants: nothing changes while the session is answering; a message is changed only if it is as the caller
has read it. What an amendment means for an answer is engine/amending.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from service.store.connection import lua
from service.store.forks import MESSAGE_BYTES
from service.store.messages import Message
from service.store.part import StorePart, now_ms

Outcome = Literal["DONE", "NO_SESSION", "BUSY", "CHANGED"]
_OUTCOMES: Final[dict[bytes, Outcome]] = {b"DONE": "DONE", b"NO_SESSION": "NO_SESSION", b"BUSY": "BUSY"}


def bytes_of(message: Message) -> int:
    """The bytes of a message, as lua/amend.lua counts them."""
    return len(message.dump()) + 2 * len(message.id) + MESSAGE_BYTES


class Amendments(StorePart):
    async def newest(self, principal: str, session_id: str) -> tuple[Message, int] | None:
        """The newest message, and its stored bytes."""
        name = self._keys.session(principal, session_id).order
        entries = await self._client.run(
            "messages", self._redis.zscored(name, "+inf", "-inf", newest_first=True, limit=(0, 1))
        )
        return await self.read(principal, session_id, entries[0][0].decode()) if entries else None

    async def read(self, principal: str, session_id: str, message_id: str) -> tuple[Message, int] | None:
        name = self._keys.session(principal, session_id).messages
        raw = await self._client.run("message", self._redis.hget(name, message_id))
        return (Message.load(message_id, raw), len(raw)) if raw else None

    async def known(self, principal: str, session_id: str, key: str) -> tuple[str, bytes] | None:
        """The fingerprint of the call that has used an idempotency key, and the result that it kept."""
        name = self._keys.session(principal, session_id).idempotency(key)
        asking = self._redis.hmget(name, ("fingerprint", "result"))
        fingerprint, result = await self._client.run("known", asking)
        return (fingerprint.decode(), result or b"") if fingerprint else None

    async def use_key(self, principal: str, session_id: str, key: str, fingerprint: str) -> str:
        """Use a key for a call that begins no turn. Returns the fingerprint of the first such call."""
        keys = self._keys.session(principal, session_id)
        using = lua.use_key(
            keys,
            idem=keys.idempotency(key),
            fingerprint=fingerprint,
            ttl=self._settings.idempotency_ttl_seconds,
        )
        used: bytes = await self._scripts.call(using)
        return used.decode()

    async def free_key(self, principal: str, session_id: str, key: str) -> None:
        """The call that has used the key has failed."""
        name = self._keys.session(principal, session_id).idempotency(key)
        await self._client.run("turns", self._redis.unlink(name))

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
        """Replace `known` by `changed` (None: remove it), and put `added` behind all messages.

        `newest`: only if `known` is the newest message or, where `known` is None, if there is none.
        `keyed`: an idempotency key, the fingerprint of the call, and the result that a repeat is given.
        """
        keys = self._keys.session(principal, session_id)
        key, fingerprint, result = keyed or ("-", "", b"")
        answer = await self._scripts.call(
            lua.amend(
                keys,
                idem=keys.idempotency(key),
                message_id=known[0].id if known else "",
                known=known[1] if known else 0,
                body=changed.dump() if changed else b"",
                newest=newest,
                now_ms=now_ms(),
                ttl=self._settings.session_ttl_seconds,
                fingerprint=fingerprint,
                result=result,
                idem_ttl=self._settings.idempotency_ttl_seconds,
                added=[word for one in added for word in (one.id, one.role, one.dump())],
            )
        )
        return _OUTCOMES.get(answer, "CHANGED")
