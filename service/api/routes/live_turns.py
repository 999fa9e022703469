"""Turns that run, of everybody: holders of the scope `admin` list and stop them. A stop is an audit line."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field, StrictStr

from service import ids
from service.api import bodies, examples
from service.api.answers import Json
from service.api.edge import admitted
from service.api.operation import documented, plain
from service.dialects.base import Body
from service.engine import billing
from service.errors import ServiceError
from service.store.turn_records import Turn
from service.telemetry.logs import get_logger

router = APIRouter(prefix="/v1/turns", tags=["usage"])

_SHOWN: Final = 100
_MOST_SHOWN: Final = 1_000

audit = get_logger("service.audit")


class StopBody(Body):
    """`POST /v1/turns/stop`: all turns of a principal, or one of them."""

    principal: Annotated[StrictStr, Field(min_length=1, max_length=400)]
    turn_id: Annotated[StrictStr, Field(min_length=1, max_length=128)] | None = None


def _resource(turn: Turn, now: float) -> dict[str, Any]:
    used = billing.usage(turn, turn.tokens)
    return {
        "id": turn.ref.turn_id,
        "session_id": turn.ref.session_id,
        "principal": turn.ref.principal,
        "state": turn.state,
        "model": turn.answered_by or turn.model,
        "attempt": turn.attempt,
        "age_seconds": round(max(0.0, now - turn.created / 1000), 1),
        "tokens": used["completion_tokens"],
        "worker": turn.owner or None,
    }


@router.get("", summary="Turns that run or wait, the oldest first (admin)")
@documented(
    plain("LiveTurns", examples.LIVE_TURNS, "Of everybody, or of one principal"),
    "invalid_request",
    parameters=("subject", "limit_messages"),
)
async def list_turns(request: Request) -> Response:
    edge, _ = await admitted(request, scope="admin")
    limit = bodies.limit(request, _SHOWN, _MOST_SHOWN)
    whose = request.query_params.get("principal")
    found = await edge.engine.live_turns.find(ids.check_principal_id(whose) if whose else "")
    now = time.time()
    return Json(
        {
            "object": "list",
            "data": [_resource(turn, now) for turn in found[:limit]],
            "total": len(found),
        }
    )


@router.post("/stop", summary="Stop a turn of anybody, or all of a principal (admin)")
@documented(
    plain("StoppedTurns", examples.STOPPED_TURNS, "Those that are sealed now"),
    "turn_not_found",
    body=StopBody,
)
async def stop_turns(request: Request) -> Response:
    edge, principal = await admitted(request, scope="admin")
    body = await bodies.read(request, StopBody)
    whose = ids.check_principal_id(body.principal)
    found = await edge.engine.live_turns.find(whose, body.turn_id or "")
    if body.turn_id and not found:
        raise ServiceError("turn_not_found", "No such turn of this principal runs or waits.")
    stopped = await edge.engine.live_turns.stop(found)
    audit.info(
        "audit.turns_stopped",
        subject=whose,
        turns=stopped[:_SHOWN],
        count=len(stopped),
        **principal.told(),
    )
    return Json({"object": "list", "stopped": stopped})
