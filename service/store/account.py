"""The account: how many sessions a principal keeps and how many bytes they hold, within its quota.

The account stands in the principal's own slot, the sessions in theirs. A send is checked by reserve.lua and
booked by settle.lua, which go to that slot anyway; what a session holds is counted where it stands and
told at its seal. Invariants: every item has an end, so what a worker that died has left behind leaves by
itself; a session is set to what it holds, never added to, so a seal mends what went wrong before it. Bytes
are those that Redis uses, estimated to some percent. What a refusal says belongs to engine/storage.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from service.store.connection import lua
from service.store.part import Shared, StorePart

#: which quota refuses: the number of sessions, or their bytes
Full = Literal["sessions", "bytes"]
#: fields of a session whose length a caller chooses
TEXTS: Final[tuple[str, ...]] = ("title", "system_prompt", "metadata")
# A session without a message: its hash, its place on the list and in the account (measured: 900 to 1,100).
_SESSION_BYTES: Final = 1_000
# Items of an account that a refusal looks at: one round trip of 0.1 ms.
_SAMPLE: Final = 64


@dataclass(frozen=True, slots=True)
class Kept:
    """What a principal keeps."""

    sessions: int
    bytes: int


def session_bytes(fields: dict[str, str]) -> int:
    """What a session without messages takes; seal.lua has the same rule."""
    return _SESSION_BYTES + sum(len(fields.get(name, "").encode()) for name in TEXTS)


def sessions_among(items: Iterable[bytes]) -> list[str]:
    """Those items of an account that are sessions (lua/account.lua)."""
    return [raw.decode() for raw in items if raw[:1] not in (b"/", b"@")]


class Account(StorePart):
    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        settings = shared.settings
        self.most_sessions = settings.max_sessions_per_principal
        self.most_bytes = settings.max_stored_bytes_per_principal
        # Seconds that anything in an account may last, and a day.
        self.longest = max(settings.session_ttl_seconds, settings.log_ttl_seconds) + 86_400

    @property
    def bounded(self) -> bool:
        """Nothing is counted where nothing is bounded."""
        return self.most_sessions + self.most_bytes > 0

    def lives(self, *, named: bool) -> int:
        """Seconds that a session lives from now."""
        return self._settings.session_ttl_seconds if named else self._settings.ephemeral_ttl_seconds

    @property
    def ttl(self) -> int:
        """Seconds that the account lives from now, 0 where nothing is counted."""
        return self.longest if self.bounded else 0

    async def charge(self, principal: str, session_id: str, size: int, *, new: bool) -> Full | None:
        """Add bytes to a session, or say which quota refuses them. `new`: only where it is not there yet."""
        if not self.bounded:
            return None
        answer = await self._scripts.call(
            lua.charge(
                self._keys.principal(principal),
                session_id=session_id,
                more=size,
                most_sessions=self.most_sessions,
                most_bytes=self.most_bytes,
                lives=self.lives(named=True),
                ttl=self.longest,
                only_new=new,
            )
        )
        refusals: dict[bytes, Full] = {b"SESSIONS": "sessions", b"BYTES": "bytes"}
        return refusals.get(answer)

    async def free(self, principal: str, session_ids: Sequence[str], stored: Sequence[str] = ()) -> None:
        """Take sessions that are gone off account and list; `stored` is from the seals of turns."""
        await self._scripts.call(
            lua.free(
                self._keys.principal(principal), ttl=self.longest, session_ids=session_ids, stored=stored
            )
        )

    async def kept(self, principal: str) -> Kept:
        sessions, size = await self._scripts.call(
            lua.weigh(self._keys.principal(principal), ttl=self.longest)
        )
        return Kept(int(sessions), int(size))

    async def heal(self, principal: str) -> bool:
        """Take off some sessions that are gone; True where there were any.

        A worker that died between a delete and its `free` leaves one behind. Only called after a refusal:
        until then such an entry does no harm, and it expires by itself.
        """
        ends = self._keys.principal(principal).ends
        sample = await self._client.run("account", self._redis.zrandmember(ends, _SAMPLE))
        names = sessions_among(sample or ())
        return bool(names) and await self.drop_gone(principal, names)

    async def drop_gone(self, principal: str, names: Sequence[str]) -> bool:
        """Take those sessions that are gone off the account and the list; True where any was."""
        pipeline = self._redis.pipeline()
        for name in names:
            pipeline.exists(self._keys.session(principal, name).session)
        found = await self._client.run("account", pipeline.execute(), commands=len(names))
        # Size 0: a send is about to begin the session.
        sizes = self._keys.principal(principal).sizes
        held = await self._client.run("account", self._redis.hmget(sizes, names))
        gone = [
            name for name, there, size in zip(names, found, held, strict=True) if not there and size != b"0"
        ]
        if gone:
            await self.free(principal, gone)
        return bool(gone)
