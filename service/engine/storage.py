"""Storage: how many sessions a principal may keep, and how many bytes in them.

Sends are checked with their reservation (budgets.py); calls that only make or change a session here.
Invariants: a refused call has stored nothing; freed room can be used at once. How it is counted is
store/account.py's.
"""

from __future__ import annotations

from service.errors import ServiceError
from service.store.account import TEXTS, Account, session_bytes
from service.store.messages import Session
from service.store.sessions import Sessions
from service.telemetry import metrics


class Storage:
    """`kept` is what is counted. `heal` drops entries of deleted sessions; True: asking again may help."""

    def __init__(self, account: Account, sessions: Sessions) -> None:
        self._account = account
        self._sessions = sessions
        self.most_sessions, self.most_bytes = account.most_sessions, account.most_bytes
        self.kept, self.heal = account.kept, account.heal

    async def create(self, principal: str, session_id: str, fields: dict[str, str]) -> bool:
        """Make a session unless it exists; True when it is new. Raises storage_full."""
        await self.charge(principal, session_id, session_bytes(fields), new=True)
        return await self._sessions.create(principal, session_id, fields)

    async def update(self, principal: str, session: Session, fields: dict[str, str]) -> bool:
        """Set fields of a session ('' removes one); False where it is gone. Raises storage_full."""
        old: dict[str, str] = {name: getattr(session, name) or "" for name in TEXTS}
        changed = {name: fields[name] for name in TEXTS if name in fields}
        if changed:
            more = session_bytes({**old, **changed}) - session_bytes(old)
            await self.charge(principal, session.id, more, new=False)
        return await self._sessions.update(principal, session.id, fields)

    async def charge(self, principal: str, session_id: str, size: int, *, new: bool) -> None:
        """Charge bytes; `new`: only if the session does not exist yet. Raises storage_full."""
        full = await self._account.charge(principal, session_id, size, new=new)
        if full and await self.heal(principal):
            full = await self._account.charge(principal, session_id, size, new=new)
        if full:
            raise self.refusal(full)

    async def freed(self, principal: str, session_id: str, size: int) -> None:
        """Give bytes back; -1: the session is gone."""
        if size < 0:
            await self._account.free(principal, [session_id])
        else:
            await self._account.charge(principal, session_id, -size, new=False)

    def refusal(self, full: str) -> ServiceError:
        """Not retryable: there is room only after a delete, or when something expires."""
        metrics.limit_rejections.labels(limit="storage").inc()
        if full == "sessions":
            sentence = f"You keep {self.most_sessions} sessions, which is the limit; delete some."
        else:
            sentence = f"Your sessions hold {self.most_bytes} bytes, which is the limit; delete some."
        return ServiceError("storage_full", sentence)
