"""Against misuse: bounded heads, headers on every answer, no banner, no secret anywhere."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Start
from tests.support.identity import bearer
from tests.support.issuer import token
from tests.support.processes import Replica
from tests.support.redis import RedisServer
from tests.support.running import call
from tests.support.service import Served

DATA = "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/v1/sessions", 200),
        ("GET", "/v1/nothing", 404),
        ("PUT", "/chat", 405),
        ("POST", "/chat", 400),
        ("GET", "/v1/models", 200),
        ("GET", "/metrics", 200),
        ("POST", "/v1/chat/completions", 400),
        ("POST", "/api/chat", 400),
        ("OPTIONS", "/chat", 405),
        ("GET", "/v1/sessions/nobodys", 404),
        ("GET", "/openapi.json", 200),
    ],
)
async def test_every_answer_is_data_and_carries_no_banner(
    served: Served, method: str, path: str, status: int
) -> None:
    answer = await served.client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"] == DATA
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers
    for name, count in [(name, len(answer.headers.get_list(name))) for name in answer.headers]:
        assert count == 1, name


async def test_streams_carry_them_too(served: Served) -> None:
    for path, body in (
        ("/chat", {"user_query": "[[tokens=2]]"}),
        ("/v1/sessions/s/turns", {"content": "[[tokens=2]]"}),
    ):
        async with served.client.stream("POST", path, json=body) as answer:
            assert answer.status_code == 200
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"] == DATA
            assert answer.headers["cache-control"] == "no-cache, no-transform"


async def test_what_belongs_to_a_caller_is_not_kept_by_caches(served: Served) -> None:
    await served.client.post("/v1/sessions", json={"id": "s"})
    for path in ("/v1/sessions", "/v1/sessions/s", "/v1/sessions/s/messages", "/v1/sessions/s/export"):
        assert (await served.client.get(path)).headers["cache-control"] == "no-store", path


async def test_the_page_has_a_policy_of_its_own_and_only_one(served: Served) -> None:
    page = await served.client.get("/ui", follow_redirects=True)
    assert page.status_code == 200
    policies = page.headers.get_list("content-security-policy")
    assert len(policies) == 1
    assert "script-src 'self'" in policies[0]
    assert "unsafe" not in policies[0]
    docs = await served.client.get("/docs")
    assert "default-src 'none'" in docs.headers["content-security-policy"]


async def test_too_many_headers_are_refused(served: Served) -> None:
    many = {f"x-{number}": "v" for number in range(150)}
    answer = await served.client.get("/v1/sessions", headers=many)
    assert (answer.status_code, answer.json()["code"]) == (431, "invalid_request")
    assert (await served.client.get("/v1/sessions", headers={"x-1": "v"})).status_code == 200


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("Idempotency-Key", "a", "b"),
        ("X-Session-Id", "mine", "yours"),
        ("X-On-Busy", "reject", "queue"),
        ("X-Fallback-Idempotency-Key", "a", "b"),
        ("Last-Event-ID", "1", "2"),
        ("Authorization", "Bearer a", "Bearer b"),
        ("X-API-Key", "a", "b"),
        ("Content-Type", "application/json", "text/plain"),
        ("Content-Encoding", "identity", "gzip"),
    ],
)
async def test_two_headers_of_which_one_counts_have_to_say_the_same(
    served: Served, name: str, one: str, other: str
) -> None:
    content, json_type = b'{"user_query": "[[say=Hi]]"}', [("Content-Type", "application/json")]
    plain = [] if name == "Content-Type" else json_type
    refused = await served.client.post("/chat", content=content, headers=[*plain, (name, one), (name, other)])
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert refused.json()["detail"] == f"The request has two {name.lower()} headers that differ."
    assert (await served.client.get("/v1/sessions")).json()["data"] == []
    same = await served.client.post("/chat", content=content, headers=[*plain, (name, one), (name, one)])
    assert (same.status_code, same.text) == (200, "Hi")


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t "])
async def test_spaces_around_the_value_of_a_header_are_not_of_it(served: Served, space: bytes) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    body = b'{"user_query": "[[say=Hi]]"}'

    async def turn_of(around: bytes) -> bytes:
        fields = {b"Idempotency-Key": b"k", b"X-Session-Id": b"s", b"X-On-Busy": b"queue"}
        lines = [b"%b:%b%b%b" % (name, around, value, around) for name, value in fields.items()]
        lines += [b"Host: localhost", b"Content-Length: %d" % len(body), b"Connection: close"]
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /chat HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 ")
        return next(line for line in answer.split(b"\r\n") if line.startswith(b"x-turn-id"))

    assert await turn_of(b"") == await turn_of(space)


async def test_a_head_without_end_is_cut_off(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/sessions HTTP/1.1\r\nhost: x\r\n")
    for number in range(15):
        writer.write(b"x-%d: %s\r\n" % (number, b"v" * 4_000))
    await writer.drain()
    writer.write(b"x-last: %s\r\n" % (b"v" * 8_000))  # beyond 64 KiB
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    ("name", "value"),
    [("Idempotency-Key", b"a\x01b"), ("Idempotency-Key", b"a\x7fb"), ("X-On-Busy", b"reject\x02")],
)
async def test_control_characters_in_headers_that_we_read_are_refused(
    served: Served, name: str, value: bytes
) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    body = b'{"user_query":"hi"}'
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /chat HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n%s: %s\r\n\r\n%s" % (len(body), name.encode(), value, body)
    )
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_request_id_that_could_forge_a_log_line_is_not_taken_over(served: Served) -> None:
    for given in (b"a b", b"x" * 129, b"{}", b"id\xe9"):
        answer = await served.client.get("/livez", headers=[(b"x-request-id", given)])
        assert answer.headers["x-request-id"].startswith("r_"), given
    answer = await served.client.get("/livez", headers={"X-Request-Id": "abc.DEF-1_2"})
    assert answer.headers["x-request-id"] == "abc.DEF-1_2"


async def test_more_messages_than_a_conversation_has_are_refused(start: Start) -> None:
    async with start(max_body_bytes=8_000_000) as served:
        history = [{"role": "user", "content": "x"}] * 10_001
        answer = await served.client.post("/chat-with-history", json={"user_query": "hi", "history": history})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_a_page_cannot_send_without_a_type_and_so_without_being_asked_for_leave(served: Served) -> None:
    async def status(headers: dict[str, str]) -> int:
        body = b'{"user_query": "[[say=ok]]"}'
        return (await served.client.post("/chat", content=body, headers=headers)).status_code

    assert await status({"Origin": "https://evil.example"}) == 415
    assert await status({"Origin": "https://evil.example", "Content-Type": "text/plain"}) == 415
    assert await status({}) == 200, "no browser"


async def test_origins_that_are_not_configured_get_no_leave(start: Start) -> None:
    async with start(cors_origins="https://app.example.com") as served:

        async def leave(origin: str) -> str | None:
            headers = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            }
            answer = await served.client.options("/chat", headers=headers)
            allowed: str | None = answer.headers.get("access-control-allow-origin")
            return allowed

        assert await leave("https://app.example.com") == "https://app.example.com"
        for origin in ("https://evil.example", "https://app.example.com.evil.example", "null"):
            assert await leave(origin) is None


SECRETS = {
    "redis password": "redis-password-8d7c2f",
    "groq key": "gsk_0123456789abcdefTESTONLY",
    "ticket secret": "ticket-secret-0123456789-0123456789",
    "jwt key": "jwt-key-0123456789-0123456789-012345",
    "metrics token": "metrics-token-0123456789",
    "message": "the user's own words",
}


def test_no_secret_shows_in_logs_errors_metrics_or_process_titles(
    tmp_path: Path, double_server: tuple[Any, str]
) -> None:
    server = RedisServer(tmp_path / "redis")
    server.client().acl_setuser(
        "chat",
        enabled=True,
        passwords=[f"+{SECRETS['redis password']}"],
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
    )
    url = f"redis://chat:{SECRETS['redis password']}@127.0.0.1:{server.port}/0"
    settings: dict[str, Any] = {
        "redis_url": url,
        "GROQ_API_KEY": SECRETS["groq key"],
        "GROQ_BASE_URL": double_server[1],
        "auth": "keys,jwt",
        "secret": SECRETS["ticket secret"],
        "jwt_key": SECRETS["jwt key"],
        "metrics_token": SECRETS["metrics token"],
        "jwt_algorithms": "HS256",
        "log_level": "debug",
        "workers": 2,
    }
    replica = Replica(tmp_path, **settings)
    try:
        made = call("keys", "create", "--name", "x", cwd=tmp_path, CHAT_REDIS_URL=url)
        key = made.stdout.strip()
        texts = _talk(replica.url, key)
        server.kill()
        texts += _talk(replica.url, key)  # errors of the store hold its address, but not its password
        titles = [
            Path(f"/proc/{pid}/cmdline").read_bytes().decode()
            for pid in (replica.process.pid if replica.process else 0, *replica.workers())
        ]
        where = {
            "log": replica.log(),
            "answers": "\n".join(texts),
            "titles": "\n".join(titles),
            "keys": made.stderr,
        }
        for secret in (*SECRETS.values(), key.rpartition("_")[2], token(key=SECRETS["jwt key"])[:40]):
            assert [place for place, text in where.items() if secret in text] == [], secret
        assert '"event":"request.ended"' in where["log"]
    finally:
        replica.close()
        server.close()


def _talk(url: str, key: str) -> list[str]:
    """All kinds of answers, but none that repeats what it was asked."""
    texts = []
    metrics = {"Authorization": f"Bearer {SECRETS['metrics token']}"}
    body: dict[str, Any] = {"user_query": SECRETS["message"], "system_prompt": SECRETS["message"]}
    with httpx.Client(base_url=url, timeout=10) as client:
        for headers in (bearer(key), bearer(key + "x"), bearer(token(key=SECRETS["jwt key"])), {}, metrics):
            for path in ("/health", "/readyz", "/metrics", "/v1/sessions", "/v1/models", "/nothing"):
                answer = client.get(path, headers=headers)
                texts.append(json.dumps(dict(answer.headers)) + answer.text)
            for path in ("/chat", "/api/chat", "/v1/chat/completions", "/v1/sessions/s/turns"):
                answer = client.post(path, json={**body, "temperature": "hot"}, headers=headers)
                texts.append(json.dumps(dict(answer.headers)) + answer.text)
            answer = client.post("/chat", json=body, headers=headers)
            texts.append(json.dumps(dict(answer.headers)))
    return texts
