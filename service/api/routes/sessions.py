"""The native API: sessions, messages, turns and their events."""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from service import ids
from service.api import bodies
from service.api.answers import Json, paged
from service.api.auth.authenticator import Principal
from service.api.edge import admitted, edge_of, principal_of
from service.api.prefixes import prefix_of
from service.api.responses import TurnResponse
from service.api.sending import Sending, turn_headers, turn_path
from service.dialects import native
from service.dialects.base import validate
from service.engine.beginning import session_not_found, turn_not_found
from service.engine.engine import Engine
from service.errors import ServiceError
from service.store.messages import Message, Session
from service.store.turn_records import Turn, TurnRef
from service.telemetry import metrics

router = APIRouter(prefix="/v1/sessions")

# Items per page: unless asked, and at most.
_PAGE: Final = 50
_TOP: Final = 200
_TOP_MESSAGES: Final = 1000
_EXPORT_PAGE: Final = 500


def session_resource(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "title": session.title,
        "model": session.model,
        "system_prompt": session.system_prompt,
        "created": session.created,
        "updated": session.updated,
        "turns": session.turns,
        "active_turn": session.active_turn,
    }


def message_resource(message: Message) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "id": message.id,
        "role": message.role,
        "content": message.content,
        "turn_id": message.turn_id or None,
        "state": message.state,
        "created": message.created,
    }
    if message.reasoning:
        resource["reasoning"] = message.reasoning
    if message.model:  # an answer's; those of versions before this one have none
        resource["finish_reason"] = message.finish_reason or None
        resource["model"] = message.model
        resource["usage"] = message.usage
    return resource


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
    if turn.error is not None:
        resource["error"] = turn.error
    return resource


async def session_if_any(engine: Engine, principal: str, session_id: str) -> Session | None:
    """The session, if it is there. From now on it has been named: its answers run on without readers."""
    session = await engine.store.sessions.get(principal, session_id)
    if session is not None and not session.named:
        await engine.store.sessions.update(principal, session_id, {})
    return session


async def existing(engine: Engine, principal: str, session_id: str) -> Session:
    """The same session. Raises session_not_found."""
    ids.check_session_id(session_id)
    session = await session_if_any(engine, principal, session_id)
    if session is None:
        raise session_not_found()
    return session


async def charge_stop(
    request: Request, principal: Principal, session_id: str, turn_id: str | None = None
) -> None:
    """A stop costs a read; who is over that limit may still end what runs, which is paid for.

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
    """A turn, whose session has been named from now on. Raises turn_not_found."""
    ids.check_session_id(session_id)
    if not ids.is_session_id(turn_id):
        raise turn_not_found()  # turn ids are ours, so any other is one that does not exist
    ref = TurnRef(principal.id, session_id, turn_id)
    await engine.named(ref)
    return ref


@router.get("", summary="The caller's sessions, newest first")
async def list_sessions(request: Request) -> Response:
    edge, principal = await admitted(request)
    limit = bodies.limit(request, _PAGE, _TOP)
    found, following = await edge.engine.store.sessions.page(
        principal.id, limit, request.query_params.get("cursor") or None
    )
    return Json({"data": [session_resource(session) for session in found], "next": following})


@router.post("", summary="Make a session, or name one that exists", status_code=201)
async def create_session(request: Request) -> Response:
    edge, principal = await admitted(request, "sends")  # it fills the store as a send does
    document = await bodies.read_json(request)
    body = validate(native.SessionBody, {} if document is None else document)
    session_id = body.id or ids.new_session_id()
    fields = {
        "title": body.title,
        "model": edge.engine.catalogue.resolve(body.model).id if body.model else None,
        "system_prompt": body.system_prompt,
    }
    created = await edge.engine.storage.create(
        principal.id, session_id, {name: value for name, value in fields.items() if value}
    )
    session = await existing(edge.engine, principal.id, session_id)
    return Json(
        session_resource(session),
        status_code=201 if created else 200,
        headers={"Location": f"/v1/sessions/{session_id}"},
    )


@router.get("/{session_id}", summary="One session")
async def get_session(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    return Json(session_resource(await existing(edge.engine, principal.id, session_id)))


@router.patch("/{session_id}", summary="Change title, model or system prompt")
async def patch_session(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    body = validate(native.SessionPatch, await bodies.read_json(request))
    session = await existing(edge.engine, principal.id, session_id)
    if body.model:
        body.model = edge.engine.catalogue.resolve(body.model).id
    fields = {name: getattr(body, name) or "" for name in body.model_fields_set}
    if not await edge.engine.storage.update(principal.id, session, fields):
        raise session_not_found()
    return Json(session_resource(await existing(edge.engine, principal.id, session_id)))


@router.delete("/{session_id}", summary="Delete a session; a running turn is stopped", status_code=204)
async def delete_session(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    ids.check_session_id(session_id)
    await edge.engine.delete(principal.id, session_id)
    return Response(status_code=204)


@router.get("/{session_id}/messages", summary="The messages, oldest first (`order=desc`: newest first)")
async def list_messages(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    limit = bodies.limit(request, _PAGE, _TOP_MESSAGES)
    after = bodies.place(request.query_params.get("cursor"))
    order = request.query_params.get("order") or "asc"
    if order not in ("asc", "desc"):
        raise ServiceError("invalid_request", "order is asc or desc.")
    await existing(edge.engine, principal.id, session_id)
    page, following = await edge.engine.store.sessions.messages(
        principal.id, session_id, limit, after, newest_first=order == "desc"
    )
    return Json(
        {
            "data": [message_resource(message) for message in page],
            "next": None if following is None else str(following),
        }
    )


@router.get("/{session_id}/export", summary="The whole session as JSON")
async def export_session(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    session = await existing(edge.engine, principal.id, session_id)
    before = b'{"session":' + orjson.dumps(session_resource(session)) + b',"messages":['
    return await paged(
        lambda after: edge.engine.store.sessions.messages(principal.id, session_id, _EXPORT_PAGE, after),
        message_resource,
        before,
        b"]}",
        headers={"Content-Disposition": f'attachment; filename="{session_id}.json"'},
    )


@router.post("/{session_id}/turns", summary="Send a message, regenerate or edit; the answer as SSE")
async def create_turn(request: Request, session_id: str) -> Response:
    edge = edge_of(request)
    async with Sending(request, session_id) as sending:
        ids.check_session_id(session_id)
        send = native.parse(await bodies.read_json(request), sending.principal.id, session_id)
        after = bodies.cursor(request)
        attached = await sending.start(send, reads=not _wants_resource(request))
    path = turn_path(attached)
    headers = {**turn_headers(attached), "Location": f"{path}/events"}
    if _wants_resource(request):
        turn = await edge.engine.turn(attached.ref)
        headers["Location"] = path
        return Json(await turn_resource(edge.engine, turn), status_code=202, headers=headers)
    if attached.fresh:
        return TurnResponse(edge.engine, attached.ref, native.NativeEncoder(), headers=headers)
    return await _events(request, attached.ref, after, headers)


def _wants_resource(request: Request) -> bool:
    prefer = request.headers.get("prefer", "").lower()
    accept = request.headers.get("accept", "").lower()
    first = accept.split(",")[0].split(";")[0].strip()
    return "respond-async" in prefer or first == "application/json"


async def _events(
    request: Request, ref: TurnRef, after: int | None, headers: dict[str, str] | None = None
) -> Response:
    """From a cursor on: 204 at the terminal event, 409 beyond the last, 410 when no longer kept."""
    engine = edge_of(request).engine
    if not await engine.readers.check(ref, after or 0):
        return Response(status_code=204, headers=headers)
    if after is not None:
        metrics.reader_resumes.inc()
    return TurnResponse(engine, ref, native.NativeEncoder(), after=after or 0, headers=headers)


@router.get("/{session_id}/turns/{turn_id}", summary="One turn")
async def get_turn(request: Request, session_id: str, turn_id: str) -> Response:
    edge, principal = await admitted(request)
    ref = await _named(edge.engine, principal, session_id, turn_id)
    return Json(await turn_resource(edge.engine, await edge.engine.turn(ref)))


@router.get("/{session_id}/turns/{turn_id}/events", summary="The events of a turn, from a cursor on")
async def get_events(request: Request, session_id: str, turn_id: str) -> Response:
    edge, principal = await admitted(request, events_of=(session_id, turn_id))
    after = bodies.cursor(request)
    ref = await _named(edge.engine, principal, session_id, turn_id)
    edge.streams.take(request, principal)
    headers = {
        "X-Session-Id": session_id,
        "X-Turn-Id": turn_id,
        "Location": f"/v1/sessions/{session_id}/turns/{turn_id}/events",
    }
    return await _events(request, ref, after, headers)


@router.post("/{session_id}/turns/{turn_id}/ticket", summary="A URL of the events for EventSource")
async def create_ticket(request: Request, session_id: str, turn_id: str) -> Response:
    edge, principal = await admitted(request)
    ref = await _named(edge.engine, principal, session_id, turn_id)
    await edge.engine.turn(ref)
    ticket, expires = await edge.authenticator.ticket(principal, session_id, turn_id)
    path = f"{prefix_of(request)}/v1/sessions/{session_id}/turns/{turn_id}/events?ticket={ticket}"
    return Json({"url": path, "expires": expires})


@router.post("/{session_id}/turns/{turn_id}/stop", summary="Stop a turn; answers after it is sealed")
async def stop_turn(request: Request, session_id: str, turn_id: str) -> Response:
    principal = await principal_of(request)
    edge = edge_of(request)
    await charge_stop(request, principal, session_id, turn_id)
    ref = await _named(edge.engine, principal, session_id, turn_id)
    turn = await edge.engine.stop(ref)
    return Json(await turn_resource(edge.engine, turn))
