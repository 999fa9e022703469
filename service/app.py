"""The application: settings in, ASGI out. Importing this module does nothing.

`create_app()` puts the parts together; the lifespan opens them in the order of DESIGN (store,
upstream, engine) and closes them in the reverse one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from service import __version__
from service.api import handlers, openapi
from service.api.auth.authenticator import Authenticator
from service.api.body_bounds import BodyBounds, RefusedBodies
from service.api.direct_routes import call_directly
from service.api.edge import Edge
from service.api.limits import Limits
from service.api.middleware import EdgeMiddleware
from service.api.open_streams import OpenStreams
from service.api.origins import allowed_origins
from service.api.routes import (
    aisdk,
    branches,
    chat,
    conversations,
    docs,
    health,
    images,
    keys,
    live_turns,
    openai,
    page,
    personal_data,
    principals,
    responses,
    scrape,
    sessions,
    turns,
    usage,
)
from service.config.loading import load_settings
from service.config.settings import Settings
from service.engine.drain import Drain
from service.engine.engine import Engine
from service.eventloop.leaving import Leaving
from service.store.connection.typed_scripts import counted
from service.store.store import Store
from service.telemetry import logs, metrics, tracing
from service.upstream.groq import Groq
from service.upstream.models import load_catalogue

#: what pages of other origins may read of answers; the rest is for their browsers
EXPOSED = sorted(openapi.HEADERS.keys() - {"Cache-Control", "ETag", "WWW-Authenticate"})


def create_app(settings: Settings | None = None) -> FastAPI:
    """Raises SettingsError where a setting makes no sense."""
    settings = settings or load_settings()
    logs.configure(settings)
    catalogue = load_catalogue(
        settings.models_file,
        settings.model,
        settings.on_takeover,
        settings.title_model,
        free=settings.upstream_kind == "demo",
    )
    tracing.configure(settings, __version__)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        store = Store(settings, logs.worker_name())
        engine = Engine(store, Groq(settings), catalogue)
        await engine.open()
        authenticator = Authenticator(settings, store)
        await authenticator.open()
        app.state.edge = Edge(
            settings,
            engine,
            authenticator,
            store.credentials,
            store.principals,
            Limits(settings, store.windows),
            OpenStreams(settings.max_open_streams_per_principal),
            BodyBounds(max(settings.max_body_bytes, settings.max_image_body_bytes)),
            RefusedBodies(),
        )
        drain = Drain(engine, getattr(app.state, "leaving", None) or Leaving())
        watching = asyncio.create_task(drain.watch(), name="drain")
        yield {}
        await drain.finish()
        watching.cancel()
        await engine.close()
        await authenticator.close()
        await store.close()
        await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="Chat service",
        version=__version__,
        lifespan=lifespan,
        # FastAPI's pages run scripts of a CDN: api/routes/docs.py has ours.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        description="Durable, resumable chat answers over text/plain, SSE, OpenAI and the AI SDK.",
        # A redirect would name the scheme and host that a proxy speaks to us, and have no envelope.
        redirect_slashes=False,
    )
    parts = (
        health,
        scrape,
        chat,
        sessions,
        turns,
        branches,
        images,
        personal_data,
        openai,
        responses,
        conversations,
        aisdk,
        keys,
        principals,
        usage,
        live_turns,
        page,
        docs,
    )
    # As they are: include_router builds each again, for each worker, at its first request (20 ms of CPU).
    app.router.routes += [route for part in parts for route in part.router.routes]
    routes = [route for route in app.router.routes if isinstance(route, APIRoute)]
    call_directly(routes)
    # Every route's pattern with its methods: each has its series from the start, but for the rare HEAD.
    patterns = [
        (route.path_format, method) for route in routes for method in (route.methods or set()) - {"HEAD"}
    ]
    prices = [(model.id, model.price.currency) for model in catalogue if model.price]
    metrics.prepare(__version__, [model.id for model in catalogue], patterns, prices, counted())
    app.state.page = page.Page.load(settings)
    app.state.documents = docs.Documents(app) if settings.docs else None
    handlers.install(app)
    openapi.install(app, routes)
    # A request is compared with one route after the other: those that begin turns come first.
    first = {id(route) for part in (chat, turns, openai, responses, aisdk) for route in part.router.routes}
    app.router.routes.sort(key=lambda route: id(route) not in first)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"] if "*" in settings.cors_origins else [],
        allow_origin_regex=allowed_origins(settings).pattern,
        allow_credentials="*" not in settings.cors_origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["*"],
        expose_headers=EXPOSED,
        max_age=600,
    )
    app.add_middleware(EdgeMiddleware, settings=settings)
    return app
