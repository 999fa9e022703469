"""Without authentication only names of this machine are answered: a rebound DNS name reads nothing."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.conftest import Start
from tests.double import Double
from tests.support.identity import bearer, make_key
from tests.support.service import Served

EVIL = {"Host": "evil.example"}


async def raw(served: Served, head: str) -> str:
    """The answer to a head as it is, on a connection of its own."""
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n")
    async with asyncio.timeout(10):
        text = await reader.read()
    writer.close()
    return text.decode()


async def first_line(served: Served, head: str) -> str:
    return (await raw(served, head)).partition("\r\n")[0]


@pytest.mark.parametrize(
    ("method", "path", "media"),
    [
        ("GET", "/", "application/problem+json"),
        ("GET", "/ui", "application/problem+json"),
        ("GET", "/docs", "application/problem+json"),
        ("GET", "/openapi.json", "application/problem+json"),
        ("GET", "/v1/sessions", "application/problem+json"),
        ("GET", "/v1/sessions/s/messages", "application/problem+json"),
        ("POST", "/chat", "application/problem+json"),
        ("POST", "/v1/sessions/s/turns", "application/problem+json"),
        ("DELETE", "/v1/sessions/s", "application/problem+json"),
        ("GET", "/nothing/here", "application/problem+json"),
        ("OPTIONS", "/chat", "application/problem+json"),
        ("GET", "/v1/models", "application/json"),
        ("POST", "/v1/chat/completions", "application/json"),
        ("POST", "/openai/v1/chat/completions", "application/json"),
        ("POST", "/api/chat", "text/plain; charset=utf-8"),
        ("GET", "/api/chat/s/messages", "text/plain; charset=utf-8"),
    ],
)
async def test_another_host_is_misdirected_in_the_envelope_of_its_path(
    served: Served, double: Double, method: str, path: str, media: str
) -> None:
    body = {"user_query": "hi", "content": "hi", "messages": [{"role": "user", "content": "hi"}]}
    answer = await served.client.request(method, path, headers=EVIL, json=body if method == "POST" else None)
    assert (answer.status_code, answer.headers["content-type"]) == (421, media)
    assert "CHAT_HOSTS" in answer.text
    if media == "application/json":
        assert answer.json()["error"]["code"] == "misdirected_request"
    elif "problem" in media:
        assert answer.json()["code"] == "misdirected_request"
    assert answer.headers["x-request-id"]
    assert list(double.calls) == []


_FOREIGN = {"Origin": "https://evil.example"}
_MANY = {f"x-{number}": "v" for number in range(150)}


@pytest.mark.parametrize(
    ("headers", "status"), [(EVIL, 421), (_FOREIGN, 403), (_MANY, 431)], ids=["host", "origin", "headers"]
)
async def test_what_a_head_alone_refuses_is_told_below_v1_as_where_nothing_is(
    served: Served, headers: dict[str, str], status: int
) -> None:
    """OpenAI's clients guess at addresses there, and read no other envelope."""
    known = await served.client.post("/v1/sessions", headers=headers)
    assert (known.status_code, known.headers["content-type"]) == (status, "application/problem+json")
    for method, path in (
        ("POST", "/v1"),
        ("POST", "/v1/completions"),
        ("DELETE", "/v1/chat"),
        ("PUT", "/v1/sessions"),
        ("POST", "/v1/sessions/s/nothing"),
    ):
        answer = await served.client.request(method, path, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), path
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    other = await served.client.post("/v10/nothing", headers=headers)
    assert (other.status_code, other.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/metrics"])
async def test_probes_ask_by_whatever_address_they_have(served: Served, path: str) -> None:
    assert (await served.client.get(path, headers={"Host": "10.1.2.3:8000"})).status_code == 200


async def test_named_hosts_are_answered(start: Start) -> None:
    async with start(hosts="chat.lan:8080,*.dev.example") as served:
        for host, status in (
            ("chat.lan:8080", 200),
            ("CHAT.lan.:8080", 200),
            ("a.dev.example", 200),
            ("localhost:1", 200),
            ("chat.lan", 421),
            ("evil.example", 421),
        ):
            answer = await served.client.get("/v1/sessions", headers={"Host": host})
            assert answer.status_code == status, host


async def test_with_credentials_any_host_is_answered(start: Start) -> None:
    async with start(auth="keys") as served:
        headers = {**EVIL, **bearer(await make_key(served))}
        assert (await served.client.get("/v1/sessions", headers=headers)).status_code == 200


async def test_a_request_has_one_host_whatever_the_authentication(start: Start) -> None:
    for auth in ("none", "keys"):
        async with start(auth=auth) as served:
            twice = "GET /ui HTTP/1.1\nHost: localhost\nHost: localhost\nConnection: close"
            assert await first_line(served, twice) == "HTTP/1.1 400 Bad Request"
            none = "GET /ui HTTP/1.1\nConnection: close"
            assert await first_line(served, none) == "HTTP/1.1 400 Bad Request"


async def test_http_1_0_knows_no_host_and_no_browser_speaks_it(served: Served) -> None:
    assert " 200 " in await first_line(served, "GET /v1/sessions HTTP/1.0")
    assert " 421 " in await first_line(served, "GET /v1/sessions HTTP/1.0\nHost: evil.example")


async def test_the_host_of_an_absolute_target_is_the_one_that_counts(served: Served) -> None:
    end = "HTTP/1.1\nHost: {}\nConnection: close"
    asked = "GET http://{}/v1/sessions?limit=1 "
    assert " 421 " in await first_line(served, asked.format("evil.example") + end.format("localhost"))
    assert " 200 " in await first_line(served, asked.format("localhost:8000") + end.format("evil.example"))
    assert " 421 " in await first_line(served, "GET http://evil.example " + end.format("localhost"))
    assert " 200 " in await first_line(served, "GET http://localhost " + end.format("evil.example"))


async def test_a_proxy_of_ours_adds_a_name_that_has_to_be_right_and_replaces_none(start: Start) -> None:
    async with start(hosts="service", trusted_proxies="127.0.0.1") as served:
        for host, forwarded, status in (
            ("service", "localhost:8080", 200),
            ("service", "evil.example", 421),
            ("evil.example", "localhost", 421),
            ("localhost", "localhost, evil.example", 421),
        ):
            headers = {"Host": host, "X-Forwarded-Host": forwarded}
            answer = await served.client.get("/v1/sessions", headers=headers)
            assert answer.status_code == status, headers
    async with start() as served:
        headers = {"Host": "evil.example", "X-Forwarded-Host": "localhost"}
        assert (await served.client.get("/v1/sessions", headers=headers)).status_code == 421


async def test_a_misdirected_request_is_counted_and_changes_nothing(served: Served) -> None:
    await served.client.post("/v1/sessions", json={"id": "s"})
    refused = await served.client.delete("/v1/sessions/s", headers=EVIL)
    assert refused.status_code == 421
    assert (await served.client.get("/v1/sessions/s")).status_code == 200
    counted = (await served.client.get("/metrics")).text
    assert re.search(r'chat_http_requests_total\{[^}]*status="421"\} [1-9]', counted)


@pytest.mark.parametrize(
    "port", ["9" * 5_000, "\u0661", "-1", ""], ids=["long", "no digit of ours", "negative", "none"]
)
async def test_whatever_port_a_request_names_it_is_answered(start: Start, port: str) -> None:
    async with start(auth="keys") as served:
        answer = await served.client.get("/livez", headers={b"Host": f"localhost:{port}".encode()})
        assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
