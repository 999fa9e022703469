"""The only place where exceptions become HTTP responses, as long as no byte of an answer was sent."""

from __future__ import annotations

import re
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from service.api import bodies
from service.api.request_state import request_state
from service.dialects.errors import envelope, error_headers, of_responses
from service.errors import ServiceError

_BY_STATUS: Final = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}

# OpenAI's addresses that we do not have. They look like that of a response, which takes other methods.
_ABSENT: Final = re.compile(r"(/openai)?/v1/responses/(compact|input_tokens)")

# A header of every WebSocket handshake, which no address of ours speaks.
_WEBSOCKET: Final = "sec-websocket-key"

# Seconds. The SDKs of OpenAI and Groq obey a Retry-After of up to 60; above, some repeat at once, one sleeps.
_LONGEST_WAIT: Final = 60


def respond(path: str, error: ServiceError) -> Response:
    body, kind = envelope(path, error)
    response = Response(body, status_code=error.status, headers=error_headers(error))
    response.headers["content-type"] = kind
    if error.retry_after is not None and error.retry_after > _LONGEST_WAIT:
        response.headers["x-should-retry"] = "false"
    return response


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    if request.url.path.endswith("/v1/responses"):
        error = of_responses(error)
    state = request_state(request)
    state.code = error.code
    if error.status < 500:
        bodies.note_refusal(request)
    response = respond(request.url.path, error)
    if state.turn:  # the turn had begun before the refusal, and its message stays in the session
        response.headers.setdefault("X-Session-Id", state.session)
        response.headers.setdefault("X-Turn-Id", state.turn)
    return response


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    if status == 405 and (_ABSENT.fullmatch(request.url.path) or _WEBSOCKET in request.headers):
        status = 404
    code = _BY_STATUS.get(status, "invalid_request" if status < 500 else "internal")
    headers = dict(error.headers or {})
    headers.pop("Allow", None)
    if status == 405:
        headers["Allow"] = ", ".join(_allowed(request.scope))
    sentence = {404: "There is nothing at this address.", 405: "This address does not take this method."}
    known = ServiceError(
        code,
        sentence.get(status, str(error.detail)),
        status=status,
        headers=headers,
    )
    request_state(request).code = known.code
    return refuse(request.scope, known)


def refuse(scope: Scope, error: ServiceError) -> Response:
    """The response to a request that no route has answered. Below /v1, unknown addresses are guesses of
    OpenAI's clients, which read OpenAI's envelope only."""
    guessed = f"{scope['path']}/".startswith("/v1/") and not _there(scope, scope["method"])
    return respond("/openai" if guessed else scope["path"], error)


def _allowed(scope: Scope) -> list[str]:
    """Every method of the address. Each has a route of its own, and Starlette knows the first one's only."""
    return [method for method in ("GET", "HEAD", "POST", "PATCH", "DELETE") if _there(scope, method)]


def _there(scope: Scope, method: str) -> bool:
    """Is there a route of the address for this method?"""
    asked = {**scope, "method": method}
    return any(route.matches(asked)[0] is Match.FULL for route in scope["app"].routes)


def install(app: FastAPI) -> None:
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(HTTPException, _http_error)
