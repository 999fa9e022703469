"""Every guarded route is limited, as a send or as a read; made from the OpenAPI document."""

from __future__ import annotations

import pytest

from tests.conftest import Start
from tests.integration.test_auth_matrix import ADMIN, GUARDED, doors
from tests.support.identity import bearer, make_key
from tests.support.issuer import SECRET

SENDS = {
    ("POST", "/chat"),
    ("POST", "/chat-with-history"),
    ("POST", "/v1/sessions/{session_id}/turns"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/openai/v1/chat/completions"),
    ("POST", "/api/chat"),
    ("POST", "/v1/sessions"),
    ("POST", "/v1/sessions/{session_id}/fork"),
    ("POST", "/v1/responses"),
    ("POST", "/openai/v1/responses"),
    ("POST", "/v1/conversations"),
    ("POST", "/openai/v1/conversations"),
    ("POST", "/v1/conversations/{conversation_id}/items"),
    ("POST", "/openai/v1/conversations/{conversation_id}/items"),
}


@pytest.mark.parametrize(("method", "path"), GUARDED, ids=lambda value: value)
async def test_a_guarded_route_is_charged_as_what_it_is(start: Start, method: str, path: str) -> None:
    jwt = {"jwt_key": SECRET, "jwt_algorithms": "HS256"}
    async with start(auth="keys,jwt", **jwt, limit_sends="70/minute", limit_reads="90/minute") as served:
        scopes = ("chat", "admin") if (method, path) in ADMIN else ("chat",)
        owner = await make_key(served, owner="team")
        at = await doors(served, owner)
        caller = bearer(await make_key(served, owner="team", scopes=scopes))
        answer = await at.knock(method, path, caller)
        told = answer.headers.get("ratelimit-limit")
        assert told == ("70" if (method, path) in SENDS else "90")
