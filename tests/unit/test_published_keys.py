"""Which of an issuer's published keys may verify tokens."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from jwt.algorithms import RSAAlgorithm

from service.config.jwt_key import usable_keys

SECRET = {"kty": "oct", "kid": "shared", "k": base64.urlsafe_b64encode(b"x" * 64).decode()}


@pytest.fixture(scope="module")
def public() -> dict[str, Any]:
    key = generate_private_key(public_exponent=65537, key_size=2048)
    return {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": "rsa"}


@pytest.mark.parametrize("more", [{}, {"alg": "HS256"}, {"alg": "HS512"}, {"use": "sig"}])
def test_a_symmetric_key_is_never_one_of_them(public: dict[str, Any], more: dict[str, str]) -> None:
    """Whoever can read the list could sign with it."""
    allowed = ("HS256", "HS512", "RS256")
    assert usable_keys({"keys": [{**SECRET, **more}]}, allowed) == {}
    assert set(usable_keys({"keys": [{**SECRET, **more}, public]}, allowed)) == {"rsa", None}


def test_a_key_for_encryption_signs_nothing(public: dict[str, Any]) -> None:
    assert usable_keys({"keys": [{**public, "use": "enc"}]}, ("RS256",)) == {}


def test_a_key_for_an_algorithm_that_is_not_allowed_is_none(public: dict[str, Any]) -> None:
    assert usable_keys({"keys": [{**public, "alg": "RS512"}]}, ("RS256",)) == {}
    assert set(usable_keys({"keys": [public]}, ("RS256", "PS256"))["rsa"]) == {"RS256", "PS256"}
