"""JWTs at the door: by secret, by public key, by JWKS; what is wrong with one is a 401."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.issuer import (
    AUDIENCE,
    ISSUER,
    SECRET,
    Issuer,
    issuing,
    private_key,
    public_jwk,
    public_pem,
    token,
)
from tests.support.service import Served
from tests.support.waiting import eventually_async

PINNED = {"auth": "jwt", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as found:
        yield found


async def status(served: Served, text: str) -> int:
    return (await served.client.get("/v1/sessions", headers=bearer(text))).status_code


def crafted(header: dict[str, Any], body: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(body).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


BODY = {"sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 3_600}


async def test_a_secret_shared_with_the_issuer_admits_its_tokens(start: Start) -> None:
    async with start(**PINNED, jwt_key=SECRET, jwt_algorithms="HS256") as served:
        assert await status(served, token()) == 200


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_public_key_admits_tokens_of_its_private_key(start: Start, algorithm: str) -> None:
    key = private_key(algorithm)
    async with start(**PINNED, jwt_key=public_pem(key)) as served:
        assert await status(served, token(key=key, algorithm=algorithm)) == 200
        assert await status(served, token(key=private_key(algorithm, 1), algorithm=algorithm)) == 401


async def test_a_pem_in_one_line_works_too(start: Start) -> None:
    key = private_key("ES256")
    async with start(**PINNED, jwt_key=public_pem(key).replace("\n", "\\n")) as served:
        assert await status(served, token(key=key, algorithm="ES256")) == 200


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda: token(lives=-60), id="expired"),
        pytest.param(lambda: token(without=("exp",)), id="without expiry"),
        pytest.param(lambda: token(without=("sub",)), id="without subject"),
        pytest.param(lambda: token(subject=""), id="empty subject"),
        pytest.param(lambda: token("\ud800"), id="half a character as subject"),
        pytest.param(lambda: token(key=SECRET + "x"), id="another secret"),
        pytest.param(lambda: token(iss="https://evil.example/"), id="another issuer"),
        pytest.param(lambda: token(without=("iss",)), id="without issuer"),
        pytest.param(lambda: token(aud="billing"), id="another audience"),
        pytest.param(lambda: token(without=("aud",)), id="without audience"),
        pytest.param(lambda: token(nbf=int(time.time()) + 600), id="not yet valid"),
        pytest.param(lambda: token(iat=int(time.time()) + 600), id="issued in the future"),
        pytest.param(lambda: token(algorithm="HS512"), id="an algorithm that is not allowed"),
        pytest.param(lambda: crafted({"alg": "none"}, BODY), id="no algorithm"),
        pytest.param(lambda: crafted({"alg": "None"}, BODY, b"x"), id="no algorithm, spelled otherwise"),
        pytest.param(lambda: crafted({}, BODY, b"x"), id="no alg"),
        pytest.param(lambda: token()[:-2] + "xx", id="a signature cut"),
        pytest.param(lambda: token() + "." + "x" * 9_000, id="too long"),
        pytest.param(lambda: "a.b.c", id="nonsense"),
        pytest.param(lambda: "..", id="dots"),
        pytest.param(lambda: "eyJhbGciOiJIUzI1NiJ9", id="one part"),
        pytest.param(lambda: crafted({"alg": "HS256"}, {**BODY, "exp": 1e999}, b"x"), id="endless"),
    ],
)
async def test_a_token_with_anything_wrong_is_refused(start: Start, wrong: Any) -> None:
    async with start(**PINNED, jwt_key=SECRET, jwt_algorithms="HS256") as served:
        answer = await served.client.get("/v1/sessions", headers=bearer(wrong()))
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["code"] == "unauthenticated"


def signed_with_text(text: str) -> str:
    """A token that has the text of a public key for its HMAC secret; PyJWT refuses to make one."""
    header, body, _ = token().split(".")
    signature = hmac.digest(text.encode(), f"{header}.{body}".encode(), "sha256")
    return f"{header}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize("form", ["PEM", "base64", "JWK", "file"])
async def test_no_form_of_a_public_key_is_a_secret_that_signs_tokens(
    start: Start, tmp_path: Path, form: str
) -> None:
    key = private_key("RS256")
    file = tmp_path / "issuer"
    file.write_text(public_pem(key))
    text = {
        "PEM": public_pem(key),
        "base64": "".join(public_pem(key).splitlines()[1:-1]),
        "JWK": json.dumps(public_jwk(key)),
        "file": str(file),
    }[form]
    async with start(**PINNED, jwt_key=text) as served:
        assert await status(served, token(key=key, algorithm="RS256")) == 200
        assert await status(served, signed_with_text(text)) == 401


async def test_a_public_key_is_never_taken_for_an_hmac_secret(start: Start) -> None:
    """Algorithm confusion: sign with the public key, which everybody has, as if it were a secret."""
    pem = public_pem(private_key("RS256"))
    header, body, _ = token().split(".")
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(f"{header}.{body}".encode(), pem.encode())
    forged = f"{header}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    async with start(**PINNED, jwt_key=pem) as served:
        assert await status(served, forged) == 401


async def test_clocks_may_differ_by_the_leeway(start: Start) -> None:
    async with start(**PINNED, jwt_key=SECRET, jwt_algorithms="HS256", jwt_leeway_seconds=20) as served:
        assert await status(served, token(lives=-10)) == 200
        assert await status(served, token(lives=-30)) == 401
        assert await status(served, token(nbf=int(time.time()) + 10)) == 200


async def test_a_subject_is_a_principal_of_its_issuer(start: Start) -> None:
    async with start(auth="jwt", jwt_key=SECRET, jwt_algorithms="HS256") as served:
        for text in (token("alice"), token("bob"), token("alice", iss="https://other.example/")):
            body = {"title": text[-8:]}
            made = await served.client.post("/v1/sessions", json={"id": "s", **body}, headers=bearer(text))
            assert made.status_code == 201
        again = await served.client.get("/v1/sessions/s", headers=bearer(token("alice")))
        assert again.status_code == 200


async def test_subjects_with_odd_characters_are_principals_like_others(start: Start) -> None:
    async with start(**PINNED, jwt_key=SECRET, jwt_algorithms="HS256") as served:
        for subject in ("auth0|5f", "x}/s:{y", "ü" * 300, "a\nb", "../.."):
            made = await served.client.post("/v1/sessions", json={"id": "s"}, headers=bearer(token(subject)))
            assert made.status_code == 201, subject


async def test_keys_and_tokens_work_side_by_side(start: Start) -> None:
    async with start(auth="keys,jwt", jwt_key=SECRET, jwt_algorithms="HS256") as served:
        assert await status(served, await make_key(served)) == 200
        assert await status(served, token()) == 200
        only_header = await served.client.get("/v1/sessions", headers={"X-API-Key": token()})
        assert only_header.status_code == 401


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_jwks_in_the_setting_admits_by_key_id_like_a_published_one(
    start: Start, algorithm: str
) -> None:
    first, second = private_key(algorithm), private_key(algorithm, 1)
    document = json.dumps({"keys": [public_jwk(first, "a"), public_jwk(second, "b")]})
    async with start(**PINNED, jwt_key=document) as served:
        assert await status(served, token(key=first, algorithm=algorithm, key_id="a")) == 200
        assert await status(served, token(key=second, algorithm=algorithm, key_id="b")) == 200
        assert await status(served, token(key=first, algorithm=algorithm, key_id="b")) == 401
        assert await status(served, token(key=first, algorithm=algorithm)) == 401
        assert await status(served, signed_with_text(document)) == 401


# Published keys


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_published_keys_admit_tokens_by_key_id(start: Start, issuer: Issuer, algorithm: str) -> None:
    first, second = private_key(algorithm), private_key(algorithm, 1)
    issuer.publish(public_jwk(first, "a"), public_jwk(second, "b"))
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        assert await status(served, token(key=first, algorithm=algorithm, key_id="a")) == 200
        assert await status(served, token(key=second, algorithm=algorithm, key_id="b")) == 200
        assert await status(served, token(key=first, algorithm=algorithm, key_id="b")) == 401
        assert await status(served, token(key=first, algorithm=algorithm)) == 401
        assert issuer.asked == 1


async def test_a_single_published_key_answers_for_tokens_that_name_none(start: Start, issuer: Issuer) -> None:
    key = private_key("RS256")
    issuer.publish(public_jwk(key))
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        assert await status(served, token(key=key, algorithm="RS256")) == 200


async def test_a_published_rsa_key_without_algorithm_is_for_all_that_are_allowed(
    start: Start, issuer: Issuer
) -> None:
    key, named = private_key("RS256"), private_key("RS256", 1)
    issuer.publish(public_jwk(key, "a"), public_jwk(named, "b", alg="RS512"))
    allowed = "RS256,RS384,RS512,PS256,PS384,PS512"
    async with start(**PINNED, jwt_jwks_url=issuer.url, jwt_algorithms=allowed) as served:
        for name in allowed.split(","):
            assert await status(served, token(key=key, algorithm=name, key_id="a")) == 200, name
            expected = 200 if name == "RS512" else 401
            assert await status(served, token(key=named, algorithm=name, key_id="b")) == expected, name
    async with start(**PINNED, jwt_jwks_url=issuer.url, jwt_algorithms="PS256") as served:
        assert await status(served, token(key=key, algorithm="PS256", key_id="a")) == 200
        assert await status(served, token(key=key, algorithm="RS256", key_id="a")) == 401


async def test_a_new_key_of_the_issuer_is_fetched_when_a_token_names_it(
    start: Start, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.auth.jwt._RETRY_SECONDS", 0.0)
    old, new = private_key("ES256"), private_key("ES256", 1)
    issuer.publish(public_jwk(old, "old"))
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        assert await status(served, token(key=old, algorithm="ES256", key_id="old")) == 200
        issuer.publish(public_jwk(new, "new"))
        assert await status(served, token(key=new, algorithm="ES256", key_id="new")) == 200
        assert await status(served, token(key=old, algorithm="ES256", key_id="old")) == 401


async def test_made_up_key_ids_do_not_make_us_ask_again_and_again(start: Start, issuer: Issuer) -> None:
    key = private_key("ES256")
    issuer.publish(public_jwk(key, "a"))
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        for number in range(10):
            assert await status(served, token(key=key, algorithm="ES256", key_id=f"x{number}")) == 401
        assert issuer.asked == 1


async def test_symmetric_and_foreign_keys_in_a_jwks_are_passed_over(start: Start, issuer: Issuer) -> None:
    key = private_key("RS256")
    secret = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
    issuer.publish(
        {"kty": "oct", "k": secret, "kid": "oct"},
        {"kty": "what", "kid": "what"},
        public_jwk(private_key("RS256", 1), "enc", use="enc"),
        public_jwk(key, "a"),
    )
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        assert await status(served, token(key=key, algorithm="RS256", key_id="a")) == 200
        assert await status(served, token(key_id="oct")) == 401
        encrypting = token(key=private_key("RS256", 1), algorithm="RS256", key_id="enc")
        assert await status(served, encrypting) == 401


@pytest.mark.parametrize(
    "odd", [{"alg": ["RS256"]}, {"alg": "none"}, {"alg": {}}, {"kid": ["b"]}, {"kid": 7}]
)
async def test_an_odd_entry_in_a_jwks_is_passed_over(
    start: Start, issuer: Issuer, odd: dict[str, Any]
) -> None:
    key = private_key("RS256")
    issuer.publish(public_jwk(private_key("RS256", 1), "b", **odd), public_jwk(key, "a"))
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        assert await status(served, token(key=key, algorithm="RS256", key_id="a")) == 200


async def test_a_jwks_that_is_odd_each_time_is_never_a_failure_of_ours(
    start: Start, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.auth.jwt._RETRY_SECONDS", 0.0)
    issuer.body = b"[" * 100_000
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        for _ in range(2):
            assert await status(served, token(key=private_key("ES256"), algorithm="ES256")) == 503


async def test_while_no_key_can_be_fetched_tokens_are_neither_right_nor_wrong(
    start: Start, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = private_key("ES256")
    issuer.status = 500
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        text = token(key=key, algorithm="ES256", key_id="a")
        answer = await served.client.get("/v1/sessions", headers=bearer(text))
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"] == "10"
        issuer.status = 200
        issuer.publish(public_jwk(key, "a"))
        monkeypatch.setattr("service.api.auth.jwt._RETRY_SECONDS", 0.0)

        async def admitted() -> bool:
            return await status(served, text) == 200

        await eventually_async(admitted)


async def test_keys_once_fetched_outlive_an_issuer_that_is_away(
    start: Start, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.auth.jwt._FRESH_SECONDS", 0.0)
    monkeypatch.setattr("service.api.auth.jwt._RETRY_SECONDS", 0.0)
    key = private_key("ES256")
    issuer.publish(public_jwk(key, "a"))
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        text = token(key=key, algorithm="ES256", key_id="a")
        assert await status(served, text) == 200
        issuer.status, before = 500, issuer.asked

        async def asked_again() -> bool:
            # A request begins no fetch while one is under way, as the one before may have.
            assert await status(served, text) == 200
            return issuer.asked > before

        await eventually_async(asked_again)
        assert await status(served, text) == 200


async def test_a_withdrawn_key_is_not_believed_after_a_time_without_requests(
    start: Start, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_FRESH_SECONDS", "_STALE_SECONDS", "_RETRY_SECONDS"):
        monkeypatch.setattr(f"service.api.auth.jwt.{name}", 0.0)
    old, new = private_key("ES256"), private_key("ES256", 1)
    issuer.publish(public_jwk(old, "old"))
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        assert await status(served, token(key=old, algorithm="ES256", key_id="old")) == 200
        issuer.publish(public_jwk(new, "new"))
        assert await status(served, token(key=old, algorithm="ES256", key_id="old")) == 401


async def test_keys_that_nobody_confirms_are_believed_for_a_bounded_time(
    start: Start, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = private_key("ES256")
    issuer.publish(public_jwk(key, "a"))
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        text = token(key=key, algorithm="ES256", key_id="a")
        assert await status(served, text) == 200
        issuer.status = 500
        monkeypatch.setattr("service.api.auth.jwt._RETRY_SECONDS", 0.0)
        monkeypatch.setattr("service.api.auth.jwt._KEPT_SECONDS", 0.0)
        answer = await served.client.get("/v1/sessions", headers=bearer(text))
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        monkeypatch.setattr("service.api.auth.jwt._KEPT_SECONDS", 3_600.0)
        issuer.status = 200
        assert await status(served, text) == 200


@pytest.mark.parametrize(
    "what",
    [
        {"body": b"not json"},
        {"body": b"[]"},
        {"body": b'{"keys": 7}'},
        {"body": b'{"keys": [7, null]}'},
        {"body": b"x" * 300_000},
        {"status": 302},
        {"status": 404},
        {"body": b"[" * 100_000},
    ],
    ids=[
        "no json",
        "a list",
        "a number",
        "odd entries",
        "too long",
        "a redirect",
        "not found",
        "too deep",
    ],
)
async def test_an_odd_jwks_is_no_jwks(start: Start, issuer: Issuer, what: dict[str, Any]) -> None:
    for name, value in what.items():
        setattr(issuer, name, value)
    async with start(**PINNED, jwt_jwks_url=issuer.url) as served:
        text = token(key=private_key("ES256"), algorithm="ES256", key_id="a")
        assert await status(served, text) == 503
        assert issuer.asked == 1
