"""The upstream governor: what is known of the provider's limits, and who may call it now."""

from __future__ import annotations

from service.errors import UpstreamError
from service.upstream.base import Limits
from service.upstream.models import Model


class Governor:
    async def admit(self, chain: list[Model], model: Model, left: float) -> Model:
        return model

    def learned(self, model: Model, limits: Limits) -> None: ...

    def succeeded(self, model: Model) -> None: ...

    def failed(self, model: Model, error: UpstreamError) -> None: ...

    def circuit(self) -> str | None:
        return None
