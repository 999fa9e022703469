"""Forks: a copy of a session that goes its own way. Earlier versions are put back by PATCH (sessions.py)."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.api import bodies, examples
from service.api.answers import Json
from service.api.edge import admitted
from service.api.operation import OF_SESSION, documented, plain
from service.api.routes.sessions import session_resource
from service.dialects.base import Body, MessageId
from service.engine import amending
from service.engine.forking import fork
from service.engine.sends import fingerprint_of

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])


class ForkBody(Body):
    """`POST /v1/sessions/{s}/fork`; `through` is the last message that the copy has."""

    through: MessageId


@router.post(
    "/{session_id}/fork",
    summary="A new session with a copy up to a message",
    status_code=201,
    description="The copy has the messages up to `through` with their ids, the title, the model and the "
    "system prompt; no turns and no earlier versions. Charged as a send, and against the storage.",
)
@documented(
    {
        201: plain("Session", examples.COPY, "The copy", "Location"),
        200: plain("Session", examples.COPY, "A repeat with the same `Idempotency-Key`", "Location"),
    },
    *OF_SESSION,
    "message_not_found",
    "idempotency_mismatch",
    "turn_in_progress",
    "storage_full",
    parameters=("Repeat-Key",),
    body=ForkBody,
)
async def fork_session(request: Request, session_id: str) -> Response:
    edge, principal = await admitted(request, "sends")  # it fills the store as a send does
    key = bodies.idempotency_key(request)
    body = await bodies.read(request, ForkBody)
    source = await edge.engine.history.existing(principal.id, session_id)
    asked = fingerprint_of(["fork", body.through])
    async with amending.once(edge.engine, principal.id, session_id, key, asked):
        made, fresh = await fork(edge.engine, principal.id, source, body.through, key)
    return Json(
        session_resource(await edge.engine.history.existing(principal.id, made)),
        status_code=201 if fresh else 200,
        headers={"Location": f"/v1/sessions/{made}"},
    )
