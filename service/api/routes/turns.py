"""The native API: turns, and their events, from any cursor on."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from service import ids
from service.api import bodies, examples, uploads
from service.api.accept import json_before_events, responds_async
from service.api.answers import Json
from service.api.auth.authenticator import Principal
from service.api.edge import admitted, edge_of, principal_of
from service.api.operation import (
    OF_TURN,
    RESUMES,
    SEND_HEADERS,
    SENDING,
    SENDS,
    STREAMS,
    Answer,
    documented,
    plain,
)
from service.api.request_state import request_state
from service.api.sending import Sending, turn_headers, turn_path
from service.api.turn_response import TurnResponse
from service.dialects import native
from service.engine.engine import Engine
from service.engine.history import turn_not_found
from service.errors import ServiceError
from service.store.turn_records import Turn, TurnRef
from service.telemetry import metrics

router = APIRouter(prefix="/v1/sessions/{session_id}/turns", tags=["sessions"])

_TURN: Final = plain("Turn", examples.TURN, "The turn")
_EVENTS: Final = Answer(
    "Server-Sent Events from the cursor on (docs/events.md)",
    {"text/event-stream": ("TurnEvent", examples.EVENTS)},
    (*SEND_HEADERS, "Location"),
)


async def turn_resource(engine: Engine, turn: Turn) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "id": turn.ref.turn_id,
        "session_id": turn.ref.session_id,
        "state": turn.state,
        "attempt": turn.attempt,
        "text": await engine.text(turn),
        "model": turn.model,
        "usage": turn.usage or {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "finish_reason": turn.finish_reason,
    }
    if turn.sealed:
        resource["cost"] = turn.cost.told() if turn.cost is not None else None
    if turn.error is not None:
        resource["error"] = turn.error
    return resource


async def charge_stop(
    request: Request, principal: Principal, session_id: str, turn_id: str | None = None
) -> None:
    """Charge a stop as a read. A caller over that limit may still stop a turn that runs.

    Raises rate_limited, store_unavailable.
    """
    edge = edge_of(request)
    try:
        await edge.limits.check(request, principal, "reads")
    except ServiceError:
        ours = ids.is_session_id(session_id) and (turn_id is None or ids.is_session_id(turn_id))
        if not ours or not await edge.engine.runs(principal.id, session_id, turn_id):
            raise


async def _named(engine: Engine, principal: Principal, session_id: str, turn_id: str) -> TurnRef:
    """A turn's reference. Its session is kept from now on. Raises turn_not_found."""
    ids.check_session_id(session_id)
    if not ids.is_session_id(turn_id):
        raise turn_not_found()  # all turn ids are made by us, so this one does not exist
    ref = TurnRef(principal.id, session_id, turn_id)
    await engine.history.named(ref)
    return ref


@router.post(
    "",
    summary="Send a message, regenerate or edit; the answer as SSE",
    description="One of `content`, `regenerate`, `edit`, `tool_results` (for all calls of the newest answer, "
    "which goes on) and `continue` (the rest of it, where it was cut). The stream begins at once and tells "
    "failures by `turn.failed`. Also with `Accept: application/json` the answer is 202 and the turn.",
)
@documented(
    {
        200: _EVENTS,
        202: plain("Turn", examples.TURN, "With `Prefer: respond-async`", *SEND_HEADERS, "Location"),
        204: Answer("A repeat whose `Last-Event-ID` was the last event", {}, SEND_HEADERS),
    },
    *SENDS,
    *RESUMES,
    "session_not_found",
    "message_not_found",
    parameters=(*SENDING, "If-Match", "Last-Event-ID", "after", "Prefer"),
    body=native.TurnBody,
)
async def create_turn(request: Request, session_id: str) -> Response:
    edge = edge_of(request)
    async with Sending(request, session_id) as sending:
        ids.check_session_id(session_id)
        document, images = await uploads.read(request)
        send = native.parse(document, sending.principal.id, session_id)
        send.images = images
        # A client that has the session open wants no new one in its place when it was deleted or expired.
        send.must_exist = send.must_exist or request.headers.get("if-match", "").strip() == "*"
        after = bodies.cursor(request)
        attached = await sending.start(send, reads=not _wants_resource(request))
    path = turn_path(attached.ref)
    headers = {**turn_headers(attached.ref), "Location": f"{path}/events"}
    if _wants_resource(request):
        turn = await edge.engine.turn(attached.ref)
        headers["Location"] = path
        return Json(await turn_resource(edge.engine, turn), status_code=202, headers=headers)
    if attached.fresh:
        return TurnResponse(edge.engine, attached.ref, native.NativeEncoder(), headers=headers)
    return await _events(request, attached.ref, after, headers)


def _wants_resource(request: Request) -> bool:
    prefer, accept = (", ".join(request.headers.getlist(name)) for name in ("prefer", "accept"))
    return responds_async(prefer) or json_before_events(accept)


async def _events(
    request: Request, ref: TurnRef, after: int | None, headers: dict[str, str] | None = None
) -> Response:
    """The events from a cursor on: 204 at the terminal event, 409 beyond it, 410 if the log has expired."""
    engine = edge_of(request).engine
    if not await engine.readers.check(ref, after or 0):
        return Response(status_code=204, headers=headers)
    if after is not None:
        metrics.reader_resumes.inc()
    return TurnResponse(engine, ref, native.NativeEncoder(), after=after or 0, headers=headers)


@router.get("/{turn_id}", summary="One turn")
@documented(_TURN, *OF_TURN)
async def get_turn(request: Request, session_id: str, turn_id: str) -> Response:
    edge, principal = await admitted(request)
    ref = await _named(edge.engine, principal, session_id, turn_id)
    return Json(await turn_resource(edge.engine, await edge.engine.turn(ref)))


@router.get("/{turn_id}/events", summary="The events of a turn, from a cursor on")
@documented(
    {200: _EVENTS, 204: Answer("The cursor was the last event: there is nothing more")},
    *OF_TURN,
    *STREAMS,
    *RESUMES,
    parameters=("Last-Event-ID", "after"),
    ticket=True,
)
async def get_events(request: Request, session_id: str, turn_id: str) -> Response:
    edge, principal = await admitted(request, events_of=(session_id, turn_id))
    after = bodies.cursor(request)
    ref = await _named(edge.engine, principal, session_id, turn_id)
    edge.open_streams.take(request, principal)
    headers = {**turn_headers(ref), "Location": f"{turn_path(ref)}/events"}
    return await _events(request, ref, after, headers)


@router.post(
    "/{turn_id}/ticket",
    summary="A URL of the events for EventSource",
    description="EventSource cannot send credentials; this URL carries its own.",
)
@documented(plain("Ticket", examples.TICKET, "The URL"), *OF_TURN)
async def create_ticket(request: Request, session_id: str, turn_id: str) -> Response:
    edge, principal = await admitted(request)
    ref = await _named(edge.engine, principal, session_id, turn_id)
    await edge.engine.turn(ref)
    ticket, expires = await edge.authenticator.ticket(principal, session_id, turn_id)
    url = f"{request_state(request).prefix}{turn_path(ref)}/events?ticket={ticket}"
    return Json({"url": url, "expires": expires})


@router.post(
    "/{turn_id}/stop",
    summary="Stop a turn; answers after it is sealed",
    description="What was said so far is kept. A turn that has ended stays as it is.",
)
@documented(_TURN, *OF_TURN)
async def stop_turn(request: Request, session_id: str, turn_id: str) -> Response:
    principal = await principal_of(request)
    edge = edge_of(request)
    await charge_stop(request, principal, session_id, turn_id)
    ref = await _named(edge.engine, principal, session_id, turn_id)
    turn = await edge.engine.stop(ref)
    return Json(await turn_resource(edge.engine, turn))
