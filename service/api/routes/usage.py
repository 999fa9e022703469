"""GET /v1/usage: what a caller has used, by day and model, and how its budgets stand.

With the scope `admin` also those of others. Limits of the caller are those of the credential that asks;
limits of another principal are the highest that one of its keys has.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from service.api import bodies, examples
from service.api.answers import Json
from service.api.auth.authenticator import forbidden
from service.api.edge import Edge, admitted
from service.api.operation import documented, plain
from service.money import decimal
from service.store.credentials import OwnLimits
from service.store.ledger import MONEY_PERIODS, PERIODS, USAGE_DAYS, Bounds
from service.store.ledger_records import Usage

router = APIRouter(prefix="/v1/usage", tags=["usage"])

_DAYS: Final = 30


def usage_resource(usage: Usage) -> dict[str, Any]:
    cost = {currency: decimal(nanos) for currency, nanos in usage.cost.items()}
    unpriced = usage.turns - usage.priced
    details = {"cached_tokens": usage.cached_tokens, "reasoning_tokens": usage.reasoning_tokens}
    return {
        "date": usage.date,
        "model": usage.model,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        **{name: tokens for name, tokens in details.items() if tokens},
        "turns": usage.turns,
        "cost": cost if cost or not unpriced else None,
        **({"unpriced_turns": unpriced} if unpriced else {}),
    }


_LIMITS: Final = (*PERIODS, *(f"{period}_money" for period in MONEY_PERIODS))


def _limits(bounds: Bounds) -> dict[str, int | None]:
    return {period: getattr(bounds, period) or None for period in _LIMITS}


async def _reach(edge: Edge, who: str) -> dict[str, int | None]:
    """The limits of a principal: the highest of its active keys, a JWT subject's own, or the settings'."""
    now, budgets = time.time(), edge.engine.budgets
    keys = await edge.credentials.all()
    own: list[OwnLimits] = [key for key in keys if key.principal == who and key.state(now) == "active"]
    found = [_limits(budgets.bounds(one)) for one in own or [await edge.principals.get(who) or OwnLimits()]]
    return {period: _highest([limits[period] for limits in found]) for period in _LIMITS}


def _highest(limits: list[int | None]) -> int | None:
    bounded = [limit for limit in limits if limit is not None]
    return max(bounded) if len(bounded) == len(limits) else None


@router.get("", summary="What the caller has used, by day (UTC) and model, and how its budgets stand")
@documented(
    plain("Usage", examples.USAGE, "Days and budgets"), "invalid_request", parameters=("days", "principal")
)
async def get_usage(request: Request) -> Response:
    edge, principal = await admitted(request)
    days = bodies.limit(request, _DAYS, USAGE_DAYS, "days")
    who = request.query_params.get("principal") or principal.id
    if who == principal.id:
        limits = _limits(edge.engine.budgets.bounds(principal))
    elif "admin" in principal.scopes:
        limits = await _reach(edge, who)
    else:
        raise forbidden("admin")
    standing = await edge.engine.budgets.standing(who)
    budgets = {
        period: {
            "limit": limits[period],
            "used": standing.used[period],
            "reserved": standing.reserved,
            "resets_at": standing.resets_at[period],
        }
        for period in reversed(PERIODS)
    }
    money = {
        period: {
            "limit": None if (limit := limits[f"{period}_money"]) is None else decimal(limit),
            "used": decimal(standing.spent[period]),
            "reserved": decimal(standing.money_reserved),
            "resets_at": standing.resets_at[period],
        }
        for period in reversed(MONEY_PERIODS)
    }
    storage = edge.engine.storage
    kept = await storage.kept(who)
    found = await edge.engine.budgets.usage(who, days)
    return Json(
        {
            "object": "list",
            "data": [usage_resource(usage) for usage in found],
            "principal": who,
            "budgets": budgets,
            "money": {"currency": edge.engine.budgets.currency, **money},
            "storage": {
                "sessions": {"limit": storage.most_sessions or None, "used": kept.sessions},
                "bytes": {"limit": storage.most_bytes or None, "used": kept.bytes},
            },
        }
    )


@router.get("/principals", summary="Who has usage (admin)")
@documented(plain("Principals", examples.PRINCIPALS, "All principals"))
async def list_principals(request: Request) -> Response:
    edge, _ = await admitted(request, scope="admin")
    found = await edge.engine.budgets.principals()
    return Json(
        {
            "object": "list",
            "data": [
                {"principal": name, "last_used": datetime.fromtimestamp(seconds, UTC).date().isoformat()}
                for name, seconds in found
            ],
        }
    )
