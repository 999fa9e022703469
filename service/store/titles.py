"""Titles that no person has given: set once, and only where there is none (lua/title_session.lua)."""

from __future__ import annotations

from service.store.connection.scripts import Scripts
from service.store.connection.typed_scripts import script
from service.store.keys import Keys
from service.store.turn_records import TurnRef


@script
def _title_session(*, session: str, turn_id: str, title: str) -> None: ...


class Titles:
    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self._scripts = scripts
        self._keys = keys

    async def wanted(self, ref: TurnRef) -> bool:
        """Has the session a name and no title? True for the one turn that is to find one."""
        return await self._call(ref, "")

    async def give(self, ref: TurnRef, title: str) -> bool:
        """False where a person was faster, or the session is gone."""
        return await self._call(ref, title)

    async def _call(self, ref: TurnRef, title: str) -> bool:
        session = self._keys.session(ref.principal, ref.session_id).session
        return bool(
            await self._scripts.call(_title_session(session=session, turn_id=ref.turn_id, title=title))
        )
