"""A wrong setting stops the boot with a sentence that says what to change."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from service.config.loading import load_settings, unknown_names
from service.config.redis_url import without_credentials
from service.config.settings import SettingsError
from service.config.webhook import key_of, new_secret
from service.store.connection.connecting import _addresses
from service.telemetry.logs import configure, warn_of
from service.upstream.models import load_catalogue

PRODUCTION: dict[str, Any] = {"env": "production", "groq_api_key": "gsk_x", "redis_url": "redis://h"}

WHSEC = new_secret()
WAITING: dict[str, Any] = {"redis_url": "redis://h", "redis_wait_replicas": 1}

OIDC: dict[str, Any] = {
    "auth": "jwt",
    "jwt_jwks_url": "https://i.example/jwks",
    "jwt_issuer": "https://i.example",
    "jwt_audience": "chat",
    "oidc_client_id": "page",
}

HOST = "CHAT_REDIS_URL: each host in the URL is host or host:port"
DATABASE = "CHAT_REDIS_URL: the database, which ends the path in the URL, has to be a number"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"port": "x"}, "CHAT_PORT: input should be a valid integer"),
        ({"port": 99999}, "CHAT_PORT: input should be less than or equal to 65535"),
        ({"workers": 0}, "CHAT_WORKERS: "),
        ({"env": "prod"}, "CHAT_ENV: input should be 'local' or 'production'"),
        ({"redis_url": "http://h"}, "CHAT_REDIS_URL: the URL has to start with one of redis://"),
        ({"redis_url": "redis://h:x"}, HOST),
        ({"redis_url": "redis://:gsk_x#y@h:1"}, HOST),
        (
            {"redis_url": "redis://:se[gsk_x]y@h:1"},
            HOST,
        ),
        (
            {"redis_url": "redis://:gsk_x\u2100@h:x"},
            HOST,
        ),
        ({"redis_url": "redis://h:0"}, HOST),
        ({"redis_url": "redis://a:1,b:2/0"}, HOST),
        ({"redis_url": "redis+cluster://"}, HOST),
        ({"redis_url": "redis+sentinel://a:1,:2/x"}, HOST),
        ({"redis_url": "redis://:gsk_x@h:1/main"}, DATABASE),
        ({"redis_url": "redis://h?db=main"}, DATABASE),
        ({"redis_url": "redis+sentinel://h/main/first"}, DATABASE),
        ({"redis_url": "unix://"}, "CHAT_REDIS_URL: unix:// needs the path of a socket"),
        ({"session_ttl_seconds": "99999999999999999999"}, "CHAT_SESSION_TTL_SECONDS: input should be less"),
        ({"log_ttl_seconds": 315_360_001}, "CHAT_LOG_TTL_SECONDS: input should be less"),
        ({"log_ttl_seconds": 3600}, "CHAT_LOG_TTL_SECONDS: 3600 s end before the 86400 s of"),
        ({"session_ttl_seconds": 5}, "CHAT_SESSION_TTL_SECONDS: 5 s end before an answer may; set it to at"),
        ({"ephemeral_ttl_seconds": 659}, "CHAT_EPHEMERAL_TTL_SECONDS: 659 s end before an answer may"),
        ({"turn_timeout_seconds": 3541}, "CHAT_EPHEMERAL_TTL_SECONDS: 3600 s end before an answer may"),
        ({"log_ttl_seconds": 4, "idempotency_ttl_seconds": 4}, "CHAT_LOG_TTL_SECONDS: 4 s end before an"),
        ({"hold_seconds": 601}, "CHAT_HOLD_SECONDS: a status line cannot be held longer than an answer may"),
        ({"hold_seconds": 0}, "CHAT_HOLD_SECONDS: input should be greater than 0"),
        ({"redis_wait_replicas": 1}, "CHAT_REDIS_WAIT_REPLICAS: needs CHAT_REDIS_URL"),
        (
            {**WAITING, "redis_timeout_seconds": 0.8},
            "CHAT_REDIS_WAIT_SECONDS: 0.5 s are more than half of CHAT_REDIS_TIMEOUT_SECONDS",
        ),
        (
            {**WAITING, "lease_seconds": 1},
            "CHAT_REDIS_WAIT_SECONDS: 0.5 s are more than a third of CHAT_LEASE_SECONDS",
        ),
        (
            {**WAITING, "store_hold_seconds": 0.5},
            "CHAT_REDIS_WAIT_SECONDS: 0.5 s are more than half of CHAT_STORE_HOLD_SECONDS",
        ),
        ({"orphan_seconds": "inf"}, "CHAT_ORPHAN_SECONDS: input should be a finite number"),
        ({"turn_timeout_seconds": "nan"}, "CHAT_TURN_TIMEOUT_SECONDS: input should be a finite number"),
        ({"retry_budget_seconds": 1e300}, "CHAT_RETRY_BUDGET_SECONDS: input should be less"),
        ({"GROQ_BASE_URL": "https://"}, "GROQ_BASE_URL: the URL needs a host"),
        ({"GROQ_BASE_URL": "http:/gsk_x"}, "GROQ_BASE_URL: the URL needs a host"),
        ({"GROQ_BASE_URL": "http://x:gsk_x"}, "GROQ_BASE_URL: the URL needs a host"),
        ({"GROQ_BASE_URL": "http://[gsk_x"}, "GROQ_BASE_URL: the URL needs a host"),
        ({"demo_url": "http://x:0"}, "CHAT_DEMO_URL: the URL needs a host"),
        ({"otlp_endpoint": "http://x:99999"}, "CHAT_OTLP_ENDPOINT: the URL needs a host"),
        ({"limit_sends": "lots"}, 'CHAT_LIMIT_SENDS: a limit looks like "100/minute"'),
        ({"limit_sends": "\uff11\uff10/minute"}, 'CHAT_LIMIT_SENDS: a limit looks like "100/minute"'),
        ({"limit_reads": "1/\u017fecond"}, 'CHAT_LIMIT_READS: a limit looks like "100/minute"'),
        ({"cors_origins": "localhost"}, "CHAT_CORS_ORIGINS: 'localhost' is not an origin"),
        ({"trusted_proxies": "nowhere"}, "CHAT_TRUSTED_PROXIES: "),
        ({"auth": "magic"}, "CHAT_AUTH: 'magic' is not one of none, keys, jwt"),
        ({"auth": "none,keys"}, "CHAT_AUTH: none cannot be combined"),
        ({"auth": "jwt"}, "CHAT_AUTH: jwt needs either CHAT_JWT_KEY or CHAT_JWT_JWKS_URL"),
        ({"oidc_client_id": "page"}, "CHAT_OIDC_CLIENT_ID: needs jwt in CHAT_AUTH"),
        ({**OIDC, "jwt_issuer": ""}, "CHAT_OIDC_CLIENT_ID: needs CHAT_JWT_ISSUER"),
        ({**OIDC, "jwt_issuer": "my-issuer"}, "CHAT_JWT_ISSUER: the page cannot sign in there"),
        ({**OIDC, "jwt_issuer": "https://i.example?x"}, "CHAT_JWT_ISSUER: the page cannot sign in there"),
        ({**OIDC, "jwt_issuer": "https://i.example;x"}, "CHAT_JWT_ISSUER: the page cannot sign in there"),
        ({**OIDC, "jwt_issuer": "https://u:gsk_x@i.example"}, "CHAT_JWT_ISSUER: the page cannot sign in"),
        ({**OIDC, "jwt_issuer": "http://i.example"}, "CHAT_JWT_ISSUER: has to be https://"),
        ({**OIDC, "oidc_origins": "https://*"}, "CHAT_OIDC_ORIGINS: the page cannot sign in there"),
        ({**OIDC, "oidc_scopes": "profile"}, "CHAT_OIDC_SCOPES: has to hold openid"),
        ({**OIDC, "oidc_token": "refresh"}, "CHAT_OIDC_TOKEN: input should be 'access' or 'id'"),
        ({**OIDC, "oidc_token": "id"}, "CHAT_OIDC_TOKEN: the audience of an id token is CHAT_OIDC_CLIENT_ID"),
        ({"groq_base_url": "ftp://h"}, "GROQ_BASE_URL: the URL has to start with http:// or https://"),
        ({"jwt_jwks_url": "https://:8"}, "CHAT_JWT_JWKS_URL: the URL needs a host"),
        ({"otlp_endpoint": "http://h:0"}, "CHAT_OTLP_ENDPOINT: the URL needs a host"),
        ({"webhook_url": "https://h"}, "CHAT_WEBHOOK_SECRET: is missing"),
        ({"webhook_url": "http://h", "webhook_secret": WHSEC}, "CHAT_WEBHOOK_URL: is https://, unless"),
        ({"webhook_url": "https://u@h", "webhook_secret": WHSEC}, "CHAT_WEBHOOK_URL: may hold no password"),
        ({"webhook_url": "https://:p@h", "webhook_secret": WHSEC}, "CHAT_WEBHOOK_URL: may hold no password"),
        ({"webhook_url": "https://h", "webhook_secret": "whsec_eHg="}, "CHAT_WEBHOOK_SECRET: is whsec_ and"),
        ({"webhook_url": "https://h", "webhook_secret": "whsec_?"}, "CHAT_WEBHOOK_SECRET: is whsec_ and"),
        ({"metrics_port": 8000}, "CHAT_METRICS_PORT: is CHAT_PORT; take another, or leave it out."),
        ({**PRODUCTION, "auth": "none"}, "CHAT_AUTH: none is for local use"),
        ({**PRODUCTION, "groq_api_key": None}, "GROQ_API_KEY: is missing"),
        ({**PRODUCTION, "redis_url": None}, "CHAT_REDIS_URL: is missing"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=r"CHAT_|GROQ_") as caught:
        load_settings(_env_file=None, **values)
    assert str(caught.value).startswith(sentence)
    assert "gsk_x" not in str(caught.value)


def test_a_sentinel_may_have_an_address_of_either_kind() -> None:
    url = "redis+sentinel://:p%40w@[::1]:26379,[fe80::2],host:1,other/m?sentinel_password=x"
    assert load_settings(_env_file=None, redis_url=url).redis_url is not None
    assert _addresses(url, 26379) == [("::1", 26379), ("fe80::2", 26379), ("host", 1), ("other", 26379)]
    assert without_credentials(url) == "redis+sentinel://[::1]:26379,[fe80::2],host:1,other/m"


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/",
        "redis://h/3",
        "rediss://h?db=3",
        "unix:///run/redis.sock?db=3",
        "redis+cluster://h/",
        "redis+sentinel://h",
        "redis+sentinel://h/main",
        "redis+sentinel://h/main/3",
    ],
)
def test_a_database_is_a_number_or_not_named(url: str) -> None:
    assert load_settings(_env_file=None, redis_url=url).redis_url is not None


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load_settings(_env_file=None)
    assert (settings.lease_seconds, settings.max_attempts, settings.drain_seconds) == (5, 3, 60)
    assert (settings.orphan_seconds, settings.hold_seconds) == (10, 15)
    assert (settings.store_hold_seconds, settings.max_body_bytes) == (15, 1_048_576)
    assert (settings.auth, settings.limit_sends, settings.drain_delay_seconds) == (("none",), "", 0)
    production = load_settings(_env_file=None, **PRODUCTION)
    assert (production.auth, production.drain_delay_seconds) == (("keys",), 5)
    assert production.limit_sends == "100/minute"
    assert load_settings(_env_file=None, limit_sends="").limit_sends == ""


def test_empty_values_are_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_REDIS_URL", "")
    monkeypatch.setenv("GROQ_API_KEY", "  ")
    settings = load_settings(_env_file=None)
    assert (settings.redis_url, settings.groq_api_key) == (None, None)


def test_unknown_names_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    before = unknown_names()
    monkeypatch.setenv("CHAT_PORT", "1")
    monkeypatch.setenv("CHAT_PROT", "1")
    assert set(unknown_names()) - set(before) == {"CHAT_PROT"}


def test_unknown_names_in_the_env_file_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("CHAT_TYPO=1\nCHAT_PORT=8001\nOTHER=1\n")
    assert "CHAT_TYPO" in unknown_names()
    assert not {"CHAT_PORT", "OTHER"} & set(unknown_names())


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({**PRODUCTION, "groq_base_url": "http://groq.internal"}, True),
        ({**PRODUCTION, "groq_base_url": "https://groq.internal"}, False),
        (PRODUCTION, False),
        ({"groq_base_url": "http://127.0.0.1:8001"}, False),
    ],
)
def test_a_provider_without_tls_is_warned_of_in_production(values: dict[str, Any], warned: bool) -> None:
    settings = load_settings(_env_file=None, log_format="json", **values)
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw)
    configure(settings, stream=stream, cache=False)  # whatever an earlier test has left
    warn_of(settings)
    lines = [json.loads(line) for line in raw.getvalue().splitlines()]
    found = [line["name"] for line in lines if line["event"] == "settings.plain_http"]
    assert found == (["GROQ_BASE_URL"] if warned else [])


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        (PRODUCTION, True),
        ({**PRODUCTION, "metrics_port": 9464}, False),
        ({**PRODUCTION, "metrics_token": "t"}, False),
        ({}, False),
    ],
)
def test_open_metrics_are_warned_of_in_production(values: dict[str, Any], warned: bool) -> None:
    settings = load_settings(_env_file=None, log_format="json", **values)
    raw = io.BytesIO()
    configure(settings, stream=io.TextIOWrapper(raw), cache=False)
    warn_of(settings)
    lines = [json.loads(line) for line in raw.getvalue().splitlines()]
    found = [(line["level"], line["name"]) for line in lines if line["event"] == "settings.open_metrics"]
    assert found == ([("warning", "CHAT_METRICS_TOKEN")] if warned else [])


def test_secrets_do_not_show() -> None:
    settings = load_settings(_env_file=None, groq_api_key="gsk_secret", redis_url="redis://:hunter2@h")
    assert "gsk_secret" not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_the_dead_models_of_the_original_contract_have_living_heirs() -> None:
    catalogue = load_catalogue(None, None)
    heirs = {
        name: catalogue.resolve(name).id
        for name in ("llama3-70b-8192", "llama3-8b-8192", "mixtral-8x7b-32768", "gemma-7b-it")
    }
    assert heirs == {
        "llama3-70b-8192": "openai/gpt-oss-120b",
        "llama3-8b-8192": "openai/gpt-oss-20b",
        "mixtral-8x7b-32768": "openai/gpt-oss-120b",
        "gemma-7b-it": "openai/gpt-oss-20b",
    }
    assert catalogue.default.id == "openai/gpt-oss-120b"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the file names no model"),
        ("[[models]]\nid = 'a'", "model 'a' lacks context_window"),
        ("[[models]]\nid = 'a'\ncontext_window = 'x'\nmax_completion_tokens = 1", "of the wrong type"),
        (
            "[[models]]\nid = 'a'\ncontext_window = 9\nmax_completion_tokens = 1\nfallbacks = ['b']",
            "falls back to 'b'",
        ),
        (
            "[[models]]\nid = 'a'\ncontext_window = 9\nmax_completion_tokens = 1\non_takeover = 'x'",
            "on_takeover of a",
        ),
        ("not toml", "is not TOML"),
        ("# \udcff", "is not TOML"),
    ],
)
def test_a_wrong_models_file_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "models.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SettingsError, match="CHAT_MODELS_FILE: ") as caught:
        load_catalogue(file, None)
    assert sentence in str(caught.value)


def test_each_new_secret_of_a_webhook_is_another_and_has_32_bytes() -> None:
    keys = {key_of(SecretStr(new_secret())) for _ in range(9)}
    assert (len(keys), {len(key) for key in keys}) == (9, {32})
