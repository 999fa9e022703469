"""What a token may: every valid one chats, none is an admin's, and settings say what else counts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Start
from tests.support.identity import bearer
from tests.support.issuer import ISSUER, SECRET, token
from tests.support.service import Served

HMAC = {"jwt_key": SECRET, "jwt_algorithms": "HS256"}


async def rights(served: Served, **claims: Any) -> tuple[bool, bool]:
    """May a token with these claims chat, and is it an admin's?"""
    headers = bearer(token(**claims))
    found = []
    for path in ("/v1/sessions", "/v1/keys"):
        answer = await served.client.get(path, headers=headers)
        assert answer.status_code in (200, 403), answer.text
        assert answer.status_code == 200 or answer.json()["code"] == "forbidden"
        found.append(answer.status_code == 200)
    return found[0], found[1]


async def test_a_valid_token_may_chat_and_no_word_of_the_issuers_makes_it_an_admin(start: Start) -> None:
    async with start(auth="jwt,keys", **HMAC) as served:
        for claims in (
            {},
            {"scope": "openid profile email"},
            {"scope": ""},
            {"scope": "admin chat"},
            {"scp": ["admin"]},
            {"permissions": ["admin"]},
            {"roles": ["admin"]},
            {"scope": None},
            {"scope": 7},
        ):
            assert await rights(served, **claims) == (True, False), claims


async def test_settings_name_the_scopes_that_chatting_and_administering_need(start: Start) -> None:
    scopes = {"jwt_required_scope": "chat:use", "jwt_admin_scope": "chat:admin"}
    async with start(auth="jwt,keys", **HMAC, **scopes) as served:
        expected: list[tuple[dict[str, Any], tuple[bool, bool]]] = [
            ({}, (False, False)),
            ({"scope": "openid chat:use"}, (True, False)),
            ({"scope": "openid chat:user chat"}, (False, False)),
            ({"scp": "chat:use chat:admin"}, (True, True)),
            ({"scp": [7, "chat:admin"]}, (False, True)),
            ({"permissions": ["chat:use"]}, (True, False)),
            ({"scope": "openid", "permissions": ["chat:use", "chat:admin"]}, (True, True)),
            ({"scope": {"chat:use": True}}, (False, False)),
            ({"roles": ["chat:use"]}, (False, False)),
        ]
        for claims, given in expected:
            assert await rights(served, **claims) == given, claims


@pytest.mark.parametrize(
    ("claim", "claims", "given"),
    [
        ("roles", {"roles": ["Chat User"], "scope": "none"}, (True, False)),
        ("realm_access.roles", {"realm_access": {"roles": ["Chat User", "Boss"]}}, (True, True)),
        ("realm_access.roles", {"realm_access": ["Chat User"]}, (False, False)),
        ("https://example.com/roles", {"https://example.com/roles": ["Boss"]}, (False, True)),
        ("groups,app.role", {"groups": ["x"], "app": {"role": "Chat User"}}, (True, False)),
        ("scope", {"roles": ["Chat User"]}, (False, False)),
    ],
)
async def test_a_setting_names_the_claim_that_they_stand_in(
    start: Start, claim: str, claims: dict[str, Any], given: tuple[bool, bool]
) -> None:
    scopes = {"jwt_required_scope": "Chat User", "jwt_admin_scope": "Boss", "jwt_scope_claim": claim}
    async with start(auth="jwt,keys", **HMAC, **scopes) as served:
        assert await rights(served, **claims) == given


async def test_a_flag_of_the_issuers_can_be_the_scope(start: Start) -> None:
    scopes = {"jwt_scope_claim": "app_metadata.chat_admin", "jwt_admin_scope": "true"}
    async with start(auth="jwt,keys", **HMAC, **scopes) as served:
        assert await rights(served, app_metadata={"chat_admin": True}) == (True, True)
        assert await rights(served, app_metadata={"chat_admin": False}) == (True, False)


async def test_an_audience_is_checked_unless_a_star_says_that_there_is_none(start: Start) -> None:
    async def admitted(served: Served, **claims: Any) -> bool:
        answer = await served.client.get("/v1/sessions", headers=bearer(token(**claims)))
        return answer.status_code == 200

    async with start(auth="jwt", jwt_issuer=ISSUER, jwt_audience="*", **HMAC) as served:
        assert await admitted(served, without=("aud",))
        assert await admitted(served, aud="account")
        assert await admitted(served, aud=["a", "b"])
        assert not await admitted(served, iss="https://evil.example/")
    async with start(auth="jwt", jwt_issuer=ISSUER, jwt_audience="a", **HMAC) as served:
        assert await admitted(served, aud=["a", "b"])
        assert not await admitted(served, aud="account")
        assert not await admitted(served, without=("aud",))
