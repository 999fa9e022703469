"""Pages of other sites change nothing, whatever kind of request a browser sends for them unasked."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.conftest import Start
from tests.double import Double
from tests.support.service import Served

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "file://"},
    {"Origin": ""},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


async def running_turn(client: httpx.AsyncClient) -> str:
    body = {"content": "[[tokens=4000 rate=50]]"}
    answer = await client.post("/v1/sessions/s/turns", json=body, headers={"Prefer": "respond-async"})
    turn: str = answer.json()["id"]
    return turn


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_route_without_a_body_is_no_way_round_cors(served: Served, headers: dict[str, str]) -> None:
    turn = await running_turn(served.client)
    asked = {
        "/v1/sessions": "POST",
        f"/v1/sessions/s/turns/{turn}/stop": "POST",
        f"/v1/sessions/s/turns/{turn}/ticket": "POST",
        "/api/chat/s/stop": "POST",
        "/v1/sessions/s": "DELETE",
    }
    for path, method in asked.items():
        answer = await served.client.request(method, path, headers=headers)
        assert answer.status_code == 403, path
        assert "CHAT_CORS_ORIGINS" in answer.text
        typed = await served.client.request(
            method, path, content=b"x=1", headers={**headers, "Content-Type": "text/plain"}
        )
        assert typed.status_code == 415, path
    state = await served.client.get(f"/v1/sessions/s/turns/{turn}")
    assert state.json()["state"] == "running"
    assert [one["id"] for one in (await served.client.get("/v1/sessions")).json()["data"]] == ["s"]
    assert (await served.client.post(f"/v1/sessions/s/turns/{turn}/stop")).json()["state"] == "stopped"


async def test_a_foreign_page_starts_nothing(served: Served, double: Double) -> None:
    bodies: dict[str, Any] = {
        "/chat": {"user_query": "hi"},
        "/v1/sessions/s/turns": {"content": "hi"},
        "/v1/chat/completions": {
            "model": "openai/gpt-oss-20b",
            "messages": [{"role": "user", "content": "hi"}],
        },
        "/api/chat": {"id": "s", "messages": [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]},
    }
    for path, body in bodies.items():
        answer = await served.client.post(path, json=body, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403, path
    assert list(double.calls) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "{own}"},
        {"Origin": "http://localhost:5173"},
        {"Origin": "http://localhost:5173", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://app.example.com", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=str,
)
async def test_our_own_page_a_named_one_and_what_is_no_browser_are_let_through(
    served: Served, headers: dict[str, str]
) -> None:
    given = {name: value.format(own=served.url) for name, value in headers.items()}
    made = await served.client.post("/v1/sessions", headers=given)
    assert made.status_code == 201
    assert (await served.client.delete(f"/v1/sessions/{made.json()['id']}", headers=given)).status_code == 204


async def test_our_own_page_is_known_behind_a_proxy(start: Start) -> None:
    page = {"Origin": "https://chat.example.com"}
    async with start(auth="none", hosts="*", trusted_proxies="127.0.0.1") as served:

        async def status(**headers: str) -> int:
            answer = await served.client.post("/v1/sessions", headers={**page, **headers})
            return answer.status_code

        assert await status(Host="chat.example.com") == 201
        assert await status(Host="chat.example.com:443") == 201
        assert await status(**{"Host": "service:8000", "X-Forwarded-Host": "chat.example.com"}) == 201
        assert await status(Host="chat.example.com:8443") == 403
        assert await status(Host="service:8000") == 403
    async with start(hosts="*") as served:
        assert await status(**{"Host": "service:8000", "X-Forwarded-Host": "chat.example.com"}) == 403


async def test_reads_are_answered_and_the_browser_keeps_them_from_the_page(served: Served) -> None:
    answer = await served.client.get("/v1/sessions", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


async def test_patterns_and_schemes_of_apps_get_leave_from_cors_too(start: Start) -> None:
    async with start(cors_origins="https://*.example.com,app://.,moz-extension://*") as served:
        for origin in ("https://a.example.com", "app://.", "moz-extension://4b1c-22"):
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            leave = await served.client.options("/chat", headers=asked)
            assert leave.headers["access-control-allow-origin"] == origin
            made = await served.client.post("/v1/sessions", headers={"Origin": origin})
            assert made.headers["access-control-allow-origin"] == origin
        refused = await served.client.options(
            "/chat", headers={"Origin": "https://example.com.evil", "Access-Control-Request-Method": "POST"}
        )
        assert "access-control-allow-origin" not in refused.headers


async def test_every_origin_may_be_let_in(start: Start) -> None:
    async with start(cors_origins="*") as served:
        made = await served.client.post("/v1/sessions", headers={"Origin": "https://any.example"})
        assert (made.status_code, made.headers["access-control-allow-origin"]) == (201, "*")
