"""Relay: puts what an upstream call brings into the turn.

Called by the network callback, so nothing here waits. Writing to the log is flusher.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from service.engine.attempts import Attempt
from service.engine.flusher import Flusher
from service.engine.live import Live
from service.upstream.base import REASONING, TEXT, Batch

# Tokens that a turn may hold while Redis is away; a 65k-token answer is about 260 KiB.
_MAX_HELD: Final = 20_000


class Relay:
    """`last` is what the provider says at the end: finish_reason and usage."""

    __slots__ = ("_attempt", "_flusher", "_idle", "_live", "_loop", "last")

    def __init__(self, live: Live, attempt: Attempt, flusher: Flusher, idle_seconds: float) -> None:
        self._live = live
        self._attempt = attempt
        self._flusher = flusher
        self._idle = idle_seconds
        self._loop = asyncio.get_running_loop()
        self.last = Batch()

    def on_batch(self, batch: Batch) -> Awaitable[None] | None:
        """Take a batch. What is returned is awaited before more is read."""
        live, last = self._live, self.last
        if live.signal is not None:
            return None  # the attempt is being ended
        if batch.usage:
            live.reported = last.usage = batch.usage
        last.finish_reason = batch.finish_reason or last.finish_reason
        last.model = batch.model or last.model
        if not batch.pieces:
            return None
        # The deadline of the whole turn may be nearer, and is a different failure.
        live.deadline = min((self._loop.time() + self._idle, "idle_timeout"), live.end)
        live.tokens += batch.tokens
        for kind, piece in batch.pieces:
            if kind == TEXT:
                live.add_text(piece)
            elif kind == REASONING:
                live.add_reasoning(piece)
            else:
                live.add_tool_call(piece)
        first = self._attempt.arrived(batch.tokens)
        if last.finish_reason:
            self._flusher.put_last(live)
        else:
            self._flusher.put(live, urgent=first)
        held = live.failing_since is not None and live.tokens > _MAX_HELD
        return live.flushed() if held else None
