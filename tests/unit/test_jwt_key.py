"""CHAT_JWT_KEY: a public key in any form is one, or is refused; it is never an HMAC secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from service.config.jwt_key import read_key, usable_keys
from service.config.loading import load_settings
from service.config.settings import SettingsError
from service.config.validators import JWT_SYMMETRIC
from tests.support.issuer import PrivateKey, private_key, public_jwk, public_pem

SECRET = "a secret of at least 32 characters"


def der(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def wrapped(text: str) -> str:
    return "\n".join(text[at : at + 64] for at in range(0, len(text), 64))


def certificate(key: PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
    return made.not_valid_after(datetime(2060, 1, 1, tzinfo=UTC)).sign(key, hashes.SHA256())


def ssh(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


PUBLIC: dict[str, Callable[[PrivateKey], str]] = {
    "PEM": public_pem,
    "PEM in one line": lambda key: public_pem(key).replace("\n", "\\n"),
    "PEM whose lines were joined by a shell": lambda key: public_pem(key).replace("\n", " "),
    "PEM in quotes": lambda key: f'"{public_pem(key)}"',
    "PEM after a byte order mark": lambda key: "\ufeff" + public_pem(key),
    "PEM in base64": lambda key: b64(public_pem(key).encode()),
    "base64 of DER": lambda key: b64(der(key)),
    "base64 of DER in lines": lambda key: wrapped(b64(der(key))),
    "base64 of DER with blanks around": lambda key: f"  {b64(der(key))}\n",
    "base64url of DER": lambda key: base64.urlsafe_b64encode(der(key)).rstrip(b"=").decode(),
    "hex of DER": lambda key: der(key).hex(),
    "hex of DER with colons": lambda key: der(key).hex(":"),
    "certificate": lambda key: certificate(key).public_bytes(Encoding.PEM).decode(),
    "certificate without armour": lambda key: b64(certificate(key).public_bytes(Encoding.DER)),
    "SSH": lambda key: ssh(key) + " somebody@example.com",
    "JWK": lambda key: json.dumps(public_jwk(key)),
    "JWK in lines": lambda key: json.dumps(public_jwk(key), indent=2),
    "JWK in base64": lambda key: b64(json.dumps(public_jwk(key)).encode()),
    "JWKS": lambda key: json.dumps({"keys": [public_jwk(key)]}),
}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("form", PUBLIC)
def test_a_public_key_in_any_form_is_that_key(form: str, algorithm: str, tmp_path: Path) -> None:
    key = private_key(algorithm)
    text = PUBLIC[form](key)
    file = tmp_path / "issuer"
    file.write_text(text, encoding="utf-8")
    for given in (text, str(file), f"file://{file}"):
        found = read_key(given)
        assert not found.secret
        if "JWK" in form:
            assert usable_keys(found.jwks, (algorithm,)).keys() == {None}
        else:
            assert found.pem == public_pem(key)
        settings = load_settings(_env_file=None, auth="jwt", jwt_key=given)
        assert not set(settings.jwt_allowed) & set(JWT_SYMMETRIC)
        with pytest.raises(SettingsError, match="HS256 cannot be used with public keys"):
            load_settings(_env_file=None, auth="jwt", jwt_key=given, jwt_algorithms="HS256")


def test_a_file_may_hold_der_and_its_name_may_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    key = private_key("RS256")
    (tmp_path / "issuer.der").write_bytes(der(key))
    (tmp_path / "issuer").write_bytes(der(key))
    for name in ("issuer.der", "./issuer", "issuer", "../" + tmp_path.name + "/issuer"):
        assert read_key(name).pem == public_pem(key), name


def pem_of(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def der_of(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


USELESS: dict[str, tuple[str, str]] = {
    "a private key": (pem_of(private_key("RS256")), "is a private key"),
    "a private key without armour": (b64(der_of(private_key("ES256"))), "is a private key"),
    "a private JWK": (json.dumps({**public_jwk(private_key("RS256")), "d": "x"}), "is a private key"),
    "two keys": (public_pem(private_key("RS256")) * 2, "holds several keys"),
    "a PEM cut short": (public_pem(private_key("RS256"))[:200], "the PEM cannot be read"),
    "armour only": ("-----BEGIN PUBLIC KEY-----", "the PEM cannot be read"),
    "RSA in base64 cut short": (b64(der(private_key("RS256")))[:101], "the DER cannot be read"),
    "EC in base64 cut short": (b64(der(private_key("ES256")))[:80], "the DER cannot be read"),
    "an SSH key cut short": (ssh(private_key("RS256"))[:60], "the SSH key cannot be read"),
    "a JWK cut short": (json.dumps(public_jwk(private_key("RS256")))[:-9], "looks like a JWK"),
    "a JWK without quotes": ("{kty:RSA,n:abc,e:AQAB}", "looks like a JWK"),
    "a JWK of a secret": ('{"kty":"oct","k":"c2VjcmV0"}', "is a symmetric JWK"),
    "a JWKS of nothing": ('{"keys":[]}', "holds no public key"),
    "other JSON": ('{"key":"value","of":"something else"}', "neither a JWK nor a JWKS"),
    "a list": ('["a","b"]', "neither a JWK nor a JWKS"),
    "a file that is not there": ("/etc/nothing-here/issuer.pem", "looks like the name of a file"),
    "a secret file that is not there": ("/run/secrets/jwt_key", "looks like the name of a file"),
    "a relative file that is not there": ("keys/issuer.pem", "looks like the name of a file"),
    "a file of a home": ("~/nothing/here", "looks like the name of a file"),
    "a file's URL": ("file:///nothing/here", "looks like the name of a file"),
    "a folder": ("/etc", "looks like the name of a file"),
    "a URL": ("https://issuer.example/.well-known/jwks.json", "CHAT_JWT_JWKS_URL"),
}


@pytest.mark.parametrize("algorithms", [None, "HS256"])
@pytest.mark.parametrize("what", USELESS)
def test_a_key_or_a_name_that_is_of_no_use_is_a_sentence_even_where_hmac_is_asked_for(
    what: str, algorithms: str | None
) -> None:
    text, sentence = USELESS[what]
    if what == "a JWKS of nothing" and algorithms:
        sentence = "HS256 cannot be used with public keys"
    with pytest.raises(SettingsError) as caught:
        load_settings(_env_file=None, auth="jwt", jwt_key=text, jwt_algorithms=algorithms)
    assert sentence in str(caught.value)
    assert text not in str(caught.value)


def test_a_file_that_is_empty_or_names_another_holds_no_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    for content in ("", "\n", "/etc/passwd\n", "issuer.pem"):
        file.write_text(content)
        with pytest.raises(ValueError, match="holds no key"):
            read_key(str(file))


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        "s" * 32,
        "0" * 64,
        "correct horse battery staple and more",
        "{begins-like-json-but-is-none",
        "/Zm9vYmFyYmF6cXV4/Zm9vYmFyYmF6cXV4AAAAAAAAA=",
        "back\\slash and " * 3,
        " with blanks around " * 2,
        b64(bytes(range(32))),
        base64.urlsafe_b64encode(bytes(range(200, 248))).decode(),
        bytes(48).hex(),
    ],
)
def test_a_secret_is_taken_as_it_is_where_hmac_is_asked_for(secret: str, tmp_path: Path) -> None:
    assert read_key(secret).secret == secret
    asked: dict[str, Any] = {"auth": "jwt", "jwt_key": secret}
    assert load_settings(_env_file=None, **asked, jwt_algorithms="HS512").jwt_allowed == ("HS512",)
    with pytest.raises(SettingsError, match="CHAT_JWT_ALGORITHMS=HS256"):
        load_settings(_env_file=None, **asked)
    (tmp_path / "secret").write_text(secret + "\n")
    assert read_key(str(tmp_path / "secret")).secret == secret


def test_an_ed25519_key_without_armour_is_one_too() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    text = b64(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    settings = load_settings(_env_file=None, auth="jwt", jwt_key=text, jwt_algorithms="EdDSA")
    assert not set(settings.jwt_allowed) & set(JWT_SYMMETRIC)
    with pytest.raises(SettingsError, match="HS256 cannot be used with public keys"):
        load_settings(_env_file=None, auth="jwt", jwt_key=text, jwt_algorithms="HS256")
