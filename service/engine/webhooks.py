"""Telling a receiver of the end of each turn (CHAT_WEBHOOK_URL), at least once.

What is told is queued before the turn is settled, by whoever settles it, and sent apart from that: a receiver
that is dead or slow costs no turn anything. Without the setting nothing here runs. Invariants: the id is the
turn's, so a receiver knows a repeat; at most `_AT_ONCE` tries run per worker; nobody is tried for ever.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from service.config.settings import Settings
from service.config.webhook import key_of
from service.engine.background import Background
from service.errors import StoreUnavailable
from service.eventloop.aligned_sleep import aligned_sleep
from service.store.store import Store
from service.store.turn_records import Turn
from service.store.webhooks import Told
from service.telemetry import metrics
from service.telemetry.logs import get_logger
from service.upstream.webhook import NotTold, tell

_LOOK_SECONDS: Final = 1.0
_AT_ONCE: Final = 8
#: s after a try that failed, the first of them after the first; two days in all. A tenth by chance.
PAUSES: Final = (5, 30, 120, 600, 3_600, 10_800, 21_600, 43_200, 86_400)
_LONGEST_TEXT: Final = 65_536  # characters

log = get_logger(__name__)


class Webhooks:
    def __init__(self, settings: Settings, store: Store) -> None:
        self._url = settings.webhook_url
        self._text = settings.webhook_text
        self._private = settings.webhook_allow_private
        self._store = store
        self._key = b""
        if self._url and settings.webhook_secret:
            self._key = key_of(settings.webhook_secret)

    def start(self, background: Background) -> None:
        if self._url:
            background.loop("webhooks", self._run)

    async def ended(self, turn: Turn, usage: dict[str, Any], model: str, **told: Any) -> None:
        """Queue what is told of a sealed turn that is not settled yet. Raises StoreUnavailable."""
        if not self._url:
            return
        ref, now = turn.ref, datetime.now(UTC).isoformat(timespec="milliseconds")
        data = {
            "turn_id": ref.turn_id,
            "session_id": ref.session_id,
            "principal": ref.principal,
            "model": model,
            "attempt": turn.attempt,
            "created": turn.created,
            "usage": {
                name: usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
            },
            **{name: value for name, value in told.items() if value is not None},
        }
        if self._text:
            message = await self._store.sessions.message(ref.principal, ref.session_id, turn.answer_id)
            data["text"] = message.content[:_LONGEST_TEXT] if message else ""
        body = orjson.dumps({"type": f"turn.{told['state']}", "timestamp": now, "data": data})
        if not await self._store.webhooks.put(ref.turn_id, body):
            metrics.webhooks.labels(outcome="full").inc()
            log.warning("webhook.full", turn=ref.turn_id, action="the receiver is not told of it")

    async def _run(self) -> None:
        while True:
            waiting = await self._store.webhooks.take(_AT_ONCE)
            if waiting:
                await asyncio.gather(*map(self._tell, waiting))
            if len(waiting) < _AT_ONCE:
                await aligned_sleep(_LOOK_SECONDS)

    async def _tell(self, told: Told) -> None:
        assert self._url
        queue = self._store.webhooks
        try:
            await tell(self._url, self._key, told.id, told.body, private=self._private)
        except NotTold as error:
            over = error.final or told.tries > len(PAUSES)
            metrics.webhooks.labels(outcome="given_up" if over else "failed").inc()
            log.warning("webhook.failed", turn=told.id, reason=str(error), tries=told.tries, given_up=over)
            pause = 0.0 if over else PAUSES[told.tries - 1] * random.uniform(1, 1.1)
        else:
            over, pause = True, 0.0
            metrics.webhooks.labels(outcome="delivered").inc()
        try:
            await (queue.done(told.id) if over else queue.again(told.id, pause))
        except StoreUnavailable:
            log.warning("webhook.held_up", turn=told.id, action="it is sent again")
