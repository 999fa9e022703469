"""The service inside a test: a real uvicorn server on a free port, in the test's own loop.

Streams are real sockets (an in-process transport would buffer them); everything else is as in
a worker: real Redis, the real groq SDK, the double over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.config.settings import Settings
from service.server import BoundedHttp


class Served:
    """One running service. `app.state.edge.engine` is for looking, not for mocking."""

    def __init__(self, app: FastAPI, url: str) -> None:
        self.app = app
        self.url = url
        self.client = httpx.AsyncClient(base_url=url, timeout=30)


@contextlib.asynccontextmanager
async def serve(redis_url: str, double_url: str, **settings: Any) -> AsyncIterator[Served]:
    values: dict[str, Any] = {"redis_url": redis_url, "groq_base_url": double_url, "log_level": "error"}
    app = create_app(Settings(_env_file=None, **{**values, **settings}))
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=2, http=BoundedHttp,
        proxy_headers=False, server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined,method-assign,unused-ignore]
    task = asyncio.create_task(server._serve(None))
    async with asyncio.timeout(10):
        while not server.started:
            assert not task.done(), task.exception()
            await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    served = Served(app, f"http://127.0.0.1:{port}")
    try:
        yield served
    finally:
        await served.client.aclose()
        server.should_exit = True
        await asyncio.wait_for(task, 15)
