"""A worker's cache of the limits of single subjects of JWTs and of groups.

Most have no entry, and that is cached too. Where there is no entry at all, a worker asks the store once every
two seconds, whoever calls. What an entry holds is store/principals.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from limits import parse_many

from service.api.auth.known_records import KnownRecords, SharedReads
from service.errors import StoreUnavailable
from service.store.connection.client import Client
from service.store.credentials import OwnLimits
from service.store.principals import Entry, Principals

_NOBODY: Final = ""  # this id is known while there is no entry at all


class PrincipalCache:
    def __init__(self, client: Client, store: Principals) -> None:
        self._client = client
        self._store = store
        self._known = KnownRecords[Entry | None]()
        self._reads = SharedReads("read-own-limits", self._fetch)

    async def limits(self, subject: str, groups: Sequence[str]) -> dict[str, Any]:
        """The limits of a subject in these groups, by ids of entries. Raises StoreUnavailable.

        The subject's own limit wins over those of groups; of several groups the most generous counts.
        """
        found = await self._find((subject, *groups))
        own = found.pop(subject, None)
        of_groups = most_generous(entry for entry in found.values() if entry is not None)
        return of_groups | own.own() if own else of_groups

    async def _find(self, ids: tuple[str, ...]) -> dict[str, Entry | None]:
        if self._known.fresh(_NOBODY):
            return {}
        known = {id: found.record for id in ids if (found := self._known.fresh(id))}
        missing = tuple(id for id in ids if id not in known)
        return known | await self._read(missing) if missing else known

    async def _read(self, ids: tuple[str, ...]) -> dict[str, Entry | None]:
        try:
            return await self._reads.read(ids)
        except StoreUnavailable:
            known = (_NOBODY,) if _NOBODY in self._known else ids
            return {id: self._known.bridged(id) for id in known}

    async def _fetch(self, ids: tuple[str, ...]) -> dict[str, Entry | None]:
        found, any_at_all = await self._client.unless_silent(self._store.find(ids))
        if any_at_all:
            self._known.pop(_NOBODY, None)
        else:
            self._known.clear()
        for id, entry in (found if any_at_all else {_NOBODY: None}).items():
            self._known.keep(id, entry)
        return found


def most_generous(several: Iterable[OwnLimits]) -> dict[str, Any]:
    """For each limit the value that allows most; limits that none of them has are left out."""
    found: dict[str, Any] = {}
    for limits in several:
        for name, value in limits.own().items():
            if name not in found or _allows(value) > _allows(found[name]):
                found[name] = value
    return found


def _allows(limit: int | str) -> float:
    if not limit:
        return float("inf")
    return _per_second(limit) if isinstance(limit, str) else limit


@lru_cache(maxsize=1024)
def _per_second(limit: str) -> float:
    """Requests per second that a limit allows in the long run: the least of its windows."""
    return min(window.amount / window.get_expiry() for window in parse_many(limit))
