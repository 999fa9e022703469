"""Below a path of a proxy, or of an application that mounts us: every link begins with it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.conftest import Start
from tests.support.service import Served

PAGE = {"Accept": "text/html,*/*;q=0.8"}


def caller(served: Served, way: str) -> httpx.AsyncClient:
    """One whose service is below /sub: the proxy takes that off, or nobody does."""
    if way == "header":
        headers = {"X-Forwarded-Prefix": "/sub"}
        return httpx.AsyncClient(base_url=served.url, headers=headers, timeout=30, verify=False)
    if way == "root_path":
        within: Any = httpx.ASGITransport(served.app, root_path="/sub")
        return httpx.AsyncClient(base_url="http://localhost", transport=within)
    outer = Starlette(routes=[Mount("/sub", app=served.app)])
    return httpx.AsyncClient(base_url="http://localhost/sub", transport=httpx.ASGITransport(outer))


async def links(client: httpx.AsyncClient) -> list[str]:
    """Of everything that links to something."""
    asynchronously = {"Prefer": "respond-async"}
    made = await client.post("/v1/sessions", json={"id": "s"})
    turns = "/v1/sessions/s/turns"
    turn = await client.post(turns, json={"content": "[[tokens=5]]"}, headers=asynchronously)
    path = f"{turns}/{turn.json()['id']}"
    ticket = await client.post(f"{path}/ticket")
    events = await client.get(f"{path}/events")
    stream = await client.post(turns, json={"content": "[[tokens=5]]"})
    running = await client.post(turns, json={"content": "[[fault=hang]]"}, headers=asynchronously)
    busy = await client.post("/chat", json={"user_query": "hi", "session_id": "s"})
    assert busy.status_code == 409
    await client.post(f"{turns}/{running.json()['id']}/stop")
    answers = (made, turn, events, stream, busy)
    return [*(answer.headers["location"] for answer in answers), ticket.json()["url"]]


@pytest.mark.parametrize("way", ["header", "root_path", "mounted"])
async def test_every_link_begins_with_the_prefix_and_leads_to_us(start: Start, way: str) -> None:
    async with start(trusted_proxies="127.0.0.1") as served, caller(served, way) as client:
        found = await links(client)
        assert all(link.startswith("/sub/v1/sessions/s") for link in found), found
        for link in found:
            answer = await served.client.get(link.removeprefix("/sub"))
            assert answer.status_code == 200, link
        document = (await client.get("/openapi.json")).json()
        assert document["servers"] == [{"url": "/sub"}]
        page = await client.get("/", headers=PAGE)
        assert (page.status_code, page.headers["location"]) == (307, "/sub/ui")
        shown = await client.get("/ui")
        assert shown.status_code == 200
        assert 'src="ui/js/main.js"' in shown.text
        assert (await client.get("/ui/")).headers["location"] == "../ui"
        refused = await client.get("/v1/models/nothing")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


async def test_without_one_nothing_is_added(served: Served) -> None:
    assert all(link.startswith("/v1/sessions/s") for link in await links(served.client))
    assert "servers" not in (await served.client.get("/openapi.json")).json()
    assert (await served.client.get("/", headers=PAGE)).status_code == 200


async def located(served: Served, *prefixes: str) -> str:
    headers = [("X-Forwarded-Prefix", prefix) for prefix in prefixes]
    answer = await served.client.post("/v1/sessions", json={"id": "s"}, headers=headers)
    return str(answer.headers["location"])


async def test_a_prefix_is_believed_from_a_configured_proxy_only(served: Served) -> None:
    assert await located(served, "/sub") == "/v1/sessions/s"


async def test_proxies_one_behind_the_other_and_slashes_at_the_end(start: Start) -> None:
    async with start(trusted_proxies="127.0.0.0/8") as served:
        assert await located(served, "/outer/", "/inner/sub/") == "/outer/inner/sub/v1/sessions/s"
        assert await located(served, "/outer, /inner") == "/outer/inner/v1/sessions/s"
        assert await located(served, "/") == "/v1/sessions/s"


@pytest.mark.parametrize(
    "prefix",
    ["//evil.example", "https://evil.example", "sub", "/a/../b", "/a//b", "/a b", "/" + "a" * 65, "/\\e"],
)
async def test_a_prefix_that_is_no_path_is_none(start: Start, prefix: str) -> None:
    async with start(trusted_proxies="127.0.0.1") as served:
        assert await located(served, prefix) == "/v1/sessions/s"
