"""`/metrics` on the service's own port, unless CHAT_METRICS_PORT gives the metrics one of theirs.

Made in a thread of its own, where scrapes wait for one another: none stalls the event loop, and a
flood of them takes no thread from anything else.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request, Response

from service.api.edge import edge_of
from service.errors import ServiceError
from service.telemetry.metrics_server import allows
from service.telemetry.multiprocess import CONTENT_TYPE, Exposition

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
        state.exposition, state.scrapes = Exposition(), ThreadPoolExecutor(1, "metrics")
    text = await asyncio.get_running_loop().run_in_executor(
        state.scrapes, state.exposition.text, time.monotonic()
    )
    return Response(text, media_type=CONTENT_TYPE)
