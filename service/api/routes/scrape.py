"""`/metrics` on the service's own port, unless CHAT_METRICS_PORT is set.

The text is made in a thread of its own, one scrape after the other: scrapes do not stall the event loop,
and a flood of them takes no thread from anything else.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request, Response

from service.api import examples
from service.api.edge import edge_of
from service.api.operation import Answer, documented
from service.errors import ServiceError
from service.telemetry.metrics_server import allows
from service.telemetry.multiprocess import CONTENT_TYPE, Exposition

router = APIRouter(tags=["operating"])


@router.get(
    "/metrics",
    summary="What Prometheus scrapes",
    description="404 where the metrics have a port of their own (`CHAT_METRICS_PORT`), 401 without the "
    "bearer token where one is set (`CHAT_METRICS_TOKEN`).",
)
@documented(
    Answer("Prometheus' text format", {"text/plain": (None, examples.METRICS)}),
    "unauthenticated",
    "not_found",
    "internal",
    public=True,
)
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
        state.exposition, state.scrapes = Exposition(), ThreadPoolExecutor(1, "metrics")
    text = await asyncio.get_running_loop().run_in_executor(
        state.scrapes, state.exposition.text, time.monotonic()
    )
    return Response(text, media_type=CONTENT_TYPE)
