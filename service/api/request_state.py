"""The state of one request, from its head to the end of its response, and what the edge knows of it.

One object per request, in its scope. Each part of the edge writes here what it finds out: the caller, session
and turn, headers of the response, what to give back at its end. At the end it is counted and logged, once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from starlette.types import Scope, Send

from service import ids
from service.api.hosts import PROBES
from service.telemetry import metrics, tracing
from service.telemetry.logs import get_logger

_METHODS: Final = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
_KEY: Final = "chat.request_state"
_PORT: Final = re.compile(r"(.*):([0-9]{1,5})")

log = get_logger("service.requests")


class RequestState:
    def __init__(self, scope: Scope, prefix: str, send: Send) -> None:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        self.request_id = given if ids.is_request_id(given) else ids.new_request_id()
        self.prefix = prefix  # of the paths that we link to (prefixes.py)
        self.send = send  # the server's own, past all middlewares: for a stream between its head and its end
        self.principal = ""
        self.caller = ""  # whose requests are counted, where there is a limit
        self.session = ""
        self.turn = ""
        self.code = ""  # of the error that was the answer
        self.limit_headers: list[tuple[bytes, bytes]] = []
        self.body_bytes = 0  # bytes of the body that were read
        self.on_end: Callable[[], None] | None = None  # gives the stream's place back
        self.status = 0
        self.outcome = "ended"
        self._scope = scope
        self._begin = time.perf_counter()
        self._first = 0.0
        self._over = False
        parent = tracing.accepted(headers.get(b"traceparent", b"").decode("latin-1"))
        probe = scope["path"] in PROBES  # asked each second by each balancer: no span
        self._span = tracing.NOTHING if probe else tracing.start("request", "server", parent)
        self.traceparent = self._span.traceparent
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=self.request_id)
        if self.traceparent:
            structlog.contextvars.bind_contextvars(trace=tracing.trace_id(self.traceparent))
        scope[_KEY] = self

    def close(self) -> None:
        """End it, and take it out of the scope: the two would keep each other for the garbage collector."""
        self.ended()
        self._scope.pop(_KEY, None)

    def began(self, status: int) -> None:
        self.status = status
        self._first = time.perf_counter()

    def ended(self) -> None:
        """The response has ended or the client has left. Only the first call counts and logs the request."""
        if self._over:
            return
        self._over = True
        if self.on_end is not None:
            self.on_end()
        scope = self._scope
        route = route_of(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = self.status or 499  # a client that left before the status line, as nginx has it
        metrics.http_requests.labels(route=route, method=method, status=str(status)).inc()
        if self._first:
            metrics.http_first_byte.labels(route=route).observe(self._first - self._begin)
        fields: dict[str, Any] = {
            name: value for name in ("principal", "session", "turn", "code") if (value := getattr(self, name))
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
                "url.path": scope["path"],
                "url.scheme": scope["scheme"],
                **_server(scope),
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


def _server(scope: Scope) -> dict[str, str | int]:
    """The name and port of the Host header, as attributes of a span."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    found = _PORT.fullmatch(host)
    name = found[1] if found else host
    if not name:
        return {}
    return {"server.address": name.strip("[]"), **({"server.port": int(found[2])} if found else {})}


def request_state(request: Mapping[str, Any]) -> RequestState:
    """Of a request, or of its scope."""
    state: RequestState = request[_KEY]
    return state


def route_of(scope: Scope) -> str:
    """The route's pattern, not the path, which holds ids."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return path if isinstance(path, str) else "unmatched"
