"""What every response carries against misuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from service.api.hardening import Hardening
from service.config.settings import Settings

DATA = "default-src 'none'; frame-ancestors 'none'"


def added(
    scope: dict[str, Any] | None = None,
    given: list[tuple[bytes, bytes]] | None = None,
    limits: Sequence[tuple[bytes, bytes]] = (),
    *,
    private: bool = False,
    **settings: Any,
) -> dict[str, str]:
    hardening = Hardening(Settings(_env_file=None, **settings))
    headers = hardening.headers(
        {"path": "/v1/sessions", "headers": [], **(scope or {})}, given or [], limits, private=private
    )
    assert len(headers) == len(dict(headers)), "a header twice"
    return {name.decode(): value.decode() for name, value in headers}


def test_an_answer_is_data_that_no_browser_runs_frames_or_guesses_at() -> None:
    assert added() == {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "content-security-policy": DATA,
    }


def test_a_page_keeps_its_own_policy() -> None:
    assert "content-security-policy" not in added(given=[(b"Content-Security-Policy", b"script-src 'self'")])


def test_no_path_has_a_wider_policy_than_its_own_page_says() -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/ui"):
        assert added({"path": path})["content-security-policy"] == DATA


def test_what_belongs_to_a_caller_is_not_kept_by_caches_unless_the_route_says_how() -> None:
    assert added(private=True)["cache-control"] == "no-store"
    assert "cache-control" not in added(given=[(b"cache-control", b"no-cache")], private=True)
    assert "cache-control" not in added()


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ({"scheme": "https"}, True),
        ({"scheme": "http"}, False),
        ({"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-proto", b"https")]}, True),
        ({"client": ("203.0.113.9", 1), "headers": [(b"x-forwarded-proto", b"https")]}, False),
    ],
)
def test_browsers_are_told_to_stay_on_https_in_production_where_they_came_by_it(
    scope: dict[str, Any], told: bool
) -> None:
    production: dict[str, Any] = {
        "env": "production",
        "GROQ_API_KEY": "gsk_x",
        "redis_url": "redis://localhost",
        "trusted_proxies": "10.0.0.0/8",
    }
    assert ("strict-transport-security" in added(scope, **production)) is told
    assert "strict-transport-security" not in added(scope, trusted_proxies="10.0.0.0/8")


def test_limits_headers_come_along() -> None:
    assert added(limits=[(b"ratelimit-limit", b"5")])["ratelimit-limit"] == "5"


def test_a_year_of_https_is_said() -> None:
    production: dict[str, Any] = {
        "env": "production",
        "GROQ_API_KEY": "gsk_x",
        "redis_url": "redis://localhost",
    }
    assert added({"scheme": "https"}, **production)["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in added({"scheme": "https"})
