"""`/metrics` on the service's own port, unless CHAT_METRICS_PORT gives the metrics one of theirs.

Made in a thread and at most once a second, so that no scrape stalls the event loop.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from service.api.edge import edge_of
from service.errors import ServiceError
from service.exporter import allows
from service.tally import CONTENT_TYPE, Exposition

router = APIRouter()


@router.get("/metrics", summary="What Prometheus scrapes")
async def metrics(request: Request) -> Response:
    settings = edge_of(request).settings
    if settings.metrics_port is not None:
        raise ServiceError("not_found", "The metrics have a port of their own.")
    if not allows(settings, request.headers.get("authorization", "")):
        raise ServiceError(
            "unauthenticated", "The metrics need a bearer token.", headers={"WWW-Authenticate": "Bearer"}
        )
    state = request.app.state
    if not hasattr(state, "exposition"):
        state.exposition = Exposition()
    return Response(await asyncio.to_thread(state.exposition.text), media_type=CONTENT_TYPE)
