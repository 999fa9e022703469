"""Several API keys of the provider: which exist now, and with which a call is made.

Each key has a governor of its own, with its pace, its circuit and the models that it may not use, since each
may belong to a different organisation. A call goes with the first key that has room for it; if none has, it
waits at the one that will have room soonest. Keys come in the order in which they are
named, or by weights. Files are looked at for changed keys. Invariants: a key that has not changed keeps its
governor and all that waits there; without a key that works calls are refused as with one.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Collection
from typing import Final

from service.config.provider_keys import KeySource, ProviderKey, parse_weights
from service.config.settings import Settings, SettingsError
from service.engine.background import Background
from service.engine.pacing.governor import MAY_BE_TRIED, Ask, Governor, Permit, failed_over, held
from service.errors import UpstreamError
from service.eventloop.aligned_sleep import aligned_sleep
from service.store.pacing import Pacing
from service.telemetry import metrics
from service.telemetry.logs import get_logger
from service.upstream.models import Model

# Between two looks at circuits that other workers have opened, and at files of keys.
_LOOK_SECONDS: Final = 1.0
# A wait at one key takes this long; then other keys are tried again.
_SLICE_SECONDS: Final = 1.0

log = get_logger(__name__)


class ProviderKeys:
    def __init__(self, settings: Settings, pacing: Pacing, background: Background) -> None:
        self._pacing = pacing
        self._background = background
        self._source = KeySource(settings)
        self._weights = parse_weights(settings.provider_key_weights or "")
        self._governors: dict[ProviderKey, Governor] = {}
        self._renew(self._source.read())

    def start(self) -> None:
        self._background.loop("circuit", self._look)

    # Which keys there are

    def _renew(self, keys: tuple[ProviderKey, ...]) -> None:
        before = self._governors
        self._governors = {
            key: before.get(key) or Governor(self._pacing.of(key.name, key.secret), self._background, key)
            for key in keys or (ProviderKey(),)
        }
        for key in before.keys() - self._governors.keys():
            if key.name not in {kept.name for kept in self._governors}:
                # A series exists as long as its worker; -1 raises no alert for a key that was removed.
                metrics.provider_key_up.labels(key=key.name).set(-1)
        self._show()

    def _show(self) -> None:
        """Set the metric of circuits: 1 only if every key has an open circuit."""
        reasons = [governor.reason for governor in self._governors.values()]
        for reason in metrics.CIRCUITS:
            metrics.circuit_open.labels(reason=reason).set(int(all(reasons) and reason in reasons))

    async def _look(self) -> None:
        while True:
            if self._source.changed():
                self.reload()
            for governor in list(self._governors.values()):
                await governor.look()
            self._show()
            await aligned_sleep(_LOOK_SECONDS)

    def reload(self) -> None:
        """Take the keys that the files have now; if they are wrong, the present keys stay."""
        try:
            keys = self._source.read()
        except SettingsError as error:
            log.error("provider_keys.not_read", problem=str(error), action="the keys stay as they are")
            return
        self._renew(keys)
        log.info("provider_keys.reloaded", names=[key.name for key in self._governors])

    def state(self) -> dict[str, str]:
        """The state of each key, by name (Governor.known)."""
        return {key.name: governor.known for key, governor in self._governors.items()}

    @property
    def known(self) -> str:
        """The state of the provider: that of its best key."""
        found = list(self.state().values())
        return "ok" if "ok" in found else next((one for one in found if one.endswith(MAY_BE_TRIED)), found[0])

    def offers(self, model: Model) -> bool:
        """False for a while after the provider has refused this model to every key of ours."""
        return any(governor.offers(model) for governor in self._governors.values())

    def others(self, refused: Collection[ProviderKey]) -> bool:
        """May a key work that is not among those with which the turn was refused?"""
        return any(key not in refused and not one.circuit() for key, one in self._governors.items())

    # Which one is used

    async def admit(
        self,
        principal: str,
        chain: list[Model],
        prompt: int,
        completion: int,
        left: float,
        *,
        asked: bool = False,
        refused: Collection[ProviderKey] = (),
    ) -> Permit:
        """Permission to call the first model of the chain, or a fallback, with a key that has room.

        `left` is how long it may take, `asked` that the caller has named the completion limit, `refused` are
        keys with which a call of this turn was refused whatever it asked. Raises UpstreamError.
        """
        probing: list[Governor] = []  # keys that this call may test
        try:
            ask = Ask(principal, prompt, completion, fixed=asked)
            permit = await self._admit(ask, chain, left, refused, probing)
            probing = [governor for governor in probing if governor.key != permit.key]
            return permit
        finally:
            for governor in probing:
                governor.free_probe()

    async def _admit(
        self,
        ask: Ask,
        chain: list[Model],
        left: float,
        refused: Collection[ProviderKey],
        probing: list[Governor],
    ) -> Permit:
        usable = await self._usable(refused, probing)
        # If no model is offered, the first is asked: it may be back.
        offered = [model for model in chain if any(one.offers(model) for one in usable)] or chain[:1]
        soonest = math.inf
        for model in offered:
            governors = [one for one in usable if one.offers(model)] or usable
            patience = left if model is offered[0] else 0.0
            found = await self._take(governors, ask, model, patience, probing)
            if isinstance(found, Permit):
                if model is not offered[0]:
                    failed_over(offered[0], model)
                return found
            soonest = min(soonest, found)
        raise held(soonest)

    async def _take(
        self, governors: list[Governor], ask: Ask, model: Model, patience: float, probing: list[Governor]
    ) -> Permit | float:
        """A permit of the first key that has room now; else of the one that will have it soonest."""
        if len(self._governors) == 1:
            return await governors[0].take(ask, model, patience)
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while True:
            waits: list[tuple[float, Governor]] = []
            failure: UpstreamError | None = None
            for governor in governors:
                try:
                    if await governor.pass_circuit():
                        probing.append(governor)
                except UpstreamError as error:  # another call tests the key
                    failure = error
                    continue
                found = await governor.take(ask, model, 0.0)
                if isinstance(found, Permit):
                    return found
                waits.append((found, governor))
            if not waits and failure is not None:
                raise failure
            wait, best = min(waits, key=lambda one: one[0])
            left = until - loop.time()
            if wait > left:
                return wait
            found = await best.take(ask, model, min(left, max(_SLICE_SECONDS, wait)))
            if isinstance(found, Permit):
                return found

    async def _usable(self, refused: Collection[ProviderKey], probing: list[Governor]) -> list[Governor]:
        """The keys with which a call may succeed, in order. Raises UpstreamError where there is none."""
        ordered = [one for one in self._ordered() if one.key not in refused] or self._ordered()
        found = [one for one in ordered if not one.circuit()]
        if not found or len(self._governors) == 1:
            found = ordered[:1]
            if await found[0].pass_circuit():
                probing.append(found[0])
        return found

    def _ordered(self) -> list[Governor]:
        """In the order of the settings; with weights at random, by their share, weight 0 last."""
        governors = list(self._governors.values())
        if not self._weights:
            return governors

        def place(governor: Governor) -> float:
            weight = self._weights.get(governor.key.name, 1)
            return -math.log(1 - random.random()) / weight if weight else math.inf

        return sorted(governors, key=place)
