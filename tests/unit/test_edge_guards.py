"""Who is let in at the edge, below which path we link, and what is told to whom no route has answered."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from service.api.handlers import refuse, respond
from service.api.hosts import Hosts
from service.api.origins import Origins
from service.api.prefixes import Prefixes, below
from service.config.settings import Settings
from service.errors import ServiceError
from tests.support.asgi import scope


def settings(**more: Any) -> Settings:
    return Settings(_env_file=None, **more)


# The path of a proxy


@pytest.mark.parametrize(
    ("peer", "header", "prefix"),
    [
        ("10.0.0.1", "/chat", "/chat"),
        ("10.0.0.1", "/a/b/", "/a/b"),
        ("10.0.0.1", "/a, /b", "/a/b"),
        ("10.0.0.1", "//evil.example", ""),
        ("10.0.0.1", "/../x", ""),
        ("10.0.0.1", "https://evil.example", ""),
        ("203.0.113.9", "/chat", ""),
    ],
)
def test_a_prefix_is_believed_from_a_proxy_of_ours_and_where_it_is_a_path(
    peer: str, header: str, prefix: str
) -> None:
    prefixes = Prefixes(settings(trusted_proxies="10.0.0.0/8"))
    assert prefixes.take_off(scope(peer=peer, x_forwarded_prefix=header)) == prefix


def test_a_prefix_has_eight_segments_at_most() -> None:
    prefixes = Prefixes(settings(trusted_proxies="10.0.0.0/8"))
    found = [prefixes.take_off(scope(x_forwarded_prefix="/a" * count)) for count in (8, 9)]
    assert found == ["/a" * 8, ""]


def test_a_mounted_service_takes_its_path_off_and_links_with_it() -> None:
    asked = {**scope("/mnt/v1/models"), "root_path": "/mnt"}
    assert Prefixes(settings()).take_off(asked) == "/mnt"
    assert (asked["path"], asked["root_path"]) == ("/v1/models", "")
    assert Prefixes(settings()).take_off({**scope("/mnt"), "root_path": "/mnt"}) == "/mnt"
    other = {**scope("/mntother"), "root_path": "/mnt"}  # a server that leaves the path alone
    Prefixes(settings()).take_off(other)
    assert other["path"] == "/mntother"
    headers = [(b"location", b"/v1/x"), (b"location", b"https://x.example/"), (b"etag", b"/v1/x")]
    assert below("/mnt", headers) == [(b"location", b"/mnt/v1/x"), *headers[1:]]
    assert below("", headers) == headers


# Who may ask


def test_a_request_has_one_host_and_without_keys_it_is_this_machine_s_or_a_named_one() -> None:
    hosts = Hosts(settings(hosts="chat.example.com", trusted_proxies="10.0.0.0/8"))

    def code(*names: str, path: str = "/chat", version: str = "1.1", **headers: str) -> str | None:
        asked = {**scope(path, **headers), "http_version": version}
        asked["headers"] = [*asked["headers"], *((b"host", name.encode()) for name in names)]
        error = hosts.refusal(asked)
        return None if error is None else error.code

    for name in (
        "localhost",
        "localhost:8000",
        "127.0.0.1",
        "[::1]:80",
        "chat.example.com",
        "CHAT.example.com:443",
    ):
        assert code(name) is None, name
    for name in ("evil.example", "chat.example.com.evil.example", "10.0.0.7", ""):
        assert code(name) == "misdirected_request", name
    assert code() == "invalid_request"
    assert code(version="1.0") is None
    assert code("localhost", "localhost") == "invalid_request"
    assert code("localhost", x_forwarded_host="evil.example") == "misdirected_request"
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        assert code("10.0.0.7", path=path) is None
    keys = Hosts(settings(auth="keys"))
    assert keys.refusal(scope(host="anything.example")) is None


@pytest.mark.parametrize(
    ("method", "headers", "let_in"),
    [
        ("POST", {}, True),
        ("POST", {"origin": "http://chat.example.com"}, True),
        ("POST", {"origin": "https://app.example.com"}, True),
        ("POST", {"origin": "HTTPS://App.Example.com"}, True),
        ("POST", {"origin": "https://evil.example"}, False),
        ("POST", {"origin": "null"}, False),
        ("POST", {"sec_fetch_site": "cross-site"}, False),
        ("POST", {"sec_fetch_site": "same-site"}, False),
        ("POST", {"origin": "https://evil.example", "sec_fetch_site": "same-origin"}, True),
        ("PATCH", {"origin": "https://evil.example"}, False),
        ("DELETE", {"origin": "https://evil.example"}, False),
        *((method, {"origin": "https://evil.example"}, True) for method in ("GET", "HEAD", "OPTIONS")),
    ],
)
def test_pages_of_other_origins_change_nothing(method: str, headers: dict[str, str], let_in: bool) -> None:
    origins = Origins(settings(cors_origins="https://app.example.com"))
    error = origins.refusal(scope("/chat", method, host="chat.example.com", **headers))
    assert (error is None) is let_in
    assert error is None or error.code == "forbidden"


def test_of_two_origins_both_have_to_be_allowed() -> None:
    asked = scope("/chat", "POST", host="chat.example.com", origin="https://evil.example")
    asked["headers"].append((b"origin", b"http://chat.example.com"))
    assert Origins(settings()).refusal(asked) is not None


# Errors


@pytest.mark.parametrize(
    ("wait", "told"),
    [(None, None), (1, None), (60, None), (61, "false"), (3_600, "false")],
)
def test_sdks_are_not_told_to_sleep_for_longer_than_they_obey(wait: float | None, told: str | None) -> None:
    answer = respond("/v1/chat/completions", ServiceError("rate_limited", "No.", retry_after=wait))
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers.get("x-should-retry") == told
    assert answer.headers.get("retry-after") == (None if wait is None else str(wait))


def test_what_no_route_has_answered_below_v1_is_told_as_openai_s_clients_read_it() -> None:
    app = FastAPI()
    app.get("/v1/sessions")(lambda: None)
    for path, method, kind in (
        ("/v1/nothing", "GET", "application/json"),
        ("/v1/sessions", "PUT", "application/json"),
        ("/v1/sessions", "GET", "application/problem+json"),
        ("/nothing", "GET", "application/problem+json"),
    ):
        answer = refuse({**scope(path, method), "app": app}, ServiceError("not_found", "No."))
        assert (answer.status_code, answer.headers["content-type"]) == (404, kind), path
