"""Who is calling: credentials to a principal."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from service import ids
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Principal:
    id: str
    scopes: frozenset[str] = frozenset()


ANONYMOUS = Principal(ids.principal_id("none", "anonymous"), frozenset({"admin"}))


class Authenticator:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def identify(self, request: Request) -> Principal:
        return ANONYMOUS
