"""What belongs to somebody else is exactly like what does not exist, on every route."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.conftest import Start
from tests.support.identity import bearer, id_in, make_key
from tests.support.service import Served

ASYNC = {"Prefer": "respond-async"}


async def send(served: Served, key: str, session: str, content: str, **headers: str) -> httpx.Response:
    return await served.client.post(
        f"/v1/sessions/{session}/turns",
        json={"content": content},
        headers={**bearer(key), **ASYNC, **headers},
    )


async def texts(served: Served, key: str, session: str) -> list[str]:
    answer = await served.client.get(f"/v1/sessions/{session}/messages", headers=bearer(key))
    return [message["content"] for message in answer.json()["data"] if message["role"] == "user"]


def seen(answer: httpx.Response) -> tuple[int, str, dict[str, str]]:
    """All that a caller can see of an answer, but for when and under which request id."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    return answer.status_code, answer.text, headers


ROUTES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/v1/sessions/{s}", None),
    ("PATCH", "/v1/sessions/{s}", {"title": "mine now"}),
    ("DELETE", "/v1/sessions/{s}", None),
    ("GET", "/v1/sessions/{s}/messages", None),
    ("GET", "/v1/sessions/{s}/export", None),
    ("GET", "/v1/sessions/{s}/turns/{t}", None),
    ("GET", "/v1/sessions/{s}/turns/{t}/events", None),
    ("GET", "/v1/sessions/{s}/turns/{t}/events?after=1", None),
    ("POST", "/v1/sessions/{s}/turns/{t}/stop", None),
    ("POST", "/v1/sessions/{s}/turns/{t}/ticket", None),
    ("POST", "/v1/sessions/{s}/turns", {"regenerate": True}),
    ("POST", "/v1/sessions/{s}/turns", {"edit": {"message_id": "m1", "content": "x"}}),
    ("GET", "/api/chat/{s}/messages", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=lambda value: str(value))
async def test_the_foreign_and_the_unknown_look_the_same(
    start: Start, method: str, path: str, body: dict[str, Any] | None
) -> None:
    async with start(auth="keys", limit_reads="", limit_sends="") as served:
        mine, yours = await make_key(served), await make_key(served)
        turn = (await send(served, yours, "theirs", "hello")).json()["id"]

        async def ask(session: str) -> tuple[int, str, dict[str, str]]:
            url = path.format(s=session, t=turn)
            return seen(await served.client.request(method, url, json=body, headers=bearer(mine)))

        foreign, unknown = await ask("theirs"), await ask("nobodys")
        assert foreign == unknown
        assert foreign[0] == 404
        # And the foreign session has noticed nothing.
        session = (await served.client.get("/v1/sessions/theirs", headers=bearer(yours))).json()
        assert (session["title"], session["turns"]) == (None, 1)


async def test_an_export_never_holds_anothers_messages(start: Start) -> None:
    async with start(auth="keys") as served:
        mine, yours = await make_key(served), await make_key(served)
        await send(served, yours, "s", "their secret")
        await send(served, mine, "s", "my own")
        exported = await served.client.get("/v1/sessions/s/export", headers=bearer(mine))
        assert "my own" in exported.text
        assert "their secret" not in exported.text


async def test_two_principals_may_choose_the_same_session_id(start: Start) -> None:
    async with start(auth="keys") as served:
        mine, yours = await make_key(served), await make_key(served)
        await send(served, mine, "s", "I say this")
        await send(served, yours, "s", "and I say that")
        assert await texts(served, mine, "s") == ["I say this"]
        assert await texts(served, yours, "s") == ["and I say that"]
        assert (await served.client.delete("/v1/sessions/s", headers=bearer(mine))).status_code == 204
        assert await texts(served, yours, "s") == ["and I say that"]


async def test_lists_show_only_ones_own_sessions(start: Start) -> None:
    async with start(auth="keys") as served:
        mine, yours = await make_key(served), await make_key(served)
        for number in range(3):
            await send(served, mine, f"m{number}", "hello")
            await send(served, yours, f"y{number}", "hello")
        listed = await served.client.get("/v1/sessions", headers=bearer(mine))
        assert [session["id"] for session in listed.json()["data"]] == ["m2", "m1", "m0"]


async def test_two_principals_may_use_the_same_idempotency_key(start: Start) -> None:
    async with start(auth="keys") as served:
        mine, yours = await make_key(served), await make_key(served)
        for session in ("s", None):
            body = {"user_query": "hello", **({"session_id": session} if session else {})}
            found = []
            for key in (mine, yours, mine, yours):
                answer = await served.client.post(
                    "/chat", json=body, headers={**bearer(key), "Idempotency-Key": "same"}
                )
                found.append((answer.headers["x-session-id"], answer.headers["x-turn-id"]))
            assert found[0] == found[2]
            assert found[1] == found[3]
            assert found[0][1] != found[1][1]


async def test_keys_of_one_owner_share_their_sessions_and_a_rotated_key_keeps_its_own(start: Start) -> None:
    async with start(auth="keys") as served:
        first, second = await make_key(served, owner="team"), await make_key(served, owner="team")
        await send(served, first, "s", "hello")
        assert await texts(served, second, "s") == ["hello"]
        store = served.app.state.edge.engine.store.credentials
        rotated = await store.rotate(second.split("_")[1])
        assert await texts(served, rotated, "s") == ["hello"]


async def test_the_store_is_asked_for_the_same_keys_but_for_the_id(start: Start) -> None:
    """No timing can tell them apart, because the work is the same: ids live inside their principal."""
    async with start(auth="keys", limit_reads="") as served:
        mine, yours = await make_key(served), await make_key(served)
        turn = (await send(served, yours, "theirs", "hello")).json()["id"]
        redis = served.app.state.edge.engine.store.client.redis
        asked = []
        original = redis.execute

        async def noting(*arguments: Any, **options: Any) -> Any:
            asked.append(json.dumps([str(argument) for argument in arguments]))
            return await original(*arguments, **options)

        commands = []
        for session in ("theirs", "nobodys"):
            await served.client.get("/v1/sessions", headers=bearer(mine))  # the key is known now
            asked.clear()
            redis.execute = noting
            await served.client.get(f"/v1/sessions/{session}/turns/{turn}", headers=bearer(mine))
            redis.execute = original
            ours = [line for line in asked if f"key.{id_in(mine)}" in line]
            commands.append([line.replace(session, "SESSION") for line in ours])
        assert commands[0] == commands[1]
        assert len(commands[0]) == 1
