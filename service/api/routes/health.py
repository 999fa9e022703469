"""For operators and load balancers: a greeting, /livez, /readyz and /health."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from service import __version__
from service.api import examples
from service.api.answers import Json
from service.api.edge import Edge, edge_of
from service.api.operation import Answer, documented, plain
from service.api.request_state import request_state
from service.api.routes import page
from service.engine.pacing.governor import MAY_BE_TRIED
from service.errors import StoreRefusesWrites, StoreUnavailable
from service.store.health import OK

router = APIRouter(tags=["operating"])

# A check older than this is made again; probes of many load balancers cost one PING a second.
_FRESH_SECONDS: Final = 1.0
# One slow answer is no outage: the store is unavailable when two PINGs in a row had no answer for a second.
_PINGS: Final = 2
_PAUSE_SECONDS: Final = 0.1


class Readiness:
    """Ready means: this replica can begin turns.

    A check that is known to fail is answered at once. If all are well, the store is asked again, with bounds
    and at most once a second, so that the first probe in an outage notices it and not the second. `store` and
    `upstream` are the same for all replicas: a balancer that takes unready replicas out has to exclude these
    two, or an outage of Redis turns our 503 into refused connections.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._health = edge.engine.health
        self._at = float("-inf")
        self._lock = asyncio.Lock()

    def known(self) -> dict[str, str]:
        return {
            "store": self._health.known,
            "drain": "draining" if self._edge.engine.draining else "ok",
            "upstream": self._edge.engine.governor.known,
        }

    async def checks(self, excluded: Collection[str] = ()) -> dict[str, str]:
        """The checks that are not excluded, by name."""

        def counted() -> dict[str, str]:
            return {name: value for name, value in self.known().items() if name not in excluded}

        if "store" not in excluded and all(map(_well, counted().values())):
            async with self._lock:
                fresh = asyncio.get_running_loop().time() - self._at <= _FRESH_SECONDS
                if not fresh and self._health.known == OK:
                    await self._ask_store()
        return counted()

    async def _ask_store(self) -> None:
        if await self._store_answers():
            await self._health.look()
        else:
            self._health.silent()
        self._at = asyncio.get_running_loop().time()

    async def _store_answers(self) -> bool:
        for attempt in range(_PINGS):
            await asyncio.sleep(attempt * _PAUSE_SECONDS)
            try:
                async with asyncio.timeout(self._health.bound):
                    await self._health.ping()
            except StoreRefusesWrites:
                return True
            except (StoreUnavailable, TimeoutError):
                continue
            return True
        return False


def _well(check: str) -> bool:
    """Is a check well? Also of a provider that may be tried again: only a call can show that it works."""
    return check == OK or check.endswith(MAY_BE_TRIED)


def readiness_of(request: Request) -> Readiness:
    edge = edge_of(request)
    found: Readiness | None = getattr(request.app.state, "readiness", None)
    if found is None:
        found = request.app.state.readiness = Readiness(edge)
    return found


@router.get("/", summary="A sign of life; browsers get the chat page")
@documented(
    {
        200: Answer(
            "A sign of life, for browsers the chat page",
            {"application/json": ("Greeting", examples.GREETING), "text/html": (None, None)},
        ),
        304: Answer("The browser has the page"),
    },
    public=True,
)
async def root(request: Request) -> Response:
    if page.prefers_html(request.headers.get("accept", "")):
        # Below a prefix, the address may lack its final slash, and relative links would leave the prefix.
        if request_state(request).prefix:
            return RedirectResponse("/ui", headers={"Vary": "Accept"})
        return page.page_of(request).respond(request)
    return Json({"message": "AI Chat Backend is running"}, headers={"Vary": "Accept"})


@router.get("/livez", summary="The process serves; nothing else is asked")
@documented(plain("Alive", {"status": "alive"}, "It serves"), public=True)
async def livez(request: Request) -> Response:
    return Json({"status": "alive"})


@router.get("/readyz", summary="Can this replica begin turns?")
@documented(
    {
        200: plain("Readiness", examples.READY, "It can begin turns"),
        503: plain("Readiness", examples.UNREADY, "It cannot, and the checks say why", "Retry-After"),
    },
    parameters=("exclude",),
    public=True,
)
async def readyz(request: Request) -> Response:
    excluded = request.query_params.getlist("exclude")
    checks = await readiness_of(request).checks(excluded)
    ready = all(map(_well, checks.values()))
    return Json(
        {"status": "ready" if ready else "unready", "checks": checks},
        status_code=200 if ready else 503,
        headers={} if ready else {"Retry-After": "1"},
    )


@router.get("/health", summary="Always 200 while the process serves; the details say the rest")
@documented(plain("Health", examples.HEALTH, "It serves"), public=True)
async def health(request: Request) -> Response:
    edge = edge_of(request)
    settings, engine = edge.settings, edge.engine
    told = {
        "status": "healthy",
        "service": "ai-chat-backend",
        "version": __version__,
        "env": settings.env,
        "checks": readiness_of(request).known(),
        "store": settings.store_kind,
        "upstream": settings.upstream_kind,
        "model": engine.catalogue.default.id,
        "models_unavailable": [model.id for model in engine.catalogue if not engine.governor.offers(model)],
        "provider_keys": [{"name": name, "state": state} for name, state in engine.governor.state().items()],
        "turns_running": len(engine.running),
    }
    return Json(told)
