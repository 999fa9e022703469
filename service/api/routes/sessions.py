"""The native API: sessions and their messages. Turns are turns.py's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from service import ids
from service.api import bodies, examples
from service.api.answers import Json, listed, streamed
from service.api.auth.authenticator import Principal
from service.api.edge import Edge, admitted
from service.api.operation import OF_SESSION, STREAMS, Answer, documented, plain
from service.dialects import native
from service.engine.engine import Engine
from service.engine.history import session_not_found
from service.engine.session_watch import SessionEvent
from service.store.messages import Message, Session
from service.store.versions import Version

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

# Items per page: unless asked, and at most.
_PAGE: Final = 50
_TOP: Final = 200
_TOP_MESSAGES: Final = 1000
_EXPORT_PAGE: Final = 500

_SESSION: Final = plain("Session", examples.SESSION, "The session")


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
    if message.parts or message.tool_calls:
        resource["parts"] = message.whole
    if message.model:  # answers only; those that version 0.1.0 stored have none
        resource["finish_reason"] = message.finish_reason or None
        resource["model"] = message.model
        resource["usage"] = message.usage
    return resource


def version_resource(version: Version, *, brief: bool = False) -> dict[str, Any]:
    """An earlier version; `brief`: without its messages."""
    first = version.messages[0]
    resource = {"id": version.id, "replaced": version.cut, "role": first.role, "created": first.created}
    if not brief:
        resource["messages"] = [message_resource(message) for message in version.messages]
    return resource


@router.get("", summary="The caller's sessions, newest first")
@documented(plain("Sessions", examples.SESSIONS, "A page"), "invalid_request", parameters=("limit", "cursor"))
async def list_sessions(request: Request) -> Response:
    edge, principal = await admitted(request)
    limit = bodies.limit(request, _PAGE, _TOP)
    found, following = await edge.engine.history.sessions(
        principal.id, limit, request.query_params.get("cursor") or None
    )
    return Json({"data": [session_resource(session) for session in found], "next": following})


@router.post("", summary="Make a session, or name one that exists", status_code=201)
@documented(
    {
        201: plain("Session", examples.SESSION, "The new session", "Location"),
        200: plain("Session", examples.SESSION, "It exists already, unchanged", "Location"),
    },
    "model_not_found",
    "storage_full",
    body=native.SessionBody,
    body_required=False,
)
async def create_session(request: Request) -> Response:
    edge, principal = await admitted(request, "sends")  # it fills the store as a send does
    body = await bodies.read(request, native.SessionBody, required=False)
    session_id = body.id or ids.new_session_id()
    fields = {
        "title": body.title,
        "model": edge.engine.catalogue.resolve(body.model).id if body.model else None,
        "system_prompt": body.system_prompt,
    }
    created = await edge.engine.storage.create(
        principal.id, session_id, {name: value for name, value in fields.items() if value}
    )
    session = await edge.engine.history.existing(principal.id, session_id)
    return Json(
        session_resource(session),
        status_code=201 if created else 200,
        headers={"Location": f"/v1/sessions/{session_id}"},
    )


@router.get("/{session_id}", summary="One session")
@documented(_SESSION, *OF_SESSION)
async def get_session(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    return Json(session_resource(await edge.engine.history.existing(principal.id, session_id)))


@router.patch(
    "/{session_id}",
    summary="Change title, model or system prompt, or put a version back",
    description="null takes a value away. `version` puts back what an edit or a regenerate cut off "
    "(`GET .../messages?versions=1`); what stands there now becomes a version, and has to fit.",
)
@documented(
    _SESSION,
    *OF_SESSION,
    "model_not_found",
    "storage_full",
    "not_found",
    "turn_in_progress",
    body=native.SessionPatch,
)
async def patch_session(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    body = await bodies.read(request, native.SessionPatch)
    session = await edge.engine.history.existing(principal.id, session_id)
    if body.model:
        body.model = edge.engine.catalogue.resolve(body.model).id
    if body.version and await edge.engine.history.choose(principal.id, session_id, body.version):
        await edge.engine.pictures.sweep(principal.id, session_id)
    fields = {name: getattr(body, name) or "" for name in body.model_fields_set - {"version"}}
    if not await edge.engine.storage.update(principal.id, session, fields):
        raise session_not_found()
    return Json(session_resource(await edge.engine.history.existing(principal.id, session_id)))


@router.delete("/{session_id}", summary="Delete a session; a running turn is stopped", status_code=204)
@documented({204: Answer("Deleted, with all its turns")}, *OF_SESSION, "turn_in_progress")
async def delete_session(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    ids.check_session_id(session_id)
    await edge.engine.delete(principal.id, session_id)
    return Response(status_code=204)


@router.get("/{session_id}/messages", summary="The messages, oldest first (`order=desc`: newest first)")
@documented(
    plain("Messages", examples.MESSAGES, "A page"),
    *OF_SESSION,
    parameters=("limit_messages", "cursor", "order", "versions", "brief"),
)
async def list_messages(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    limit = bodies.limit(request, _PAGE, _TOP_MESSAGES)
    after = bodies.place(request.query_params.get("cursor"))
    newest_first = bodies.newest_first(request, "asc")
    with_versions, brief = bodies.flag(request, "versions"), bodies.flag(request, "brief")
    await edge.engine.history.existing(principal.id, session_id)
    page, following = await edge.engine.history.messages(
        principal.id, session_id, limit, after, newest_first=newest_first
    )
    data = [message_resource(message) for message in page]
    if with_versions:
        versions = await edge.engine.history.versions(principal.id, session_id)
        for resource in data:
            own = [version for version in versions if version.holder == resource["id"]]
            resource["versions"] = [version_resource(version, brief=brief) for version in own]
    return Json(
        {
            "data": data,
            "next": None if following is None else str(following),
        }
    )


@router.get("/{session_id}/export", summary="The whole session as JSON")
@documented(plain("Export", examples.EXPORT, "Everything", "Content-Disposition"), *OF_SESSION, *STREAMS)
async def export_session(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    session = await edge.engine.history.existing(principal.id, session_id)
    edge.open_streams.take(request, principal)  # each that is not read holds a page of some MiB
    return await streamed(
        exported(edge.engine, principal.id, session),
        {"Content-Disposition": f'attachment; filename="{session_id}.json"'},
    )


async def exported(engine: Engine, who: str, session: Session) -> AsyncIterator[bytes]:
    """A session with all its messages and earlier versions, as JSON."""
    found = await engine.history.versions(who, session.id, everything=True)
    versions = b',"versions":' + orjson.dumps([version_resource(one) for one in found]) if found else b""
    async for piece in listed(
        lambda after: engine.history.messages(who, session.id, _EXPORT_PAGE, after),
        message_resource,
        b'{"session":' + orjson.dumps(session_resource(session)) + b',"messages":[',
        b"]" + versions + b"}",
    ):
        yield piece


@router.get(
    "/{session_id}/events",
    summary="What happens in a session, for as long as it is open",
    description="Turns that begin and end, changes, the deletion (docs/events.md).",
)
@documented(
    Answer("Until the caller leaves", {"text/event-stream": ("SessionEvent", examples.SESSION_EVENTS)}),
    *OF_SESSION,
    *STREAMS,
    "bad_cursor",
    parameters=("Last-Event-ID", "after"),
)
async def get_session_events(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request)
    known = bodies.cursor(request)
    await edge.engine.history.existing(principal.id, session_id)
    edge.open_streams.take(request, principal)
    found = _while_valid(edge, principal, edge.engine.watches.follow(principal.id, session_id, known))
    encoder = native.NativeEncoder
    headers = {"Cache-Control": "no-cache, no-transform", "X-Session-Id": session_id, **encoder.headers}
    return StreamingResponse(native.session_frames(found), media_type=encoder.media_type, headers=headers)


async def _while_valid(
    edge: Edge, principal: Principal, found: AsyncGenerator[SessionEvent | None]
) -> AsyncIterator[SessionEvent | None]:
    """The events of a watch until its credential is not valid any more; by itself a watch does not end."""
    async with aclosing(found):
        async for event in found:
            if not await edge.authenticator.still_valid(principal):
                return
            yield event
