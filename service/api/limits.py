"""Request limits per principal, else per client address."""

from __future__ import annotations

from typing import Literal

from fastapi import Request

from service.api.auth import Principal


class Limits:
    async def check(self, request: Request, principal: Principal, kind: Literal["sends", "reads"]) -> None:
        """Raises rate_limited."""
