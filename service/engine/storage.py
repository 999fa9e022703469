"""Storage: how many sessions a principal may keep, and how many bytes in them.

A send is checked with its reservation (budgets.py), a session that is made or changed by itself here.
Invariants: what is refused has stored nothing; what frees room is free at once. How it is counted is
store/account.py's.
"""

from __future__ import annotations

from typing import Final

from service.config.settings import Settings
from service.errors import ServiceError
from service.store.account import Account, Kept, session_bytes
from service.store.messages import Session
from service.store.sessions import Sessions
from service.telemetry import metrics

# What of a session is of a caller's length.
_FIELDS: Final[tuple[str, ...]] = ("title", "system_prompt", "metadata")


class Storage:
    def __init__(self, settings: Settings, account: Account, sessions: Sessions) -> None:
        self._account = account
        self._sessions = sessions
        self.most_sessions = settings.sessions_per_principal
        self.most_bytes = settings.stored_bytes_per_principal

    async def create(self, principal: str, session_id: str, fields: dict[str, str]) -> bool:
        """Make a session unless it exists; True when it is new. Raises storage_full."""
        await self.charge(principal, session_id, session_bytes(fields), new=True)
        return await self._sessions.create(principal, session_id, fields)

    async def update(self, principal: str, session: Session, fields: dict[str, str]) -> bool:
        """Set fields of a session ('' removes one); False where it is gone. Raises storage_full."""
        old: dict[str, str] = {name: getattr(session, name) or "" for name in _FIELDS}
        changed = {name: fields[name] for name in _FIELDS if name in fields}
        if changed:
            more = session_bytes({**old, **changed}) - session_bytes(old)
            await self.charge(principal, session.id, more, new=False)
        return await self._sessions.update(principal, session.id, fields)

    async def charge(self, principal: str, session_id: str, size: int, *, new: bool) -> None:
        """So many bytes more; `new`: only where the session is not there yet. Raises storage_full."""
        full = await self._account.charge(principal, session_id, size, new=new)
        if full and await self.heal(principal):
            full = await self._account.charge(principal, session_id, size, new=new)
        if full:
            raise self.refusal(full)

    async def freed(self, principal: str, session_id: str, size: int) -> None:
        """So many bytes less; -1: the session is gone."""
        if size < 0:
            await self._account.free(principal, [session_id])
        else:
            await self._account.charge(principal, session_id, -size, new=False)

    async def heal(self, principal: str) -> bool:
        """True where something was counted that is gone: asking again may help."""
        return await self._account.heal(principal)

    async def kept(self, principal: str) -> Kept:
        """What is counted; nothing where nothing is bounded."""
        return await self._account.kept(principal)

    def refusal(self, full: str) -> ServiceError:
        """Not to be repeated: there is room when something was deleted, or has expired."""
        metrics.limit_rejections.labels(limit="storage").inc()
        if full == "sessions":
            sentence = f"You keep {self.most_sessions} sessions, which is the limit; delete some."
        else:
            sentence = f"Your sessions hold {self.most_bytes} bytes, which is the limit; delete some."
        return ServiceError("storage_full", sentence)
