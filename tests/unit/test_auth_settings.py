"""Identity in the settings: what makes no sense or is not safe does not start."""

from __future__ import annotations

from typing import Any

import pytest

from service.config.loading import load_settings
from service.config.settings import SettingsError
from tests.support.issuer import private_key, public_pem

SECRET = "s" * 32
PEM = public_pem(private_key("RS256"))
EC_PEM = public_pem(private_key("ES256"))
BROKEN_PEM = "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----"
JWKS = "https://issuer.example/jwks.json"
PRODUCTION = {"env": "production", "GROQ_API_KEY": "gsk_x", "redis_url": "redis://localhost"}
PUBLIC = {"auth": "jwt", "jwt_key": PEM}
WIDE = {"auth": "jwt", "jwt_issuer": "i", "jwt_audience": "*"}


def load(**values: Any) -> Any:
    return load_settings(_env_file=None, **values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"auth": "nobody"}, "'nobody' is not one of none, keys, jwt"),
        ({"auth": "none,keys"}, "none cannot be combined"),
        ({**PRODUCTION, "auth": "none"}, "none is for local use"),
        ({"auth": "jwt"}, "needs either CHAT_JWT_KEY or CHAT_JWT_JWKS_URL"),
        ({"auth": "jwt", "jwt_key": SECRET, "jwt_jwks_url": JWKS}, "needs either"),
        ({"auth": "jwt", "jwt_key": SECRET, "jwt_algorithms": "RS256"}, "RS256 cannot be used with a plain"),
        ({"auth": "jwt", "jwt_key": PEM, "jwt_algorithms": "HS256"}, "HS256 cannot be used with public keys"),
        ({"auth": "jwt", "jwt_jwks_url": JWKS, "jwt_algorithms": "HS256"}, "HS256 cannot be used with"),
        ({"auth": "jwt", "jwt_key": SECRET, "jwt_algorithms": "none"}, "'none' is not one of"),
        ({"auth": "jwt", "jwt_key": SECRET, "jwt_algorithms": "HS256,NONE"}, "'NONE' is not one of"),
        ({"auth": "jwt", "jwt_key": PEM.replace("PUBLIC", "PRIVATE")}, "the issuer's public key"),
        ({"auth": "jwt", "jwt_key": BROKEN_PEM}, "CHAT_JWT_KEY: the PEM cannot be read"),
        ({"auth": "jwt", "jwt_key": BROKEN_PEM, "jwt_algorithms": "EdDSA"}, "the PEM cannot be read"),
        ({"auth": "jwt", "jwt_key": PEM, "jwt_algorithms": "ES256,EdDSA"}, "key is none for ES256, EdDSA"),
        ({"auth": "jwt", "jwt_key": EC_PEM, "jwt_algorithms": "RS256"}, "ALGORITHMS to one of ES256."),
        ({"auth": "jwt", "jwt_key": EC_PEM, "jwt_algorithms": "ES384"}, "ALGORITHMS to one of ES256."),
        ({**PRODUCTION, "auth": "jwt", "jwt_key": "short"}, "at least 32 characters"),
        ({"auth": "jwt", "jwt_key": SECRET}, "CHAT_JWT_ALGORITHMS=HS256"),
        ({"auth": "jwt", "jwt_key": SECRET, "jwt_algorithms": ""}, "CHAT_JWT_ALGORITHMS=HS256"),
        ({**PRODUCTION, **PUBLIC, "jwt_audience": "a"}, "CHAT_JWT_ISSUER: is missing"),
        ({**PRODUCTION, **PUBLIC, "jwt_issuer": "i"}, "CHAT_JWT_AUDIENCE: is missing"),
        ({**PRODUCTION, **WIDE, "jwt_jwks_url": "http://i.example/k"}, "has to be https:// in production"),
        ({**PRODUCTION, **WIDE, "jwt_jwks_url": "http://127.0.0.1.nip.io/k"}, "has to be https://"),
        ({"secret": "short"}, "at least 32 characters"),
        ({"jwt_jwks_url": "file:///etc/passwd"}, "has to start with http"),
        ({"limit_sends": "lots"}, 'a limit looks like "100/minute"'),
        ({"limit_sends": "1/minute;x"}, 'a limit looks like "100/minute"'),
        ({"limit_window": "sliding"}, "CHAT_LIMIT_WINDOW"),
        ({"trusted_proxies": "10.0.0.0/99"}, "CHAT_TRUSTED_PROXIES"),
    ],
)
def test_a_wrong_identity_setting_is_one_sentence_and_no_start(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(**values)
    assert sentence in str(raised.value)
    assert SECRET not in str(raised.value)


def test_production_has_keys_and_local_has_none_unless_set() -> None:
    assert load(**PRODUCTION).auth == ("keys",)
    assert load().auth == load(auth="").auth == load(auth=" , ").auth == ("none",)
    assert load(auth="keys, jwt", jwt_key=SECRET, jwt_algorithms="HS256").auth == ("keys", "jwt")


def test_the_allowed_algorithms_follow_the_kind_of_key() -> None:
    assert load(auth="jwt", jwt_key=SECRET, jwt_algorithms="HS256").jwt_allowed == ("HS256",)
    assert load(auth="jwt", jwt_key=PEM).jwt_allowed == ("RS256", "ES256")
    assert load(auth="jwt", jwt_key=EC_PEM.replace("\n", "\\n")).jwt_allowed == ("RS256", "ES256")
    assert load(auth="jwt", jwt_key=EC_PEM, jwt_algorithms="ES256,RS512").jwt_allowed == ("ES256", "RS512")
    assert load(auth="jwt", jwt_jwks_url=JWKS).jwt_allowed == ("RS256", "ES256")
    assert load(auth="jwt", jwt_key=SECRET, jwt_algorithms="HS512").jwt_allowed == ("HS512",)


def test_production_takes_tokens_of_named_issuers_for_named_audiences() -> None:
    for key in ({"jwt_jwks_url": JWKS}, {"jwt_jwks_url": "http://127.0.0.1:8080/k"}, {"jwt_key": PEM}):
        assert load(**PRODUCTION, **WIDE, **key).jwt_audience == ("*",)


def test_secrets_do_not_show_in_the_settings_text() -> None:
    settings = load(
        auth="jwt",
        jwt_key=SECRET,
        jwt_algorithms="HS256",
        secret="t" * 32,
        redis_url="redis://:hunter2@localhost",
        metrics_token="metrics-token",
        GROQ_API_KEY="gsk_groq",
    )
    for text in (repr(settings), str(settings.model_dump())):
        for secret in (SECRET, "t" * 32, "hunter2", "metrics-token", "gsk_groq"):
            assert secret not in text


def test_limits_are_off_for_nobody_and_on_for_principals() -> None:
    assert [load().limit_sends, load().limit_reads] == ["", ""]
    assert load(limit_sends="5/minute").limit_sends == "5/minute"
    keys = load(auth="keys")
    assert [keys.limit_sends, keys.limit_reads] == ["100/minute", "1200/minute"]
    assert load(auth="keys", limit_sends="").limit_sends == ""


BOUNDS = (
    "max_running_turns_per_principal",
    "max_open_streams_per_principal",
    "max_sessions_per_principal",
    "max_stored_bytes_per_principal",
)


def test_bounds_are_off_for_nobody_and_on_for_principals_unless_each_is_set() -> None:
    assert [getattr(load(), name) for name in BOUNDS] == [0, 0, 0, 0]
    assert [getattr(load(auth="keys"), name) for name in BOUNDS] == [20, 100, 20_000, 67_108_864]
    own = dict(zip(BOUNDS, (1, 2, 3, 4), strict=True))
    for auth in ("none", "keys"):
        assert [getattr(load(auth=auth, **own), name) for name in BOUNDS] == [1, 2, 3, 4]
        assert [getattr(load(auth=auth, **dict.fromkeys(BOUNDS, 0)), name) for name in BOUNDS] == [0, 0, 0, 0]
