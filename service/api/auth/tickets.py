"""Tickets: an EventSource cannot send headers, so its URL carries a signed permission.

A ticket is `<expires>~<key id>~<principal>~<mac>`: for one principal to read the events of one
turn, for ten minutes: an EventSource reconnects with the URL it has, and an answer may take
that long. A stream once open goes on. The key id lets a revoked key end its tickets too.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import Final

from service.config.settings import Settings
from service.store.credentials import Credentials

TICKET_SECONDS: Final = 600
# A secret in the store is read again after this, so that replicas agree after a store was emptied.
_SECRET_SECONDS: Final = 60.0
_LONGEST: Final = 512


@dataclass(frozen=True, slots=True)
class Permission:
    principal: str
    key_id: str
    expires: int


class Tickets:
    def __init__(self, settings: Settings, store: Credentials) -> None:
        self._configured = settings.secret.get_secret_value() if settings.secret else None
        self._store = store
        self._shared = ""
        self._read = float("-inf")

    async def sign(self, permission: Permission, session_id: str, turn_id: str) -> str:
        """Raises StoreUnavailable."""
        mac = _mac(await self._secret(), permission, session_id, turn_id)
        return f"{permission.expires}~{permission.key_id}~{permission.principal}~{mac}"

    async def verify(self, ticket: str, session_id: str, turn_id: str) -> Permission | None:
        """What a ticket permits now; None when it is not for these events or too old."""
        parts = ticket.split("~")
        if len(parts) != 4 or len(ticket) > _LONGEST or not ticket.isascii() or not parts[0].isdigit():
            return None
        permission = Permission(principal=parts[2], key_id=parts[1], expires=int(parts[0]))
        right = _mac(await self._secret(), permission, session_id, turn_id)
        if not hmac.compare_digest(right, parts[3]) or time.time() >= permission.expires:
            return None
        return permission

    async def _secret(self) -> str:
        if self._configured is not None:
            return self._configured
        now = asyncio.get_running_loop().time()
        if now - self._read > _SECRET_SECONDS:
            self._shared = await self._store.secret()
            self._read = now
        return self._shared


def _mac(secret: str, permission: Permission, session_id: str, turn_id: str) -> str:
    # No part can hold a line end, so that no two tickets sign the same text.
    text = "\n".join(
        ("ticket", str(permission.expires), permission.key_id, permission.principal, session_id, turn_id)
    )
    mac = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
