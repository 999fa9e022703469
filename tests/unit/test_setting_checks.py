"""What settings must be beyond their types: webhooks, addresses of a sign-in, limits, networks, keys."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from service.config.identity import origin_of
from service.config.loading import load_settings
from service.config.settings import Settings, SettingsError
from service.config.webhook import check_receiver, key_of
from tests.unit.test_settings import PRODUCTION


def whsec(size: int) -> SecretStr:
    return SecretStr("whsec_" + base64.b64encode(b"k" * size).decode())


def test_a_webhook_s_secret_has_24_to_64_bytes_in_base64() -> None:
    for size in (24, 64):
        assert key_of(whsec(size)) == b"k" * size
        assert key_of(SecretStr(whsec(size).get_secret_value().removeprefix("whsec_"))) == b"k" * size
    whole = whsec(32).get_secret_value()
    for wrong in (whsec(23), whsec(65), SecretStr(whole[:10] + "!" + whole[10:]), SecretStr("")):
        with pytest.raises(ValueError, match=r"^CHAT_WEBHOOK_SECRET: is whsec_ and base64 of 24 to 64 bytes"):
            key_of(wrong)


def test_a_receiver_is_an_address_of_2000_plain_characters_without_a_password() -> None:
    for url in ("https://h.example/a?b=c", "https://h.example:8443", "https://h/" + "x" * (2_000 - 10)):
        check_receiver(url, private=False)
    check_receiver("http://127.0.0.1:9/hook", private=True)
    for url in (
        *("https://h/" + "x" * (2_001 - 10), "https://h/a b", "https://h/\u00e4", "https://", "ftp://h/"),
        *("https://h:0/", "https://user@h/", "https://user:word@h/", "http://h/"),
    ):
        with pytest.raises(ValueError, match=r"URL|password|https"):
            check_receiver(url, private=False)


def test_an_address_of_the_sign_in_becomes_the_origin_that_browsers_know() -> None:
    assert origin_of("X", "https://ID.example.com:/realms/a") == "https://id.example.com"
    assert origin_of("X", "https://id.example.com:8443") == "https://id.example.com:8443"
    assert origin_of("X", "http://localhost:8080/a") == "http://localhost:8080"
    for wrong in (
        "https://id.example.com?a=b",
        "https://id.example.com#a",
        "ftp://id",
        "id",
        "http://id.example",
    ):
        with pytest.raises(ValueError, match=r"^X: "):
            origin_of("X", wrong)


def test_a_limit_is_kept_without_its_blanks_and_each_part_of_it_is_one() -> None:
    assert Settings(_env_file=None, limit_sends=" 7/minute ").limit_sends == "7/minute"
    assert Settings(_env_file=None, limit_sends="7 per 2 hours;9/Day").limit_sends == "7 per 2 hours;9/Day"
    for wrong in ("7/minute;", "7/minute;lots", "7", "/minute", "7/fortnight", "-7/minute"):
        with pytest.raises(ValidationError, match="a limit looks like"):
            Settings(_env_file=None, limit_sends=wrong)


def test_a_network_may_be_named_by_any_address_in_it() -> None:
    given: Any = "10.1.2.3/8, 127.0.0.1 ,,fd00::1/8"
    found = Settings(_env_file=None, trusted_proxies=given)
    assert found.trusted_proxies == ("10.1.2.3/8", "127.0.0.1", "fd00::1/8")
    with pytest.raises(ValidationError):
        Settings(_env_file=None, trusted_proxies=("10.0.0.0/33",))


def test_the_scopes_of_a_sign_in_hold_the_word_openid() -> None:
    given: dict[str, Any] = {
        "auth": "jwt",
        "jwt_jwks_url": "https://id.example.com/keys",
        "jwt_issuer": "https://id.example.com",
        "oidc_client_id": "page",
    }
    assert Settings(_env_file=None, oidc_scopes="profile openid", **given).oidc_client_id == "page"
    with pytest.raises(ValidationError, match="CHAT_OIDC_SCOPES: has to hold openid"):
        Settings(_env_file=None, oidc_scopes="profile openidx", **given)


def test_production_takes_a_key_from_wherever_it_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("a=gsk_1\n")
    bare = {name: value for name, value in PRODUCTION.items() if name != "groq_api_key"}
    for more in ({"groq_api_key": "gsk_1"}, {"groq_api_keys": "a=gsk_1"}, {"groq_api_keys_file": file}):
        assert load_settings(_env_file=None, **bare, **more).has_provider_key
    with pytest.raises(SettingsError, match=r"^GROQ_API_KEY: is missing; production needs a key"):
        load_settings(_env_file=None, **bare)
    with pytest.raises(SettingsError, match=r"^GROQ_API_KEY: is missing; GROQ_API_KEYS and its file"):
        load_settings(_env_file=None, **bare, groq_api_keys="# none")
    with pytest.raises(SettingsError, match=r"^CHAT_PROVIDER_KEY_WEIGHTS: 'a' is not name=weight"):
        load_settings(_env_file=None, provider_key_weights="a")
