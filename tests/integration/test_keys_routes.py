"""`/v1/keys`: API keys over HTTP, for admins, with an audit line for every change."""

from __future__ import annotations

import time
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from tests.conftest import Start
from tests.support.identity import bearer, credentials_of, id_in, make_key
from tests.support.service import Served
from tests.support.waiting import eventually_async

ADMIN = ("chat", "admin")


async def test_a_key_made_over_http_works_and_is_shown_once(start: Start) -> None:
    async with start(auth="keys") as served:
        admin = bearer(await make_key(served, scopes=ADMIN))
        made = await served.client.post(
            "/v1/keys",
            headers=admin,
            json={"name": "web", "owner": "team", "expires_seconds": 60, "limit_sends": "7/minute"},
        )
        assert made.status_code == 201
        resource = made.json()
        key = resource.pop("key")
        assert resource["id"] == id_in(key)
        assert (resource["owner"], resource["principal"]) == ("team", "owner.team")
        assert (resource["scopes"], resource["state"]) == (["chat"], "active")
        assert 55 < resource["expires"] - time.time() <= 60
        sent = await served.client.post("/chat", json={"user_query": "[[tokens=2]]"}, headers=bearer(key))
        assert (sent.status_code, sent.headers["ratelimit-limit"]) == (200, "7")
        listed = await served.client.get("/v1/keys", headers=admin)
        assert [entry["name"] for entry in listed.json()["data"]] == ["test", "web"]
        assert key.rpartition("_")[2] not in listed.text


async def test_rotate_and_revoke_over_http(start: Start) -> None:
    async with start(auth="keys") as served:
        admin = bearer(await make_key(served, scopes=ADMIN))
        old = await make_key(served)
        answer = await served.client.post(f"/v1/keys/{id_in(old)}/rotate", headers=admin)
        new = answer.json()["key"]
        assert (answer.status_code, id_in(new)) == (200, id_in(old))
        assert await status(served, new) == 200
        assert (await served.client.delete(f"/v1/keys/{id_in(old)}", headers=admin)).status_code == 204

        async def refused() -> bool:
            return await status(served, new) == 401

        await eventually_async(refused)
        for method, path in (("POST", f"/v1/keys/{id_in(old)}/rotate"), ("DELETE", "/v1/keys/nope")):
            answer = await served.client.request(method, path, headers=admin)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": 7},
        {"name": "a\nb"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "expires_seconds": 0},
        {"name": "x", "expires_seconds": "60"},
        {"name": "x", "limit_sends": "lots"},
        {"name": "x", "budget_tokens_per_day": -1},
        {"name": "x", "max_running_turns": 1.5},
        [],
    ],
    ids=str,
)
async def test_a_bad_wish_makes_no_key(start: Start, body: Any) -> None:
    async with start(auth="keys") as served:
        admin = bearer(await make_key(served, scopes=ADMIN))
        answer = await served.client.post("/v1/keys", json=body, headers=admin)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert await credentials_of(served).count() == 1


async def test_every_change_over_http_is_an_audit_line_without_the_secret(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = CapturingLogger()
    monkeypatch.setattr("service.api.routes.keys.audit", lines)
    async with start(auth="keys") as served:
        admin = await make_key(served, scopes=ADMIN)
        made = await served.client.post("/v1/keys", json={"name": "web"}, headers=bearer(admin))
        key_id = made.json()["id"]
        turned = await served.client.post(f"/v1/keys/{key_id}/rotate", headers=bearer(admin))
        await served.client.delete(f"/v1/keys/{key_id}", headers=bearer(admin))
        assert [(line.args[0], line.kwargs["key"], line.kwargs["by_key"]) for line in lines.calls] == [
            ("audit.key_created", key_id, id_in(admin)),
            ("audit.key_rotated", key_id, id_in(admin)),
            ("audit.key_revoked", key_id, id_in(admin)),
        ]
        for key in (made.json()["key"], turned.json()["key"], admin):
            assert key.rpartition("_")[2] not in str(lines.calls)


async def test_where_keys_are_not_in_use_nobody_can_lay_one_up(served: Served) -> None:
    answer = await served.client.post("/v1/keys", json={"name": "later"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert await credentials_of(served).count() == 0


async def status(served: Served, key: str) -> int:
    return (await served.client.get("/v1/sessions", headers=bearer(key))).status_code
