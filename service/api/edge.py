"""What the HTTP edge shares: the settings, the engine and the gates, held by `app.state.edge`.

Made once per worker when the lifespan starts. No chat rules here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import Request

from service.api.auth.authenticator import Authenticator, Principal, forbidden
from service.api.body_bounds import BodyBounds, RefusedBodies
from service.api.limits import Kind, Limits
from service.api.open_streams import OpenStreams
from service.api.request_state import request_state
from service.config.settings import Settings
from service.engine.engine import Engine
from service.store.credentials import Credentials
from service.store.principals import Principals

# Reads that stall are bounded by this; a body of 1 MiB needs 0.1 s on a slow phone line.
BODY_SECONDS: Final = 30.0


@dataclass(slots=True)
class Edge:
    settings: Settings
    engine: Engine
    authenticator: Authenticator
    credentials: Credentials
    principals: Principals
    limits: Limits
    open_streams: OpenStreams
    body_bounds: BodyBounds
    refused_bodies: RefusedBodies


def edge_of(request: Request) -> Edge:
    edge: Edge = request.app.state.edge
    return edge


async def principal_of(
    request: Request, *, scope: str = "chat", events_of: tuple[str, str] | None = None
) -> Principal:
    """Who is calling, with the right to. `events_of` (session, turn) admits a ticket for these events.

    Raises unauthenticated, forbidden, store_unavailable.
    """
    principal = await edge_of(request).authenticator.identify(request, events_of=events_of)
    request_state(request).principal = principal.id
    if scope not in principal.scopes:
        raise forbidden(scope)
    return principal


async def admitted(
    request: Request,
    kind: Kind = "reads",
    *,
    scope: str = "chat",
    events_of: tuple[str, str] | None = None,
) -> tuple[Edge, Principal]:
    """Who is calling, charged with a call of this kind. The way in of every route that starts no turn.

    Raises unauthenticated, forbidden, rate_limited, store_unavailable.
    """
    principal = await principal_of(request, scope=scope, events_of=events_of)
    edge = edge_of(request)
    await edge.limits.check(request, principal, kind)
    return edge, principal
