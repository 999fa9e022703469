"""The service with a probe around it: how long one turn of its event loop took, in processor time.

While a request is open the probe has itself called in every turn of the loop, and notes how much the
loop's thread has worked since the turn before. Time for which the machine had no core for it does not
count, so that a loaded machine measures the same. `GET /-/stall` gives the longest turn in seconds and
begins anew.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from service.app import create_app as create_service


class Probe:
    def __init__(self, app: Any) -> None:
        self._app = app
        self._open = 0
        self._last = 0.0
        self._worst = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == "/-/stall":
            body = repr(self._worst).encode()
            self._worst = 0.0
            head = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": body})
            return
        self._open += 1
        if self._open == 1:
            self._last = time.thread_time()
            asyncio.get_running_loop().call_soon(self._turn)
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1

    def _turn(self) -> None:
        now = time.thread_time()
        self._worst = max(self._worst, now - self._last)
        self._last = now
        if self._open:
            asyncio.get_running_loop().call_soon(self._turn)


def create_app(settings: Any = None) -> Probe:
    return Probe(create_service(settings))
