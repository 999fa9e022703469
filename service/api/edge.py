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

# A body has to arrive within this time. One of 1 MiB needs 8 s at 1 Mbit/s.
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
    """The caller, who has to have the scope. `events_of` (session, turn) admits a ticket for these events.

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
    """The caller, charged with a request of this kind. Every route that starts no turn begins with this.

    Raises unauthenticated, forbidden, rate_limited, store_unavailable.
    """
    principal = await principal_of(request, scope=scope, events_of=events_of)
    edge = edge_of(request)
    await edge.limits.check(request, principal, kind)
    return edge, principal
