"""API keys at the door: taken in two headers, refused alike, revoked everywhere within seconds."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import redis
from prometheus_client import REGISTRY
from structlog.testing import CapturingLogger

from service.store.credentials import Credential, Credentials
from tests.conftest import Start
from tests.support.identity import bearer, credentials_of, id_in, make_key
from tests.support.redis import RedisServer
from tests.support.service import Served
from tests.support.waiting import eventually_async

# Twice the time for which a worker believes what it has read of a key.
SECONDS = 4.0


async def status(served: Served, key: str) -> int:
    return (await served.client.get("/v1/sessions", headers=bearer(key))).status_code


async def test_a_key_is_taken_from_either_header(start: Start) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served)
        for headers in (
            {"Authorization": f"Bearer {key}"},
            {"authorization": f"bearer   {key}"},
            {"X-API-Key": key},
            {"X-API-Key": key, "Authorization": "Basic dTpw"},
        ):
            answer = await served.client.get("/v1/sessions", headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"data": [], "next": None})


async def test_every_refusal_looks_the_same(start: Start) -> None:
    async with start(auth="keys,jwt", jwt_key="s" * 32, jwt_algorithms="HS256") as served:
        good = await make_key(served)
        expired = await make_key(served, expires=-1)
        revoked = await make_key(served)
        assert await credentials_of(served).revoke(id_in(revoked))
        wrong = good[:-1] + ("a" if good[-1] != "a" else "b")
        seen = set()
        for headers in (
            {},
            bearer(wrong),
            bearer(expired),
            bearer(revoked),
            bearer("chat_000000000000_" + "x" * 43),
            bearer("nonsense"),
            bearer("a.b.c"),
            {"X-API-Key": "nonsense"},
            {"Authorization": "Basic dTpw"},
            {"Authorization": good},
            {"Authorization": "Bearer"},
            {"X-API-Key": ""},
        ):
            answer = await served.client.get("/v1/sessions", headers=headers)
            kept = {
                name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")
            }
            seen.add((answer.status_code, answer.text, json.dumps(kept, sort_keys=True)))
        assert len(seen) == 1
        code, text, headers_seen = seen.pop()
        assert code == 401
        assert json.loads(headers_seen)["www-authenticate"] == "Bearer"
        assert json.loads(text) == {
            "type": "urn:chat:error:unauthenticated",
            "title": "Credentials are missing or not valid",
            "status": 401,
            "detail": "Send a valid API key or token: `Authorization: Bearer ...`.",
            "code": "unauthenticated",
        }
        assert await status(served, good) == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat", {"user_query": "hi"}),
        ("/v1/sessions/s/turns", {"content": "hi"}),
    ],
)
async def test_a_refused_send_stores_nothing_and_asks_nobody(
    start: Start, store: redis.Redis, path: str, body: dict[str, Any]
) -> None:
    async with start(auth="keys") as served:
        answer = await served.client.post(path, json=body)
        assert answer.status_code == 401
        assert [key for key in store.scan_iter("*") if "session" in key or "turn" in key] == []


async def test_a_worker_without_any_key_made_starts_and_answers_401(start: Start) -> None:
    async with start(auth="keys") as served:
        assert (await served.client.get("/health")).status_code == 200
        assert (await served.client.get("/v1/models")).status_code == 401


async def test_a_scope_that_is_missing_is_forbidden(start: Start) -> None:
    async with start(auth="keys") as served:
        chat, admin = await make_key(served), await make_key(served, scopes=("admin",))
        refused = await served.client.get("/v1/keys", headers=bearer(chat))
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        refused = await served.client.post("/chat", json={"user_query": "hi"}, headers=bearer(admin))
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert (await served.client.get("/v1/keys", headers=bearer(admin))).status_code == 200


async def test_a_revoked_key_is_refused_on_all_replicas_within_seconds(start: Start) -> None:
    async with start(auth="keys") as one, start(auth="keys") as two:
        key = await make_key(one)
        assert [await status(one, key), await status(two, key)] == [200, 200]
        await credentials_of(one).revoke(id_in(key))

        async def both_refuse() -> bool:
            return [await status(one, key), await status(two, key)] == [401, 401]

        await eventually_async(both_refuse, within=SECONDS)


async def test_a_rotated_key_works_at_once_and_the_old_secret_dies_within_seconds(start: Start) -> None:
    async with start(auth="keys") as one, start(auth="keys") as two:
        old = await make_key(one)
        assert [await status(one, old), await status(two, old)] == [200, 200]
        new = await credentials_of(one).rotate(id_in(old))
        assert new is not None
        assert new != old
        assert id_in(new) == id_in(old)
        assert [await status(one, new), await status(two, new)] == [200, 200]

        async def both_refuse() -> bool:
            return [await status(one, old), await status(two, old)] == [401, 401]

        await eventually_async(both_refuse, within=SECONDS)


async def test_a_rotated_key_with_grace_keeps_both_secrets_for_a_while(start: Start) -> None:
    async with start(auth="keys") as served:
        old = await make_key(served)
        new = await credentials_of(served).rotate(id_in(old), grace_seconds=2)
        assert new is not None
        assert [await status(served, old), await status(served, new)] == [200, 200]

        async def old_refused() -> bool:
            return await status(served, old) == 401

        await eventually_async(old_refused, within=2 + SECONDS)
        assert await status(served, new) == 200


async def test_a_key_expires_by_itself(start: Start) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served, expires=2)
        assert await status(served, key) == 200

        async def refused() -> bool:
            return await status(served, key) == 401

        await eventually_async(refused, within=SECONDS)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of keys whose records were read from the store."""
    found: list[str] = []
    get = Credentials.get

    async def counted(self: Credentials, key_id: str) -> Credential | None:
        found.append(key_id)
        return await get(self, key_id)

    monkeypatch.setattr(Credentials, "get", counted)
    return found


async def test_a_key_in_use_costs_the_store_one_read(
    start: Start, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as it is fresh: two seconds, of which tests/unit/test_key_cache.py is."""
    monkeypatch.setattr("service.api.auth.known_records._FRESH_SECONDS", 3_600.0)
    async with start(auth="keys") as served:
        key = await make_key(served)
        for _ in range(3):
            assert set(await asyncio.gather(*(status(served, key) for _ in range(10)))) == {200}
        assert reads == [id_in(key)]


async def test_made_up_keys_cannot_push_known_ones_out(
    start: Start, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.auth.known_records._MOST", 10)
    async with start(auth="keys") as served:
        key = await make_key(served)
        assert await status(served, key) == 200
        reads.clear()
        for number in range(30):
            assert await status(served, f"chat_{number:012d}_" + "x" * 43) == 401
        keyring = served.app.state.edge.authenticator._keyring
        assert len(keyring._unknown) <= 10
        assert id_in(key) in keyring._known
        assert len(reads) == 30


async def test_a_stalled_store_locks_nobody_out_who_was_known(
    start: Start, redis_server: RedisServer
) -> None:
    async with start(auth="keys") as served:
        known, unknown = await make_key(served), await make_key(served)
        assert (await served.client.get("/v1/models", headers=bearer(known))).status_code == 200
        keyring = served.app.state.edge.authenticator._keyring
        keyring._known[id_in(known)].again = 0.0  # its two seconds are over
        redis_server.stall()
        try:
            async with asyncio.timeout(3):
                answer = await served.client.get("/v1/models", headers=bearer(known))
                assert answer.status_code == 200
                answer = await served.client.get("/v1/models", headers=bearer(unknown))
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
        finally:
            redis_server.go_on()

        async def unknown_is_known() -> bool:
            return await status(served, unknown) == 200

        await eventually_async(unknown_is_known)


async def test_a_key_notes_its_use_by_the_hour(start: Start) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served)
        found = await credentials_of(served).get(id_in(key))
        assert found is not None
        assert found.last_used is None
        await status(served, key)
        found = await credentials_of(served).get(id_in(key))
        assert found is not None
        assert found.last_used is not None
        await credentials_of(served)._change(id_in(key), 0, "last_used", 7_200)
        served.app.state.edge.authenticator._keyring._known.clear()
        await status(served, key)
        found = await credentials_of(served).get(id_in(key))
        assert found is not None
        assert (found.last_used or 0) > 7_200


async def test_without_authentication_credentials_are_not_looked_at(served: Served) -> None:
    for headers in ({}, bearer("whatever"), {"X-API-Key": "x"}):
        assert (await served.client.get("/v1/sessions", headers=headers)).status_code == 200


async def test_refusals_are_counted_by_reason(start: Start) -> None:
    async with start(auth="keys") as served:
        before = {reason: _refusals(reason) for reason in ("missing", "unknown", "expired", "scope")}
        await served.client.get("/v1/sessions")
        await status(served, "nonsense")
        await status(served, await make_key(served, expires=-1))
        await status(served, await make_key(served, scopes=("admin",)))
        assert {reason: _refusals(reason) - count for reason, count in before.items()} == {
            "missing": 1,
            "unknown": 1,
            "expired": 1,
            "scope": 1,
        }


async def test_the_openai_routes_refuse_in_their_own_envelope(start: Start) -> None:
    async with start(auth="keys") as served:
        answer: httpx.Response = await served.client.get("/v1/models")
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"
        assert answer.json()["error"]["code"] == "unauthenticated"


def _refusals(reason: str) -> float:
    return REGISTRY.get_sample_value("chat_auth_refusals_total", {"reason": reason}) or 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ["auth.none"]),
        ({"auth": "keys"}, ["auth.no_keys"]),
        ({"auth": "jwt", "jwt_key": "short", "jwt_algorithms": "HS256"}, ["auth.jwt_wide", "auth.jwt_short"]),
        (
            {
                "auth": "jwt",
                "jwt_key": "s" * 32,
                "jwt_algorithms": "HS256",
                "jwt_issuer": "i",
                "jwt_audience": "a",
            },
            [],
        ),
    ],
    ids=["none", "no keys", "wide and short", "all right"],
)
async def test_what_an_operator_has_to_know_is_said_at_the_start(
    start: Start, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: list[str]
) -> None:
    lines = CapturingLogger()
    monkeypatch.setattr("service.api.auth.authenticator.log", lines)
    async with start(**settings):
        assert [line.args[0] for line in lines.calls] == said
        assert {line.method_name for line in lines.calls} <= {"warning"}
