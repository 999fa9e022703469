"""All of one principal at once: its sessions as one document, and their erasure with a receipt.

The caller's own or, with the scope `admin`, those of the principal that the query names. Others' cannot be
touched: the principal is part of each key. Invariant: a worker holds one page of messages of one session.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

import orjson
from fastapi import APIRouter, Request, Response

from service import ids
from service.api import examples
from service.api.answers import Json, streamed
from service.api.auth.authenticator import Principal
from service.api.edge import admitted, edge_of
from service.api.operation import STREAMS, documented, plain
from service.api.routes.sessions import exported
from service.api.routes.usage import usage_resource
from service.engine.engine import Engine
from service.engine.erasing import erase, receipt
from service.store.ledger import USAGE_DAYS
from service.telemetry.logs import get_logger

router = APIRouter(tags=["sessions"])

audit = get_logger("service.audit")


async def _whose(request: Request) -> tuple[Principal, str]:
    """The caller, and the principal that is meant. Raises forbidden, invalid_request, rate_limited."""
    named = request.query_params.get("principal")
    edge, principal = await admitted(request, scope="chat" if named is None else "admin")
    whose = principal.id if named is None else ids.check_principal_id(named)
    edge.open_streams.take(request, principal)
    return principal, whose


@router.get(
    "/v1/export",
    summary="All sessions with their messages, and what was used, as JSON",
    description="Sessions without a name too. What begins meanwhile may be left out. Where the store fails "
    "in the middle the connection breaks.",
)
@documented(
    plain("WholeExport", examples.WHOLE, "Everything, streamed", "Content-Disposition"),
    *STREAMS,
    "invalid_request",
    parameters=("subject",),
)
async def export_everything(request: Request) -> Response:
    principal, who = await _whose(request)
    answer = await streamed(
        _export(edge_of(request).engine, who, everywhere=who != principal.id),
        {"Content-Disposition": 'attachment; filename="export.json"'},
    )
    audit.info("audit.person_exported", subject=who, **principal.told())
    return answer


@router.delete(
    "/v1/sessions",
    summary="Erase all sessions; what runs is stopped",
    description="All sessions, also those without a name, and what they have left behind. What begins "
    "meanwhile may stay. A call takes 30 s at most. One that was cut short is repeated, and goes on with "
    "what is left.",
)
@documented(
    {
        200: plain("Erasure", examples.RECEIPT, "Everything is gone; what is kept, and for how long"),
        202: plain("Erasure", {**examples.RECEIPT, "complete": False}, "Something is left: call again"),
    },
    *STREAMS,
    "invalid_request",
    parameters=("subject",),
)
async def erase_everything(request: Request) -> Response:
    principal, who = await _whose(request)
    erased = await erase(edge_of(request).engine, who)
    audit.info(
        "audit.person_erased",
        subject=who,
        sessions=erased.sessions,
        turns=erased.turns,
        complete=erased.complete,
        **principal.told(),
    )
    return Json(receipt(who, erased), status_code=200 if erased.complete else 202)


async def _export(engine: Engine, who: str, *, everywhere: bool) -> AsyncIterator[bytes]:
    usage = await engine.history.usage(who, USAGE_DAYS)
    head = {
        "object": "export",
        "principal": who,
        "created": int(time.time() * 1000),
        "usage": [usage_resource(one) for one in usage],
    }
    yield orjson.dumps(head)[:-1] + b',"sessions":['
    comma = b""
    async with contextlib.aclosing(engine.history.all_of(who, everywhere=everywhere)) as found:
        async for ids in found:
            for session_id in ids:
                session = await engine.history.read_session(who, session_id)
                if session is not None:
                    if comma:
                        yield comma
                    async for piece in exported(engine, who, session):
                        yield piece
                    comma = b","
    yield b"]}"
