"""The edge around every request: its id, its trace, its log line, its metrics, its last net.

Pure ASGI (BaseHTTPMiddleware costs more than the stream it wraps). One of the three places that
may catch everything: an unexpected error before the first byte is a 500 in the path's envelope,
after it a broken connection; both are logged with their traceback and counted.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import ids
from service.api.handlers import respond
from service.api.hardening import Hardening
from service.api.hosts import PROBES, Hosts
from service.api.origins import Origins
from service.api.prefixes import Prefixes, below
from service.config.settings import Settings
from service.errors import BrokenAnswer, ServiceError
from service.telemetry import metrics, tracing
from service.telemetry.logs import get_logger

_METHODS: Final = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))

log = get_logger("service.requests")


class EdgeMiddleware:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hardening = Hardening(settings)
        self._hosts = Hosts(settings)
        self._origins = Origins(settings)
        self._prefixes = Prefixes(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            # What the server sets when the process is told to leave.
            scope["app"].state.drain = scope.get("state", {}).get("drain")
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        prefix = self._prefixes.take_off(scope)
        visit = _Visit(scope)
        # For what a stream says between its head and its end, which concerns no middleware.
        scope["chat.send"] = send

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.began(message["status"])
                given = below(prefix, message["headers"])
                added = self._hardening.headers(scope, given)
                message = {
                    **message,
                    "headers": [*given, (b"x-request-id", visit.request_id.encode()), *added],
                }
            elif not message.get("more_body", False):
                visit.ended()  # before the client can see the end: what it has seen is counted
            await send(message)

        try:
            error = self._refusal(scope)
            if error is not None:
                scope["chat.code"] = error.code
                await respond(scope["path"], error)(scope, receive, noting)
            else:
                await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            visit.outcome = "cut"
            raise
        except ClientDisconnect:
            # Raised where a body is read: the client hung up in the middle of it. Nobody is there to
            # be answered, and nothing of ours broke.
            visit.outcome = "cut"
        except BrokenAnswer:
            visit.outcome = "broken"
            raise
        except Exception:
            # One of the three tops: whatever was not foreseen is answered, logged and counted here.
            visit.outcome = "error"
            metrics.internal_errors.labels(where="request").inc()
            log.exception("request.broke", path=_route(scope))
            if visit.status:
                raise BrokenAnswer("internal") from None
            error = ServiceError("internal", "Something went wrong on our side.")
            await respond(scope["path"], error)(scope, receive, noting)
        finally:
            visit.ended()
            # It knows the scope: the two would keep each other until the garbage collector comes.
            scope.pop("chat.send", None)

    def _refusal(self, scope: Scope) -> ServiceError | None:
        """What can be refused from the head of a request alone, whatever its route."""
        if self._hardening.too_many_headers(scope):
            return ServiceError("invalid_request", "The request has too many headers.", status=431)
        return self._hosts.refusal(scope) or self._origins.refusal(scope)


class _Visit:
    """One request from its head to the end of its response: its id, trace, count and line."""

    def __init__(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        self.request_id = given if ids.is_request_id(given) else ids.new_request_id()
        self.status = 0
        self.outcome = "ended"
        self._scope = scope
        self._begin = time.perf_counter()
        self._first = 0.0
        self._over = False
        parent = tracing.accepted(headers.get(b"traceparent", b"").decode("latin-1"))
        self._span = tracing.start("request", "server", parent)
        scope["chat.request_id"] = self.request_id
        scope["chat.traceparent"] = self._span.traceparent
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=self.request_id)
        if self._span.traceparent:
            structlog.contextvars.bind_contextvars(trace=tracing.trace_id(self._span.traceparent))

    def began(self, status: int) -> None:
        self.status = status
        self._first = time.perf_counter()

    def ended(self) -> None:
        """The response has ended or the client has left; the first call counts."""
        if self._over:
            return
        self._over = True
        scope = self._scope
        if "chat.stream" in scope:
            scope["chat.stream"].close()
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = self.status or 499  # a client that left before the status line, as nginx has it
        metrics.http_requests.labels(route=route, method=method, status=str(status)).inc()
        if self._first:
            metrics.http_first_byte.labels(route=route).observe(self._first - self._begin)
        fields: dict[str, Any] = {
            name: scope[key]
            for name, key in (
                ("principal", "chat.principal"),
                ("session", "chat.session"),
                ("turn", "chat.turn"),
                ("code", "chat.code"),
            )
            if key in scope
        }
        for name in ("session", "turn"):
            given = scope.get("path_params", {}).get(f"{name}_id", "")
            if ids.is_session_id(given):  # a turn's id has the same letters; others are not logged
                fields.setdefault(name, given)
        self._span.rename(f"{method} {route}")
        self._span.set(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "chat.outcome": self.outcome,
                **{f"chat.{name}": value for name, value in fields.items()},
            }
        )
        if self.status >= 500 or self.outcome in ("error", "broken"):
            self._span.fail(fields.get("code", self.outcome))
        self._span.end()
        seconds = round(time.perf_counter() - self._begin, 4)
        first = {"first_byte_seconds": round(self._first - self._begin, 4)} if self._first else {}
        quiet = route in PROBES and status < 400
        note = log.debug if quiet else log.warning if status >= 500 else log.info
        note(
            "request.ended",
            method=method,
            route=route,
            status=status,
            outcome=self.outcome,
            seconds=seconds,
            **first,
            **fields,
        )


def _route(scope: Scope) -> str:
    """The route's pattern, never the path: it would hold ids."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return path if isinstance(path, str) else "unmatched"
