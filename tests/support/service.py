"""The service inside a test: a real uvicorn server on a free port, in the test's own loop.

Streams are real sockets (an in-process transport would buffer them); everything else is as in
a worker: real Redis, the real groq SDK, the double over HTTP. Only uvicorn's fixed sleeps are
replaced: they cost 159 ms in each test, more than most tests take.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from service.app import create_app
from service.config.settings import Settings
from service.serving.http_protocol import BoundedHttp
from service.serving.unsent import bound_unsent

_LOOK_SECONDS = 0.002  # between looks at what uvicorn tells nobody: connections and tasks that end
_GRACE_SECONDS = 2.0  # for requests that still run when a test is over


class PromptServer(uvicorn.Server):
    """uvicorn that begins and ends at once: its own looks every 100 ms whether it is to stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        self.should_exit = True
        self._leaving.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        counter = 0  # tenths of a second, for the Date header
        while not await self.on_tick(counter):
            bound_unsent(list(self.server_state.connections))
            counter += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.servers:
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                while state.connections or state.tasks:  # noqa: ASYNC110 - nothing tells of their end
                    await asyncio.sleep(_LOOK_SECONDS)
        for task in list(state.tasks):
            task.cancel()
        await self.lifespan.shutdown()


class Given(Settings):
    """What a test gives and the defaults: to look for 150 settings elsewhere takes 6 ms a test."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class Served:
    """One running service. `app.state.edge.engine` is for looking, not for mocking."""

    def __init__(self, app: FastAPI, url: str) -> None:
        self.app = app
        self.url = url
        # Without TLS no certificates are read: 50 ms a client.
        self.client = httpx.AsyncClient(base_url=url, timeout=30, verify=False)


@contextlib.asynccontextmanager
async def serve(redis_url: str, double_url: str, **settings: Any) -> AsyncIterator[Served]:
    values: dict[str, Any] = {"redis_url": redis_url, "groq_base_url": double_url, "log_level": "error"}
    app = create_app(Given(**{**values, **settings}))
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_config=None,
        http=BoundedHttp,
        proxy_headers=False,
        server_header=False,
    )
    server = PromptServer(config)
    task = asyncio.create_task(server._serve(None))
    ready = asyncio.create_task(server.ready.wait())
    await asyncio.wait([task, ready], timeout=10, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    assert server.started, task.exception() if task.done() else "not within 10 s"
    port = server.servers[0].sockets[0].getsockname()[1]
    # Test, double and machine share the loop's time: it may be late without having too much to do.
    app.state.edge.engine.admission.note_lag = lambda seconds: None
    served = Served(app, f"http://127.0.0.1:{port}")
    try:
        yield served
    finally:
        await served.client.aclose()
        server.leave()
        await asyncio.wait_for(task, 15)
