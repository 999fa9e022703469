"""Forks and versions: copies that go their own way, and what edits and regenerates have cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from service.config.settings import Settings
from service.store import forks as forks_module
from service.store.store import Store
from tests.conftest import Start
from tests.support.branches import fill, fork, lives, messages, said, say
from tests.support.identity import bearer, make_key
from tests.support.redis import RedisServer
from tests.support.service import Served


async def test_a_fork_has_what_was_said_up_to_a_message_and_goes_its_own_way(
    served: Served, store: redis.Redis
) -> None:
    await served.client.post("/v1/sessions", json={"id": "s", "title": "T", "system_prompt": "Be brief."})
    for word in ("one", "two", "three"):
        await say(served, f"[[say={word}]]")
    before = await messages(served)
    answer = await fork(served, before[3]["id"])
    assert answer.status_code == 201, answer.text
    copy = answer.json()
    assert answer.headers["location"] == f"/v1/sessions/{copy['id']}"
    assert (copy["title"], copy["system_prompt"], copy["turns"]) == ("T", "Be brief.", 2)
    assert await messages(served, copy["id"]) == before[:4]
    assert len(lives(store, copy["id"])) == 1
    await say(served, "[[say=else]]", copy["id"])
    assert await said(served, copy["id"]) == [one["content"] for one in before[:4]] + [
        "[[say=else]]",
        "else",
    ]
    assert await messages(served) == before
    listed = (await served.client.get("/v1/sessions")).json()["data"]
    assert {one["id"] for one in listed} == {"s", copy["id"]}
    await served.client.delete(f"/v1/sessions/{copy['id']}")
    assert list(store.scan_iter(f"chat:{{*/{copy['id']}}}:*")) == []
    assert await messages(served) == before


async def test_a_fork_through_a_question_can_be_answered_anew(served: Served) -> None:
    await say(served, "[[say=one]]")
    await say(served, "[[say=two]]")
    before = await messages(served)
    copy = (await fork(served, before[2]["id"])).json()["id"]
    assert await said(served, copy) == ["[[say=one]]", "one", "[[say=two]]"]
    await say(served, "", copy, regenerate=True)
    assert await said(served, copy) == ["[[say=one]]", "one", "[[say=two]]", "two"]


async def test_the_key_of_a_fork_is_none_of_a_send_in_its_session(served: Served, store: redis.Redis) -> None:
    await say(served, "[[say=one]]")
    last = (await messages(served))[-1]["id"]
    key = {"Idempotency-Key": "k"}
    wrong = await served.client.post("/v1/sessions/s/fork", json={"through": "m_none"}, headers=key)
    assert wrong.status_code == 404  # and the key is free
    path = "/v1/sessions/s/fork"
    assert (await served.client.post(path, json={"through": last}, headers=key)).status_code == 201
    sent = await served.client.post("/v1/sessions/s/turns", json={"content": "[[say=two]]"}, headers=key)
    assert (sent.status_code, sent.json()["code"]) == (409, "idempotency_mismatch")
    used = {"Idempotency-Key": "of a send"}
    sent = await served.client.post("/v1/sessions/s/turns", json={"content": "[[say=two]]"}, headers=used)
    assert sent.status_code == 200
    answer = await served.client.post(path, json={"through": last}, headers=used)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_mismatch")
    await served.client.delete("/v1/sessions/s")
    assert list(store.scan_iter("chat:{*/s}:*")) == []


async def test_a_repeated_fork_with_its_key_is_one_session(served: Served) -> None:
    await say(served, "[[say=one]]")
    last = (await messages(served))[-1]["id"]
    answers = await asyncio.gather(*(fork(served, last, **{"Idempotency-Key": "k"}) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200, 201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    listed = (await served.client.get("/v1/sessions")).json()["data"]
    assert len(listed) == 2


async def test_a_fork_through_another_message_under_the_same_key_is_another_request(served: Served) -> None:
    await say(served, "[[say=one]]")
    first, last = [one["id"] for one in await messages(served)]
    key = {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(fork(served, (first, last)[i % 2], **key) for i in range(8)))
    [copy] = {answer.json()["id"] for answer in answers if answer.status_code < 300}
    through = first if len(await messages(served, copy)) == 1 else last
    for answer, asked in zip(answers, [first, last] * 4, strict=True):
        if asked == through:
            assert answer.status_code in (200, 201)
        else:
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_mismatch")
            assert answer.headers["x-should-retry"] == "false"
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [201] + [409] * 4
    # A repeat is the same copy, also where its message is not in the session any more.
    edit = {"message_id": first, "content": "[[say=two]]"}
    await say(served, "", edit=edit)
    assert (await fork(served, through, **key)).json()["id"] == copy
    other = await fork(served, (await messages(served))[-1]["id"], **key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")
    assert len((await served.client.get("/v1/sessions")).json()["data"]) == 2


async def test_what_is_not_there_cannot_be_forked(start: Start) -> None:
    async with start(auth="keys") as served:
        mine, other = bearer(await make_key(served)), bearer(await make_key(served))
        await say(served, "[[say=one]]", headers=mine)
        last = (await messages(served, headers=mine))[-1]["id"]
        for session, through, headers, code in (
            ("s", last, other, "session_not_found"),
            ("nowhere", last, mine, "session_not_found"),
            ("s", "m_none", mine, "message_not_found"),
        ):
            answer = await fork(served, through, session, **headers)
            assert (answer.status_code, answer.json()["code"]) == (404, code)
        wrong: list[Any] = [
            {},
            {"through": ""},
            {"through": 7},
            {"through": "x" * 201},
            [],
            {"through": "a\0"},
        ]
        for body in wrong:
            answer = await served.client.post("/v1/sessions/s/fork", json=body, headers=mine)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert len((await served.client.get("/v1/sessions", headers=mine)).json()["data"]) == 1


async def test_forks_count_against_what_a_caller_may_keep(start: Start, store: redis.Redis) -> None:
    async with start(auth="keys", max_stored_bytes_per_principal=100_000) as served:
        mine = bearer(await make_key(served, owner="me"))
        await say(served, "[[say=one]] " + "x" * 30_000, headers=mine)
        last = (await messages(served, headers=mine))[-1]["id"]
        answers = [await fork(served, last, **mine) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
        assert answers[-1].json()["code"] == "storage_full"
        used = (await served.client.get("/v1/usage", headers=mine)).json()["storage"]
        assert used["sessions"]["used"] == 3
        assert len((await served.client.get("/v1/sessions", headers=mine)).json()["data"]) == 3
        assert len(list(store.scan_iter("chat:{owner.me/*}:messages"))) == 3


@pytest.fixture
def deep(redis_server: RedisServer, store: redis.Redis) -> Store:
    return Store(Settings(_env_file=None, redis_url=redis_server.url), "host:1")


async def test_a_long_session_is_copied_whole(served: Served, store: redis.Redis) -> None:
    fill(store, 3_000)
    answer = await fork(served, "m2998")
    assert answer.status_code == 201, answer.text
    base, copy = "chat:{none.anonymous/s}", f"chat:{{none.anonymous/{answer.json()['id']}}}"
    wanted: Any = store.zrange(f"{base}:order", 0, -2, withscores=True)
    assert store.zrange(f"{copy}:order", 0, -1, withscores=True) == wanted
    bodies: Any = store.hgetall(f"{base}:messages")
    del bodies["m2999"]
    assert store.hgetall(f"{copy}:messages") == bodies
    await say(served, "[[say=next]]", answer.json()["id"])
    newest = await messages(served, answer.json()["id"], order="desc", limit=2)
    assert [one["content"] for one in newest] == ["next", "[[say=next]]"]


async def test_large_messages_are_copied_in_small_parts(
    served: Served, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 40, 100_000)
    parts: list[int] = []
    forks = served.app.state.edge.engine.store.forks
    write = forks.write

    async def watched(*args: Any) -> Any:
        parts.append(sum(len(one.body) for one in args[3]))
        return await write(*args)

    monkeypatch.setattr(forks, "write", watched)
    assert (await fork(served, "m39")).status_code == 201
    assert len(parts) > 3
    assert max(parts) < 2 * forks_module._PART_BYTES + 400_000


async def test_a_session_that_changes_while_it_is_copied_is_not_half_of_each(
    served: Served, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 1_200)
    forks = served.app.state.edge.engine.store.forks
    read = forks.part

    async def then_edited(*args: Any) -> Any:
        found = await read(*args)
        monkeypatch.setattr(forks, "part", read)
        await say(served, "", edit={"message_id": "m10", "content": "[[say=other]]"})
        return found

    monkeypatch.setattr(forks, "part", then_edited)
    answer = await fork(served, "m1100")
    assert (answer.status_code, answer.json()["code"]) == (409, "turn_in_progress")
    assert len(list(store.scan_iter("chat:{none.anonymous/*}:messages"))) == 1
    assert (await fork(served, "m1100")).json()["code"] == "message_not_found"


async def test_a_copy_that_a_killed_worker_left_behind_is_no_session_and_ends(
    served: Served, store: redis.Redis, deep: Store
) -> None:
    fill(store, 20)
    part = await deep.forks.part("none.anonymous", "s", -1, 21)
    assert part is not None
    assert await deep.forks.write("none.anonymous", "half", 0, part[:10]) == "COPIED"
    assert (await served.client.get("/v1/sessions/half")).status_code == 404
    assert lives(store, "half") == {6}
    # Parts that are not there are missed; what is written again is written once.
    assert await deep.forks.write("none.anonymous", "half", 15, part[15:], {"id": "half"}) == "LOST"
    assert await deep.forks.write("none.anonymous", "half", 0, part[:10]) == "COPIED"
    assert await deep.forks.write("none.anonymous", "half", 10, part[10:], {"id": "half"}) == "COPIED"
    assert await deep.forks.write("none.anonymous", "half", 10, part[10:], {"id": "half"}) == "EXISTS"
    assert store.zcard("chat:{none.anonymous/half}:order") == 20
    await deep.forks.discard("none.anonymous", "half")  # a session stays
    assert store.zcard("chat:{none.anonymous/half}:order") == 20
    await deep.close()
