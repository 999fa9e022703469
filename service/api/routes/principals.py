"""Limits of single persons and groups over HTTP, for holders of the scope `admin`; the command line is
cli/principals.py. Every change is an audit line.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from service.api import bodies, examples
from service.api.answers import Json
from service.api.auth.authenticator import Principal
from service.api.edge import edge_of
from service.api.operation import Answer, documented, plain
from service.api.routes.keys import LimitsBody, admin, limits_resource
from service.dialects.base import Name
from service.errors import ServiceError
from service.store.credentials import LIMITS
from service.store.principals import MOST, Entry, named
from service.telemetry.logs import get_logger

router = APIRouter(prefix="/v1/principals", tags=["keys"])

audit = get_logger("service.audit")


class PrincipalBody(LimitsBody):
    """`POST /v1/principals`: a subject or a group, and limits to change; null is the setting's again."""

    subject: Name | None = None
    group: Name | None = None
    issuer: Name | None = None


def _resource(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "name": entry.name,
        "issuer": entry.issuer or None,
        **limits_resource(entry),
    }


async def _admin(request: Request) -> Principal:
    return await admin(request, "jwt", "JWTs")


@router.get("", summary="All persons and groups with limits of their own (admin)")
@documented(plain("OwnLimitsList", examples.OWN_LIMITS_LIST, "All of them"))
async def list_own_limits(request: Request) -> Response:
    await _admin(request)
    found = await edge_of(request).principals.all()
    return Json({"object": "list", "data": [_resource(entry) for entry in found]})


@router.post("", summary="Change limits of a person or a group, known or not yet (admin)")
@documented(
    plain("OwnLimits", examples.OWN_LIMITS, "What it has now"),
    body=PrincipalBody,
)
async def set_own_limits(request: Request) -> Response:
    principal = await _admin(request)
    edge = edge_of(request)
    body = await bodies.read(request, PrincipalBody)
    try:
        entry = named(body.subject, body.group, body.issuer, edge.settings.jwt_issuer)
    except ValueError as error:
        raise ServiceError("invalid_request", str(error)) from None
    given = {name: value for name, value in body if name in body.model_fields_set & set(LIMITS)}
    limits = {name: value for name, value in given.items() if value is not None}
    removed = [name for name in given if name not in limits]
    if not await edge.principals.set(replace(entry, **limits), removed):
        raise ServiceError("invalid_request", f"{MOST} have limits of their own, which is the most.")
    audit.info(
        "audit.own_limits_set",
        subject=entry.id,
        limits=limits,
        removed=removed,
        **principal.told(),
    )
    return Json(_resource(await edge.principals.get(entry.id) or entry))


@router.delete("/{principal_id}", summary="The settings' limits hold again for it (admin)", status_code=204)
@documented({204: Answer("They do")}, "not_found")
async def unset_own_limits(request: Request, principal_id: str) -> Response:
    principal = await _admin(request)
    if not await edge_of(request).principals.unset(principal_id):
        raise ServiceError("not_found", "There are no limits under that id.")
    audit.info("audit.own_limits_unset", subject=principal_id, **principal.told())
    return Response(status_code=204)
