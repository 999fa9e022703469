"""The edge around every request: its id, its trace, its log line, its metrics, its last net.

Pure ASGI (BaseHTTPMiddleware costs more than the stream it wraps). One of the three places that
may catch everything: an unexpected error before the first byte is a 500 in the path's envelope,
after it a broken connection; both are logged with their traceback and counted.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import ids, metrics
from service.api.handlers import respond
from service.api.hardening import Hardening
from service.errors import BrokenAnswer, ServiceError
from service.logs import get_logger
from service.settings import Settings

_TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_QUIET: Final = ("/livez", "/readyz", "/health", "/metrics")
_METHODS: Final = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))

log = get_logger("service.requests")


class EdgeMiddleware:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hardening = Hardening(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            # What the server sets when the process is told to leave.
            scope["app"].state.drain = scope.get("state", {}).get("drain")
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if ids.is_request_id(given) else ids.new_request_id()
        traceparent = headers.get(b"traceparent", b"").decode("latin-1")
        scope["chat.request_id"] = request_id
        scope["chat.traceparent"] = traceparent if _TRACEPARENT.match(traceparent) else ""
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=request_id)
        begin = time.perf_counter()
        status = 0
        first = 0.0

        async def noting(message: Message) -> None:
            nonlocal status, first
            if message["type"] == "http.response.start":
                status = message["status"]
                first = time.perf_counter()
                added = self._hardening.headers(scope, message["headers"])
                message = {
                    **message,
                    "headers": [*message["headers"], (b"x-request-id", request_id.encode()), *added],
                }
            await send(message)

        outcome = "ended"
        try:
            if self._hardening.too_many_headers(scope):
                error = ServiceError("invalid_request", "The request has too many headers.", status=431)
                await respond(scope["path"], error)(scope, receive, noting)
            else:
                await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            outcome = "cut"
            raise
        except BrokenAnswer:
            outcome = "broken"
            raise
        except Exception:
            outcome = "error"
            metrics.internal_errors.labels(where="request").inc()
            log.exception("request.broke", path=_route(scope))
            if status:
                raise BrokenAnswer("internal") from None
            error = ServiceError("internal", "Something went wrong on our side.")
            await respond(scope["path"], error)(scope, receive, noting)
        finally:
            self._note(scope, status, begin, first, outcome)

    def _note(self, scope: Scope, status: int, begin: float, first: float, outcome: str) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        # A client that left before the status line: 499, as nginx has it.
        metrics.http_requests.labels(route=route, method=method, status=str(status or 499)).inc()
        if first:
            metrics.http_first_byte.labels(route=route).observe(first - begin)
        fields: dict[str, Any] = {
            name: scope[key]
            for name, key in (
                ("principal", "chat.principal"), ("session", "chat.session"), ("turn", "chat.turn"),
                ("code", "chat.code"),
            )
            if key in scope
        }  # fmt: skip
        note = log.debug if route in _QUIET and status < 400 else log.warning if status >= 500 else log.info
        note(
            "request.ended", method=method, route=route, status=status or 499, outcome=outcome,
            seconds=round(time.perf_counter() - begin, 4), **fields,
        )  # fmt: skip


def _route(scope: Scope) -> str:
    """The route's pattern, never the path: it would hold ids."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return scope.get("chat.prefix", "") + path if isinstance(path, str) else "unmatched"
