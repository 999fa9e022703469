"""The recipes of docs/security.md, each with access tokens of the shape that its issuer makes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Start
from tests.docs.pages import blocks
from tests.support.identity import bearer
from tests.support.issuer import issuing, private_key, public_jwk, token
from tests.support.running import ROOT
from tests.support.service import Served

#: claims of a default access token (iss and aud are the recipe's) and the fields of the published key
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Auth0": (
        {
            "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "azp": "my_client_id",
            "gty": "password",
            "aud": ["https://chat.example.com", "https://TENANT.eu.auth0.com/userinfo"],
            "scope": "openid profile email",
            "permissions": [],
        },
        {"alg": "RS256"},
    ),
    "Keycloak": (
        {
            "sub": "0e4f6f0a-2b4c-4f0e-9b9a-5a3a1f6f7c11",
            "typ": "Bearer",
            "azp": "web",
            "acr": "1",
            "jti": "onrtac:7b1c",
            "sid": "b0d3",
            "scope": "openid profile email",
            "email_verified": True,
            "aud": ["chat", "account"],
            "preferred_username": "alice",
            "allowed-origins": ["https://a.example"],
            "realm_access": {"roles": ["default-roles-realm", "offline_access", "chat-user"]},
            "resource_access": {"account": {"roles": ["manage-account"]}},
        },
        {"alg": "RS256"},
    ),
    "Clerk": (
        {
            "sub": "user_2NNEqL2nrIRdJ194ndJqAHwEfxC",
            "azp": "https://app.example.com",
            "sid": "sess_2x",
            "v": 2,
            "fva": [3, -1],
            "sts": "active",
            "pla": "u:free",
            "aud": None,
        },
        {"alg": "RS256"},
    ),
    "Entra ID": (
        {
            "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
            "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
            "tid": "TENANT-ID",
            "azp": "client",
            "azpacr": "0",
            "scp": "access_as_user",
            "ver": "2.0",
            "aio": "AXQAi/8IAAAA",
            "rh": "0.AX0A",
            "uti": "qQ",
        },
        {},
    ),
}
#: what makes such a token an admin's, and what takes its right to chat away
ADMINS: dict[str, dict[str, Any]] = {
    "Auth0": {"permissions": ["chat:admin"]},
    "Keycloak": {"realm_access": {"roles": ["chat-user", "chat-admin"]}},
    "Entra ID": {"roles": ["Chat.Admin"]},
}
REFUSED: dict[str, dict[str, Any]] = {
    "Keycloak": {"realm_access": {"roles": ["offline_access"]}},
    "Clerk": {"azp": "https://evil.example"},
    "Entra ID": {"scp": "User.Read"},
}


def recipe(name: str) -> dict[str, str]:
    """The settings that docs/security.md gives for an issuer."""
    page = ROOT / "docs" / "security.md"
    text = page.read_text().partition(f"#### {name}\n")[2].partition("\n#")[0]
    [block] = [one for one in blocks(page) if one.language == "ini" and one.text.strip() in text]
    pairs = [line.partition("=") for line in block.text.splitlines() if line]
    return {setting.removeprefix("CHAT_").lower(): value for setting, _, value in pairs}


async def statuses(served: Served, text: str) -> tuple[int, int]:
    """Of a session's route and of an admin's."""
    made = await served.client.post("/v1/sessions", headers=bearer(text))
    keys = await served.client.get("/v1/usage/principals", headers=bearer(text))
    return made.status_code, keys.status_code


@pytest.mark.parametrize("name", SHAPES)
async def test_a_default_access_token_chats_with_the_recipe_of_its_issuer(start: Start, name: str) -> None:
    claims, published = SHAPES[name]
    settings = recipe(name)
    key = private_key("RS256")
    with issuing() as issuer:
        issuer.publish(public_jwk(key, "k1", **published))
        assert settings.pop("jwt_jwks_url").startswith("https://")
        async with start(**settings, jwt_jwks_url=issuer.url) as served:

            def made(**changed: Any) -> str:
                body = {"iss": settings["jwt_issuer"], "aud": settings["jwt_audience"], **claims, **changed}
                absent = tuple(claim for claim, value in body.items() if value is None)
                return token(body.pop("sub"), key=key, algorithm="RS256", key_id="k1", without=absent, **body)

            assert await statuses(served, made()) == (201, 403)
            if name in ADMINS:
                assert await statuses(served, made(**ADMINS[name])) == (201, 200)
            if name in REFUSED:
                assert await statuses(served, made(**REFUSED[name])) == (403, 403)
            assert await statuses(served, made(iss="https://evil.example/")) == (401, 401)
            if settings["jwt_audience"] != "*":
                assert await statuses(served, made(aud="another-api")) == (401, 401)


async def test_any_of_these_tokens_chats_without_a_setting_for_scopes(start: Start) -> None:
    key = private_key("RS256")
    with issuing() as issuer:
        issuer.publish(public_jwk(key, "k1"))
        async with start(auth="jwt", jwt_jwks_url=issuer.url) as served:
            for claims, _ in SHAPES.values():
                body = {name: value for name, value in claims.items() if value is not None}
                subject = body.pop("sub")
                text = token(subject, key=key, algorithm="RS256", key_id="k1", **body)
                assert await statuses(served, text) == (201, 403)
