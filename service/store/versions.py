"""Earlier versions of a session: what edits and regenerates have cut off its history.

They are kept by begin.lua and choose_version.lua (how: lua/version.lua), as many of a session as a setting
allows, each of 200 messages and 256 KiB at most. They lie beside the messages, in the same key, so that
they live as long as these and go with them. Here they are read and put back.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.store.connection import lua
from service.store.messages import Message
from service.store.part import StorePart, now_ms


@dataclass(frozen=True, slots=True)
class Version:
    """`holder` is the message that has taken its place; `cut` is when that was, in ms."""

    id: str
    holder: str
    cut: int
    messages: list[Message]


class Versions(StorePart):
    async def all(self, principal: str, session_id: str, *, everything: bool = False) -> list[Version]:
        """Versions of the messages that are there now, oldest first; `everything`: of others too."""
        keys = self._keys.session(principal, session_id)
        flat = await self._scripts.call(lua.versions(keys, everything=everything))
        return [
            Version(name.decode(), holder.decode(), *_unpacked(packed))
            for name, holder, packed in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        ]

    async def choose(self, principal: str, session_id: str, version: str) -> tuple[str, str, bool]:
        """Put a version back. Returns (outcome of choose_version.lua, the turn that prevents it, whether
        images may have lost their last name)."""
        keys = self._keys.session(principal, session_id)
        answer = await self._scripts.call(
            lua.choose_version(
                keys, chosen=version, most_versions=self._settings.max_versions, now_ms=now_ms()
            )
        )
        outcome, turn, gone = [*answer, b"", 0][:3]
        return outcome.decode(), turn.decode(), bool(gone)


def _unpacked(packed: bytes) -> tuple[int, list[Message]]:
    """When it was cut off, and its messages; the form is version.lua's."""
    head, _, rest = packed.partition(b"\n")
    messages = []
    while rest:
        line, _, rest = rest.partition(b"\n")
        _, of_id, of_body = (int(number) for number in line.split())
        messages.append(Message.load(rest[:of_id].decode(), rest[of_id : of_id + of_body]))
        rest = rest[of_id + of_body :]
    return int(head), messages
