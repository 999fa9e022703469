"""Open streams: how many answers a principal may read at once from one worker.

The count is in memory, because it protects sockets and buffers of this worker. A request takes a
place before its turn begins or a log is read; when the response has ended, in whatever way, the
place is given back (request_state.py).
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from fastapi import Request

from service.api.auth.authenticator import Principal
from service.api.request_state import request_state
from service.errors import ServiceError
from service.telemetry import metrics


class OpenStreams:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Counter[str] = Counter()

    def take(self, request: Request, principal: Principal) -> None:
        """Take a place for the stream of this request. Raises concurrency_limited."""
        state = request_state(request)
        if not self._limit or state.on_end is not None:
            return
        if self._open[principal.id] >= self._limit:
            metrics.limit_rejections.labels(limit="streams").inc()
            raise ServiceError(
                "concurrency_limited",
                f"{self._limit} answers are being read, which is the limit; close one first.",
                retry_after=1,
            )
        self._open[principal.id] += 1
        state.on_end = partial(self._give_back, principal.id)

    def _give_back(self, principal: str) -> None:
        self._open[principal] -= 1
        if not self._open[principal]:
            del self._open[principal]
