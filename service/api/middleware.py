"""Around every request: its id, trace, log line, metrics, security headers, and what catches every exception.

Pure ASGI (BaseHTTPMiddleware costs more than the stream it wraps). One of the three places that
may catch everything: an unexpected error before the first byte is a 500 in the path's envelope,
after it a broken connection; both are logged with their traceback and counted.
"""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.handlers import refuse, respond
from service.api.hardening import Hardening
from service.api.hosts import Hosts
from service.api.origins import Origins
from service.api.prefixes import Prefixes, below
from service.api.request_state import RequestState, route_of
from service.config.settings import Settings
from service.errors import BrokenAnswer, Draining, ServiceError
from service.telemetry import metrics
from service.telemetry.logs import get_logger

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
            # An event of the server: it is set when the process is told to leave.
            scope["app"].state.leaving = scope.get("state", {}).get("leaving")
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _without_stream(scope, send)
        prefix = self._prefixes.take_off(scope)
        state = RequestState(scope, prefix, send)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                state.began(message["status"])
                given = below(prefix, message["headers"])
                private = state.principal != ""
                added = self._hardening.headers(scope, given, state.limit_headers, private=private)
                message = {
                    **message,
                    "headers": [
                        *given,
                        (b"x-request-id", state.request_id.encode()),
                        *added,
                    ],
                }
            elif not message.get("more_body", False):
                state.ended()  # counted before the client can see the end
            await send(message)

        try:
            error = self._refusal(scope)
            if error is not None:
                state.code = error.code
                await refuse(scope, error)(scope, receive, noting)
            else:
                await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            state.outcome = "cut"
            await _refuse_cut(scope, receive, noting, state)
            raise
        except ClientDisconnect:
            # The client hung up in the middle of its body: nobody is there to be answered.
            state.outcome = "cut"
        except BrokenAnswer:
            state.outcome = "broken"
            raise
        except Exception:
            # One of the three places that catch everything: the error is answered, logged and counted.
            state.outcome = "error"
            metrics.internal_errors.labels(where="request").inc()
            log.exception("request.broke", path=route_of(scope))
            if state.status:
                raise BrokenAnswer("internal") from None
            error = ServiceError("internal", "Something went wrong on our side.")
            await respond(scope["path"], error)(scope, receive, noting)
        finally:
            state.close()

    def _refusal(self, scope: Scope) -> ServiceError | None:
        """The error of a request that is refused by its head, whatever its route; None where it is not."""
        return self._hardening.refusal(scope) or self._hosts.refusal(scope) or self._origins.refusal(scope)


def _without_stream(scope: Scope, send: Send) -> Send:
    """For HEAD a stream, which has no length, ends with its head: the server tells the route that the
    client has left. A body of a known length is dropped by the server."""
    if scope["method"] != "HEAD":
        return send
    ended = False

    async def send_head(message: Message) -> None:
        nonlocal ended
        if ended:
            return
        await send(message)
        if message["type"] == "http.response.start":
            ended = all(name.lower() != b"content-length" for name, _ in message["headers"])
            if ended:
                await send({"type": "http.response.body", "body": b""})

    return send_head


async def _refuse_cut(scope: Scope, receive: Receive, send: Send, state: RequestState) -> None:
    """Answer a request that an ending worker has cancelled, if its answer had no head yet."""
    if not state.status:
        error = Draining()
        state.code = error.code
        await respond(scope["path"], error)(scope, receive, send)
