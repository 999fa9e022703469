"""What operators and their tools are told: metrics, health, probes, the sign of life, the page's files."""

from __future__ import annotations

import pytest

from service import __version__
from tests.conftest import Start
from tests.support.identity import bearer
from tests.support.service import Served


async def test_the_metrics_are_for_who_has_their_token_and_not_on_two_ports(start: Start) -> None:
    async with start(metrics_token="t") as served:
        answer = await served.client.get("/metrics", headers=bearer("t"))
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            "text/plain; version=0.0.4; charset=utf-8",
        )
        assert "# TYPE chat_turns_started_total counter" in answer.text
        for headers in ({}, bearer("other"), {"Authorization": "Basic t"}):
            refused = await served.client.get("/metrics", headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
            assert refused.headers["www-authenticate"] == "Bearer"
    async with start(metrics_port=9464) as served:
        absent = await served.client.get("/metrics")
        assert (absent.status_code, absent.json()["code"]) == (404, "not_found")


async def test_health_says_what_serves_with_what(served: Served) -> None:
    found = (await served.client.get("/health")).json()
    assert found == {
        "status": "healthy",
        "service": "ai-chat-backend",
        "version": __version__,
        "env": "local",
        "checks": {"store": "ok", "drain": "ok", "upstream": "ok"},
        "store": "redis",
        "upstream": "groq",
        "model": found["model"],
        "models_unavailable": [],
        "provider_keys": found["provider_keys"],
        "turns_running": 0,
    }


async def test_probes_leave_out_what_they_are_told_to(served: Served) -> None:
    ready = await served.client.get("/readyz")
    assert ready.json() == {"status": "ready", "checks": {"store": "ok", "drain": "ok", "upstream": "ok"}}
    assert "retry-after" not in ready.headers
    some = await served.client.get("/readyz?exclude=store&exclude=upstream")
    assert some.json() == {"status": "ready", "checks": {"drain": "ok"}}
    served.app.state.edge.engine.drain()
    leaving = await served.client.get("/readyz?exclude=store")
    assert (leaving.status_code, leaving.headers["retry-after"]) == (503, "1")
    assert leaving.json() == {"status": "unready", "checks": {"drain": "draining", "upstream": "ok"}}
    assert (await served.client.get("/livez")).json() == {"status": "alive"}
    assert (await served.client.head("/livez")).status_code == 200


async def test_the_root_is_a_page_for_browsers_and_a_sign_of_life_for_programs(start: Start) -> None:
    async with start(trusted_proxies=["127.0.0.1"]) as served:
        client = served.client
        program = await client.get("/")
        assert program.json() == {"message": "AI Chat Backend is running"}
        assert program.headers["vary"].split(", ")[0] == "Accept"
        browser = {"Accept": "text/html,*/*;q=0.8"}
        page = await client.get("/", headers=browser)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["vary"].split(", ")[:2] == ["Accept", "Accept-Encoding"]
        assert page.headers["cache-control"] == "no-cache"
        assert page.headers["cross-origin-opener-policy"] == "same-origin"
        assert page.headers["cross-origin-resource-policy"] == "same-origin"
        below = await client.get("/", headers={**browser, "X-Forwarded-Prefix": "/chat"})
        assert (below.status_code, below.headers["location"]) == (307, "/chat/ui")
        assert below.headers["vary"].split(", ")[0] == "Accept"
        slash = await client.get("/ui/")
        assert (slash.status_code, slash.headers["location"]) == (308, "../ui")
        document = await client.get("/openapi.json", headers={"X-Forwarded-Prefix": "/chat"})
        assert document.json()["servers"] == [{"url": "/chat"}]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sign-in.json", "application/json"),
        ("manifest.webmanifest", "application/manifest+json"),
        ("icon.svg", "image/svg+xml"),
        ("css/theme.css", "text/css; charset=utf-8"),
    ],
)
async def test_the_pages_files_have_the_types_that_browsers_ask_for(
    served: Served, name: str, kind: str
) -> None:
    plain = await served.client.get(f"/ui/{name}", headers={"Accept-Encoding": "identity"})
    packed = await served.client.get(f"/ui/{name}", headers={"Accept-Encoding": "gzip"})
    assert [one.headers["content-type"] for one in (plain, packed)] == [kind, kind]
    assert (plain.headers.get("content-encoding"), packed.headers.get("content-encoding")) == (None, "gzip")
    assert plain.content == packed.content
    assert packed.headers["etag"] == f'{plain.headers["etag"][:-1]}-gz"'
    for answer in (plain, packed):
        again = {
            "If-None-Match": answer.headers["etag"],
            "Accept-Encoding": answer.headers.get("content-encoding", "identity"),
        }
        assert (await served.client.get(f"/ui/{name}", headers=again)).status_code == 304
