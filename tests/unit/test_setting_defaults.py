"""What holds where nothing is set: on a developer's machine, in production, and where callers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from service.config.settings import Settings
from tests.unit.test_settings import PRODUCTION

# In the order of settings.py; times are in s, sizes in bytes.
LOCAL: Final[dict[str, Any]] = {
    "env": "local",
    "host": "127.0.0.1",
    "port": 8000,
    "workers": 1,
    "max_requests": 0,
    "log_level": "info",
    "log_format": "console",
    "hosts": (),
    "cors_origins": ("http://localhost:5173", "http://localhost:3000", "http://localhost:8080"),
    "trusted_proxies": (),
    "docs": True,
    "metrics_port": None,
    "metrics_token": None,
    "drain_seconds": 60.0,
    "drain_delay_seconds": 0.0,
    "secrets_dir": Path("/run/secrets"),
    "redis_password": None,
    "redis_url": None,
    "redis_key_prefix": "chat",
    "redis_timeout_seconds": 2.0,
    "redis_wait_replicas": 0,
    "redis_wait_seconds": 0.5,
    "store_hold_seconds": 15.0,
    "data_dir": Path(".chat"),
    "store_kind": "redis",
    "session_ttl_seconds": 2_592_000,
    "ephemeral_ttl_seconds": 3600,
    "log_ttl_seconds": 86_400,
    "idempotency_ttl_seconds": 86_400,
    "model": None,
    "title_model": None,
    "models_file": None,
    "on_takeover": "restart",
    "groq_api_key": None,
    "groq_api_keys": None,
    "groq_api_keys_file": None,
    "provider_key_weights": None,
    "groq_base_url": None,
    "upstream_kind": "groq",
    "demo_url": None,
    "first_token_timeout_seconds": 30.0,
    "idle_timeout_seconds": 15.0,
    "turn_timeout_seconds": 600.0,
    "retry_budget_seconds": 10.0,
    "max_attempts": 3,
    "lease_seconds": 5.0,
    "orphan_seconds": 10.0,
    "hold_seconds": 15.0,
    "heartbeat_seconds": 15.0,
    "flush_window_seconds": 0.04,
    "local_cache": True,
    "max_body_bytes": 1_048_576,
    "max_image_bytes": 5_242_880,
    "max_image_body_bytes": 8_388_608,
    "image_fallback": False,
    "max_queued_turns": 4,
    "max_versions": 10,
    "max_running_turns": 2000,
    "auth": ("none",),
    "secret": None,
    "jwt_key": None,
    "jwt_jwks_url": None,
    "jwt_algorithms": None,
    "jwt_issuer": (),
    "jwt_audience": (),
    "jwt_scope_claim": ("scope", "scp", "permissions"),
    "jwt_groups_claim": "groups",
    "jwt_required_scope": None,
    "jwt_admin_scope": None,
    "jwt_leeway_seconds": 30.0,
    "oidc_client_id": None,
    "oidc_scopes": "openid profile offline_access",
    "oidc_audience": None,
    "oidc_token": "access",
    "oidc_origins": (),
    "limit_sends": "",
    "limit_reads": "",
    "limit_window": "moving",
    "max_running_turns_per_principal": 0,
    "max_open_streams_per_principal": 0,
    "max_sessions_per_principal": 0,
    "max_stored_bytes_per_principal": 0,
    "budget_tokens_per_minute": None,
    "budget_tokens_per_day": None,
    "budget_tokens_per_month": None,
    "budget_money_per_day": None,
    "budget_money_per_month": None,
    "webhook_url": None,
    "webhook_secret": None,
    "webhook_text": False,
    "webhook_allow_private": False,
    "otlp_endpoint": None,
}
IN_PRODUCTION: Final[dict[str, Any]] = {
    "env": "production",
    "log_format": "json",
    "cors_origins": (),
    "drain_delay_seconds": 5.0,
    "auth": ("keys",),
}
OF_CALLERS: Final[dict[str, Any]] = {
    "limit_sends": "100/minute",
    "limit_reads": "1200/minute",
    "max_running_turns_per_principal": 20,
    "max_open_streams_per_principal": 100,
    "max_sessions_per_principal": 20_000,
    "max_stored_bytes_per_principal": 67_108_864,
}


def settings(**given: Any) -> dict[str, Any]:
    found = Settings(_env_file=None, **given)
    return {name: getattr(found, name) for name in Settings.model_fields if name not in given}


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        monkeypatch.delenv(str(field.validation_alias or f"CHAT_{name.upper()}"), raising=False)


def test_on_a_developers_machine() -> None:
    assert settings() == LOCAL


def test_in_production() -> None:
    expected = {**LOCAL, **IN_PRODUCTION, **OF_CALLERS}
    assert settings(**PRODUCTION) == {name: expected[name] for name in LOCAL if name not in PRODUCTION}


def test_where_callers_are_known() -> None:
    expected = {**LOCAL, **OF_CALLERS}
    assert settings(auth="keys") == {name: expected[name] for name in LOCAL if name != "auth"}


def test_what_is_set_to_nothing_is_off_and_not_the_default() -> None:
    off = Settings(_env_file=None, auth="keys", limit_sends="", limit_reads="", cors_origins="")
    assert (off.limit_sends, off.limit_reads, off.cors_origins) == ("", "", ())
    unset = Settings(_env_file=None, auth=" , ", log_format=" ", groq_api_key=",")
    assert (unset.auth, unset.log_format) == (("none",), "console")
    assert unset.groq_api_key is not None
    assert unset.groq_api_key.get_secret_value() == ","  # a key of commas is one
    assert Settings(_env_file=None, log_level="DEBUG").log_level == "debug"


@pytest.mark.parametrize("prefix", ["", "a b", "a{b", "x" * 33, "a*"])
def test_a_prefix_of_keys_has_32_plain_characters(prefix: str) -> None:
    assert Settings(_env_file=None, redis_key_prefix="x" * 32).redis_key_prefix == "x" * 32
    with pytest.raises(ValueError, match="redis_key_prefix"):
        Settings(_env_file=None, redis_key_prefix=prefix)


@pytest.mark.parametrize("name", ["lease_seconds", "turn_timeout_seconds", "jwt_leeway_seconds"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_no_time_is_endless(name: str, value: str) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=name):
        Settings(_env_file=None, **given)
