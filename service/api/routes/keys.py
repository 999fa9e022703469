"""API keys over HTTP, for holders of the scope `admin`; the command line is cli/keys.py.

A key's secret is in the answer that makes it and nowhere else. Every change is an audit line.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field, StrictInt, StrictStr

from service.api import bodies, examples
from service.api.answers import Json
from service.api.auth.authenticator import Principal
from service.api.edge import edge_of, principal_of
from service.api.operation import Answer, documented, plain
from service.config.validators import check_limit
from service.config.webhook import check_receiver, new_secret
from service.dialects.base import Body, Name, invalid
from service.errors import ServiceError
from service.money import decimal, nanos
from service.store.credentials import Credential, OwnLimits, new_key
from service.telemetry.logs import get_logger

router = APIRouter(prefix="/v1/keys", tags=["keys"])

audit = get_logger("service.audit")


Limit = Annotated[StrictStr, Field(max_length=200), AfterValidator(check_limit)]
Bound = Annotated[StrictInt, Field(ge=0)]
# A decimal text, as amounts are told; what is kept are nanos.
Money = Annotated[StrictStr, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]{1,9})?$"), AfterValidator(nanos)]


class LimitsBody(Body):
    """Fields of OwnLimits."""

    limit_sends: Limit | None = None
    limit_reads: Limit | None = None
    budget_tokens_per_minute: Bound | None = None
    budget_tokens_per_day: Bound | None = None
    budget_tokens_per_month: Bound | None = None
    budget_money_per_day: Money | None = None
    budget_money_per_month: Money | None = None
    max_running_turns: Bound | None = None


class KeyBody(LimitsBody):
    """`POST /v1/keys`"""

    name: Name
    owner: Name | None = None
    scopes: Annotated[list[Literal["chat", "admin"]], Field(min_length=1, max_length=2)] | None = None
    expires_seconds: Annotated[StrictInt, Field(ge=1, le=10 * 366 * 86_400)] | None = None


class ChangeBody(LimitsBody):
    """`PATCH /v1/keys/{id}`: null is the setting's limit again, and no webhook."""

    webhook_url: Annotated[StrictStr, Field(min_length=1, max_length=2_000)] | None = None


class RotateBody(Body):
    """`POST /v1/keys/{id}/rotate`; the old secret works on for so long."""

    grace_seconds: Annotated[StrictInt, Field(ge=0, le=30 * 86_400)] = 0


def limits_resource(own: OwnLimits) -> dict[str, Any]:
    """The limits as JSON: null is the setting's, amounts of money are decimals."""
    found = own.limits()
    return {
        name: decimal(value) if "_money_" in name and value is not None else value
        for name, value in found.items()
    }


def key_resource(credential: Credential) -> dict[str, Any]:
    return {
        "id": credential.id,
        "name": credential.name,
        "owner": credential.owner,
        "principal": credential.principal,
        "scopes": list(credential.scopes),
        "state": credential.state(time.time()),
        "created": credential.created,
        "expires": credential.expires,
        "revoked": credential.revoked,
        "rotated": credential.rotated,
        "last_used": credential.last_used,
        "webhook_url": credential.webhook_url,
        **limits_resource(credential),
    }


async def admin(request: Request, mode: str = "keys", what: str = "API keys") -> Principal:
    """The caller, with the scope admin. Raises forbidden without it, and if CHAT_AUTH lacks the mode."""
    principal = await principal_of(request, scope="admin")
    edge = edge_of(request)
    if mode not in edge.settings.auth:
        # With CHAT_AUTH=none anybody could make a key now and use it once keys are switched on.
        raise ServiceError("forbidden", f"{what} are not in use here (CHAT_AUTH).")
    await edge.limits.check(request, principal, "reads")
    return principal


@router.get("", summary="All API keys, without their secrets (admin)")
@documented(plain("Keys", examples.KEYS, "All keys"))
async def list_keys(request: Request) -> Response:
    await admin(request)
    found = await edge_of(request).credentials.all()
    return Json({"data": [key_resource(credential) for credential in found]})


@router.post("", summary="Make an API key; the answer shows it once (admin)", status_code=201)
@documented({201: plain("NewKey", examples.NEW_KEY, "The key")}, body=KeyBody)
async def create_key(request: Request) -> Response:
    principal = await admin(request)
    body = await bodies.read(request, KeyBody)
    fields = {name: value for name, value in body if name != "expires_seconds"}
    expires = int(time.time()) + body.expires_seconds if body.expires_seconds else None
    text, credential = new_key(**fields, expires=expires)
    await edge_of(request).credentials.create(credential)
    audit.info("audit.key_created", **credential.told(), **principal.told())
    return Json({"key": text, **key_resource(credential)}, status_code=201)


@router.patch("/{key_id}", summary="Change limits or the webhook of a key (admin)")
@documented(plain("ChangedKey", examples.CHANGED_KEY, "The key as it is now"), "not_found", body=ChangeBody)
async def change_key(request: Request, key_id: str) -> Response:
    principal = await admin(request)
    body = await bodies.read(request, ChangeBody)
    edge = edge_of(request)
    changes = {name: value for name, value in body if name in body.model_fields_set}
    if "webhook_url" in changes:
        changes["webhook_secret"] = None
    if body.webhook_url:
        try:
            check_receiver(body.webhook_url, private=edge.settings.webhook_allow_private)
        except ValueError as error:
            raise invalid("webhook_url", f"{error}.") from None
        changes["webhook_secret"] = new_secret()
    if not await edge.credentials.change(key_id, changes):
        raise _no_key()
    audit.info("audit.key_changed", key=key_id, changed=sorted(changes), **principal.told())
    credential = await edge.credentials.get(key_id)
    if credential is None:
        raise _no_key()
    return Json({**key_resource(credential), "webhook_secret": changes.get("webhook_secret")})


@router.post("/{key_id}/rotate", summary="Give a key a new secret, shown once (admin)")
@documented(
    plain("RotatedKey", examples.ROTATED_KEY, "The new secret"),
    "not_found",
    body=RotateBody,
    body_required=False,
)
async def rotate_key(request: Request, key_id: str) -> Response:
    principal = await admin(request)
    body = await bodies.read(request, RotateBody, required=False)
    text = await edge_of(request).credentials.rotate(key_id, body.grace_seconds)
    if text is None:
        raise _no_key()
    audit.info("audit.key_rotated", key=key_id, **principal.told())
    return Json({"key": text, "id": key_id})


@router.delete("/{key_id}", summary="Revoke a key, on all replicas within seconds (admin)", status_code=204)
@documented({204: Answer("Revoked")}, "not_found")
async def revoke_key(request: Request, key_id: str) -> Response:
    principal = await admin(request)
    if not await edge_of(request).credentials.revoke(key_id):
        raise _no_key()
    audit.info("audit.key_revoked", key=key_id, **principal.told())
    return Response(status_code=204)


def _no_key() -> ServiceError:
    return ServiceError("not_found", "There is no key of that id that works.")
