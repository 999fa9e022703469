"""Webhooks: the end of each turn is told to a receiver for all turns (CHAT_WEBHOOK_URL), and to that of the
turn's API key, if the key has one; at least once.

A message is queued before the turn is settled, by the worker that settles it, and sent by loops of their own:
a dead or slow receiver delays no turn and no other receiver, since each has its queue. Invariants: the id is
the turn's, so a receiver sees a repeat; at most `_AT_ONCE` tries run per worker, and as many for each of
`_KEYS_AT_ONCE` keys; tries of a message end after two days.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import orjson
from pydantic import SecretStr

from service.config.settings import Settings
from service.config.webhook import key_of
from service.engine.attempts import Ending
from service.engine.background import Apart, Background
from service.errors import StoreUnavailable
from service.eventloop.aligned_sleep import aligned_sleep
from service.store.credentials import Credential
from service.store.store import Store
from service.store.turn_records import Turn
from service.store.webhooks import Told, WebhookQueue
from service.telemetry import metrics
from service.telemetry.logs import get_logger
from service.upstream.webhook import NotTold, tell

_LOOK_SECONDS: Final = 1.0
_AT_ONCE: Final = 8
_KEYS_AT_ONCE: Final = 32
#: seconds to wait after each failed try, two days in all; up to a tenth is added at random
PAUSES: Final = (5, 30, 120, 600, 3_600, 10_800, 21_600, 43_200, 86_400)
_LONGEST_TEXT: Final = 65_536  # characters
_USAGE: Final = ("prompt_tokens", "completion_tokens", "total_tokens")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Receiver:
    url: str
    key: bytes  # messages are signed with it


class Webhooks:
    def __init__(self, settings: Settings, store: Store) -> None:
        self._text = settings.webhook_text
        self._private = settings.webhook_allow_private
        self._keys_in_use = "keys" in settings.auth
        self._store = store
        self._all: Receiver | None = None
        if settings.webhook_url and settings.webhook_secret:
            self._all = Receiver(settings.webhook_url, key_of(settings.webhook_secret))
        self._room = asyncio.Semaphore(_KEYS_AT_ONCE)

    def start(self, background: Background) -> None:
        if self._all:
            background.loop("webhooks", self._run)
        if self._keys_in_use:
            apart = Apart(background, "webhooks_of_keys")
            background.loop("webhooks_of_keys", partial(self._run_keys, apart))

    def told_of(self, turn: Turn) -> bool:
        """Is there a receiver for the turn's end?"""
        return self._all is not None or turn.hook != ""

    async def ended(self, turn: Turn, ending: Ending) -> None:
        """Queue the message about a sealed turn that is not settled yet. Raises StoreUnavailable."""
        queues = [*([""] if self._all else []), *([turn.hook] if turn.hook else [])]
        if not queues:
            return
        ref, now = turn.ref, datetime.now(UTC).isoformat(timespec="milliseconds")
        data: dict[str, Any] = {
            "turn_id": ref.turn_id,
            "session_id": ref.session_id,
            "principal": ref.principal,
            "model": ending.model,
            "attempt": turn.attempt,
            "created": turn.created,
            "usage": {name: ending.usage.get(name, 0) for name in _USAGE},
            "state": ending.state,
        }
        if ending.finish_reason is not None:
            data["finish_reason"] = ending.finish_reason
        if ending.code is not None:
            data["code"] = ending.code
        if self._text:
            message = await self._store.sessions.message(ref.principal, ref.session_id, turn.answer_id)
            data["text"] = message.content[:_LONGEST_TEXT] if message else ""
        body = orjson.dumps({"type": f"turn.{ending.state}", "timestamp": now, "data": data})
        for of in queues:
            if not await self._store.webhooks.put(ref.turn_id, body, of):
                metrics.webhooks.labels(outcome="full").inc()
                log.warning("webhook.full", turn=ref.turn_id, key=of, action="the receiver is not told of it")

    async def _run(self) -> None:
        assert self._all
        while True:
            waiting = await self._store.webhooks.take(_AT_ONCE)
            if waiting:
                await asyncio.gather(*(self._tell(self._all, one) for one in waiting))
            if len(waiting) < _AT_ONCE:
                await aligned_sleep(_LOOK_SECONDS)

    async def _run_keys(self, apart: Apart) -> None:
        while True:
            apart.collect()
            for key_id in await self._store.webhooks.waiting(_KEYS_AT_ONCE):
                apart.start(key_id, partial(self._tell_of, key_id))
            await aligned_sleep(_LOOK_SECONDS)

    async def _tell_of(self, key_id: str) -> None:
        """Send some messages of one key's queue; they are dropped if the key has no webhook any more."""
        async with self._room:
            receiver = _receiver(await self._store.credentials.get(key_id))
            waiting = await self._store.webhooks.take(_AT_ONCE, key_id)
            await asyncio.gather(*(self._tell(receiver, one, key_id) for one in waiting))

    async def _tell(self, receiver: Receiver | None, told: Told, of: str = "") -> None:
        again: float | None = None
        try:
            if receiver is None:
                raise NotTold("the key has no webhook any more", final=True)
            await tell(receiver.url, receiver.key, told.id, told.body, private=self._private)
        except NotTold as error:
            over = error.final or told.tries > len(PAUSES)
            metrics.webhooks.labels(outcome="given_up" if over else "failed").inc()
            log.warning(
                "webhook.failed", turn=told.id, key=of, reason=str(error), tries=told.tries, given_up=over
            )
            again = None if over else PAUSES[told.tries - 1] * random.uniform(1, 1.1)
        else:
            metrics.webhooks.labels(outcome="delivered").inc()
        try:
            await self._store.webhooks.tried(told.id, of, again)
        except StoreUnavailable:
            log.warning("webhook.held_up", turn=told.id, key=of, action="it is sent again")


async def forget_text(queue: WebhookQueue, principal: str) -> None:
    """Receivers that have not been told yet of turns of a principal are told without the answers' text."""
    async for of, waiting in queue.all():
        for id, body in waiting.items():
            said = orjson.loads(body)
            if said["data"]["principal"] == principal and said["data"].pop("text", ""):
                await queue.redact(id, of, orjson.dumps(said))


def _receiver(credential: Credential | None) -> Receiver | None:
    if credential is None or credential.state(time.time()) != "active":
        return None
    if not credential.webhook_url or not credential.webhook_secret:
        return None
    return Receiver(credential.webhook_url, key_of(SecretStr(credential.webhook_secret)))
