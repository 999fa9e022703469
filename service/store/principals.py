"""Limits of their own for the subjects of JWTs and for groups: one hash in Redis, a field for each.

Invariants: never more than MOST entries; what is not named in an entry is the settings'. A subject, or a
group, that nobody has seen yet may have an entry. Which of several entries hold, and caching, are api/'s.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from service import ids
from service.store.connection import lua
from service.store.connection.typed_scripts import flat
from service.store.credentials import LIMITS, OwnLimits
from service.store.part import StorePart

Kind = Literal["jwt", "group"]

#: entries of 0.5 KiB at most: 5 MiB
MOST: Final = 10_000
_READ: Final = 500  # at once, so that no command of a list keeps Redis busy


@dataclass(frozen=True, slots=True)
class Entry(OwnLimits):
    """`id` is a principal (`jwt.alice`) or a group (`group.staff`); name and issuer as tokens have them."""

    id: str
    name: str = ""
    issuer: str = ""


def entry_id(kind: Kind, name: str, issuer: str, issuers: Sequence[str]) -> str:
    """Names are unique per issuer: with one configured they stand alone."""
    return ids.principal_id(kind, name if len(issuers) == 1 else f"{issuer}\n{name}")


def named(subject: str | None, group: str | None, issuer: str | None, issuers: Sequence[str]) -> Entry:
    """An entry without limits yet, for a subject or a group. Raises ValueError, with a sentence."""
    if (subject is None) == (group is None):
        raise ValueError("Name either a subject (`sub` of its tokens) or a group.")
    if issuers and issuer not in (issuers if len(issuers) > 1 else (None, *issuers)):
        raise ValueError(f"The issuer is one of {', '.join(issuers)}.")
    issuer = "" if len(issuers) == 1 else issuer or ""
    kind: Kind = "jwt" if group is None else "group"
    name = subject if group is None else group
    assert name is not None
    return Entry(entry_id(kind, name, issuer, issuers), name, issuer)


class Principals(StorePart):
    async def set(self, entry: Entry, removed: Collection[str] = ()) -> bool:
        """Set the limits that `entry` has, drop those of `removed`. False where there are MOST entries."""
        fields = {"name": entry.name, "issuer": entry.issuer, **entry.own()}
        call = lua.set_own_limits(
            entries=self._keys.own_limits, id=entry.id, most=MOST, fields=flat(fields), removed=list(removed)
        )
        return bool(await self._scripts.call(call))

    async def unset(self, id: str) -> bool:
        return await self._client.run("own_limits", self._redis.hdel(self._keys.own_limits, id))

    async def get(self, id: str) -> Entry | None:
        return (await self.find([id]))[0][id]

    async def find(self, wanted: Sequence[str]) -> tuple[dict[str, Entry | None], bool]:
        """The entries by their ids, and whether there is any entry at all; one round trip."""
        pipeline = self._redis.pipeline()
        pipeline.hmget(self._keys.own_limits, wanted)
        pipeline.exists(self._keys.own_limits)
        found, some = await self._client.run("own_limits", pipeline.execute(), commands=2)
        return {id: _load(id, raw) for id, raw in zip(wanted, found, strict=True)}, bool(some)

    async def all(self) -> list[Entry]:
        """By their ids."""
        names = sorted(await self._client.run("own_limits", self._redis.hkeys(self._keys.own_limits)))
        found: list[Entry] = []
        for first in range(0, len(names), _READ):
            some, _ = await self.find([name.decode() for name in names[first : first + _READ]])
            found += [entry for entry in some.values() if entry is not None]
        return found


def _load(id: str, raw: bytes | None) -> Entry | None:
    if raw is None:
        return None
    held: dict[str, str] = orjson.loads(raw)
    known: dict[str, Any] = {
        name: held[name] if name.startswith("limit_") else int(held[name]) for name in LIMITS if name in held
    }
    return Entry(id, held["name"], held["issuer"], **known)
