"""Titles that no person has given: set once, and only where there is none (lua/title_session.lua)."""

from __future__ import annotations

from service.store.connection import lua
from service.store.part import Part
from service.store.turn_records import TurnRef


class Titles(Part):
    async def wanted(self, ref: TurnRef) -> bool:
        """Has the session a name and no title? True for the one turn that is to find one."""
        return await self._call(ref, "")

    async def give(self, ref: TurnRef, title: str) -> bool:
        """False where a person was faster, or the session is gone."""
        return await self._call(ref, title)

    async def _call(self, ref: TurnRef, title: str) -> bool:
        keys = self._keys.session(ref.principal, ref.session_id)
        return bool(await self._scripts.call(lua.title_session(keys, turn_id=ref.turn_id, title=title)))
