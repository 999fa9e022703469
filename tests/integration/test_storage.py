"""What a principal may keep: sessions and bytes, counted, refused, freed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import redis

from service.store.connection.typed_scripts import Call
from service.store.ledger import Bounds
from service.store.turn_records import TurnRef
from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.service import Served
from tests.support.waiting import eventually_async

PAGE = 16_384  # bytes of a text that is large beside what surrounds it
TEXT = "x" * PAGE


async def used(served: Served, **headers: str) -> tuple[int, int]:
    """Sessions and bytes, once everything that has ended is settled."""
    await served.app.state.edge.engine.idle()
    storage = (await served.client.get("/v1/usage", headers=headers)).json()["storage"]
    return storage["sessions"]["used"], storage["bytes"]["used"]


async def ask(served: Served, text: str = "[[say=hi]]", **body: Any) -> httpx.Response:
    return await served.client.post("/chat", json={"user_query": text, **body})


def is_full(answer: httpx.Response, word: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, "storage_full"), answer.text
    assert word in answer.json()["detail"]
    assert answer.headers["x-should-retry"] == "false", "no repeat makes room"


def held(store: redis.Redis) -> int:
    """Bytes that Redis says it uses for everything but the account itself."""
    return sum(store.memory_usage(key, samples=0) or 0 for key in store.scan_iter("*{none.anonymous*"))


# The floods


async def test_a_flood_of_system_prompts_ends_long_before_the_store_is_full(
    start: Start, store: redis.Redis
) -> None:
    quota = 2_000_000
    async with start(max_stored_bytes_per_principal=quota) as served:
        before = store.info("memory")["used_memory"]
        made = 0
        while True:
            answer = await served.client.post("/v1/sessions", json={"system_prompt": "é" * 65_536})
            if answer.status_code != 201:
                break
            made += 1
        is_full(answer, f"{quota} bytes")
        assert made == quota // (131_072 + 1_000)
        assert store.info("memory")["used_memory"] - before < 1.5 * quota


async def test_a_flood_of_large_sends_that_upstream_refuses_ends_and_keeps_only_the_questions(
    start: Start, store: redis.Redis
) -> None:
    quota = 1_000_000
    tool = {"type": "function", "function": {"name": "f", "description": TEXT, "parameters": {}}}
    body = {
        "messages": [
            {"role": "system", "content": TEXT * 4},
            {"role": "assistant", "content": TEXT * 4},
            {"role": "user", "content": "[[fault=400]]"},
        ],
        "tools": [tool],
    }
    async with start(max_stored_bytes_per_principal=quota) as served:
        answer = await served.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        sessions, size = await used(served)
        assert sessions == 1
        assert size < 9 * PAGE + 6_000, "the session's prompt and seed; nothing twice"
        (turn,) = store.keys("*:turn:*")
        assert not set(store.hkeys(turn)) & {"params", "started"}
        for _ in range(12):
            answer = await served.client.post("/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "storage_full")
        assert held(store) < 1.1 * quota


@pytest.mark.parametrize("ending", ["[[say=done]]", "[[fault=400]]", "[[tokens=400 rate=100]]"])
async def test_whatever_ends_a_turn_leaves_only_what_its_history_needs(
    served: Served, store: redis.Redis, ending: str
) -> None:
    body = {
        "messages": [{"role": "system", "content": TEXT}, {"role": "user", "content": ending}],
        "stream": True,
        "session_id": "s",
        "user": "u" * 512,
    }
    async with served.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if "rate" in ending:
            await anext(answer.aiter_raw())
            turn = answer.headers["x-turn-id"]
            await served.client.post(f"/v1/sessions/s/turns/{turn}/stop")
    await served.app.state.edge.engine.idle()
    (name,) = store.keys("*:turn:*")
    assert (store.memory_usage(name) or 0) < 2_500
    assert not store.hexists(name, "params")


# What refuses, and how it is said


async def test_beyond_the_sessions_nothing_new_begins_and_what_is_there_goes_on(start: Start) -> None:
    async with start(max_sessions_per_principal=2) as served:
        assert (await served.client.post("/v1/sessions", json={"id": "a"})).status_code == 201
        assert (await ask(served, session_id="b")).text == "hi"
        is_full(await served.client.post("/v1/sessions", json={"id": "c"}), "2 sessions")
        is_full(await ask(served, session_id="c"), "2 sessions")
        is_full(await ask(served), "2 sessions")
        assert (await served.client.post("/v1/sessions", json={"id": "a"})).status_code == 200
        assert (await ask(served, session_id="a")).text == "hi"
        assert (await used(served))[0] == 2
        assert (await served.client.delete("/v1/sessions/b")).status_code == 204
        assert (await ask(served, session_id="c")).text == "hi"
        assert (await used(served))[0] == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat", {"user_query": "hi"}),
        ("/v1/sessions/new/turns", {"content": "hi"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        (
            "/api/chat",
            {"id": "n", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]},
        ),
        ("/v1/sessions", {}),
    ],
)
async def test_every_dialect_says_it_in_its_own_form(start: Start, path: str, body: dict[str, Any]) -> None:
    async with start(max_sessions_per_principal=1) as served:
        await served.client.post("/v1/sessions", json={"id": "a"})
        answer = await served.client.post(path, json=body)
        sentence = "You keep 1 sessions, which is the limit; delete some."
        assert answer.status_code == 429
        assert answer.headers["x-should-retry"] == "false"
        if path == "/api/chat":
            assert answer.text == sentence
        elif path == "/v1/chat/completions":
            assert answer.json()["error"] == {
                "message": sentence,
                "type": "rate_limit_error",
                "param": None,
                "code": "storage_full",
            }
        else:
            assert answer.headers["content-type"] == "application/problem+json"
            assert (answer.json()["code"], answer.json()["detail"]) == ("storage_full", sentence)


async def test_who_is_full_reads_repeats_and_deletes_all_the_same(start: Start) -> None:
    async with start(max_stored_bytes_per_principal=60_000) as served:
        key = {"idempotency-key": "k"}
        body = {"user_query": f"[[say=hi]] {TEXT}", "session_id": "a"}
        assert (await served.client.post("/chat", json=body, headers=key)).text == "hi"
        await used(served)
        is_full(await ask(served, TEXT * 3, session_id="a"), "60000 bytes")
        is_full(await served.client.patch("/v1/sessions/a", json={"system_prompt": TEXT * 3}), "60000 bytes")
        assert (await served.client.post("/chat", json=body, headers=key)).text == "hi"
        assert len((await served.client.get("/v1/sessions/a/messages")).json()["data"]) == 2
        assert (await served.client.patch("/v1/sessions/a", json={"title": "t"})).status_code == 200
        assert (await served.client.delete("/v1/sessions/a")).status_code == 204
        assert await used(served) == (0, 0)
        assert (await ask(served, f"[[say=hi]] {TEXT * 2}", session_id="a")).text == "hi"


async def test_of_many_at_once_as_many_begin_as_there_is_room(start: Start) -> None:
    async with start(max_sessions_per_principal=5) as served:
        answers = await asyncio.gather(*(ask(served, session_id=f"s{n}") for n in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 15
        assert (await used(served))[0] == 5


async def test_the_seeds_of_a_history_count(start: Start) -> None:
    async with start(max_stored_bytes_per_principal=100_000) as served:
        body = {"user_query": "[[say=hi]]", "history": [{"role": "user", "content": TEXT}] * 3}
        assert (await served.client.post("/chat-with-history", json=body)).text == "hi"
        assert 3 * PAGE < (await used(served))[1] < 3 * PAGE + 8_000
        is_full(await served.client.post("/chat-with-history", json=body), "100000 bytes")


async def test_making_a_session_is_charged_as_a_send(start: Start) -> None:
    async with start(limit_sends="2/minute", limit_reads="100/minute") as served:
        for status in (201, 201, 429):
            assert (await served.client.post("/v1/sessions", json={})).status_code == status
        assert (await served.client.get("/v1/sessions")).status_code == 200


# How it is counted


async def test_the_account_is_what_redis_uses_within_a_third(start: Start, store: redis.Redis) -> None:
    async with start(max_sessions_per_principal=1_000) as served:
        for n in range(6):
            session = None if n % 2 else f"s{n}"
            await ask(served, f"[[tokens={20 * n}]] {'é' * 300 * n}", session_id=session)
            await ask(served, f"[[tokens=30]] {'é' * 40}", session_id=session or f"t{n}")
        await served.client.post("/v1/sessions", json={"system_prompt": TEXT, "title": "t"})
        sessions, size = await used(served)
        assert sessions == 10
        assert 0.75 * held(store) < size < 1.33 * held(store)


async def test_what_a_session_drops_leaves_the_account(start: Start) -> None:
    async with start(max_sessions_per_principal=9, max_versions=0) as served:
        turns = "/v1/sessions/s/turns"
        wait = {"Accept": "application/json"}
        for content in ("[[say=one]]", TEXT):
            await served.client.post(
                turns, json={"content": content, "message_id": content[:9]}, headers=wait
            )
            _, size = await used(served)
        edit = {"edit": {"message_id": TEXT[:9], "content": "[[say=two]]"}}
        await served.client.post(turns, json=edit, headers=wait)
        assert (await used(served))[1] < size - PAGE + 3_000
        await served.client.patch("/v1/sessions/s", json={"system_prompt": TEXT})
        _, large = await used(served)
        await served.client.patch("/v1/sessions/s", json={"system_prompt": None})
        assert large - (await used(served))[1] == PAGE


async def test_a_delete_frees_everything_at_once_answers_and_logs_too(
    start: Start, store: redis.Redis
) -> None:
    async with start(max_sessions_per_principal=9) as served:
        for _ in range(3):
            await ask(served, "[[tokens=200]]", session_id="s")
        unnamed = (await ask(served, "[[tokens=200]]")).headers["x-session-id"]
        await used(served)
        for session in ("s", unnamed):
            assert (await served.client.delete(f"/v1/sessions/{session}")).status_code == 204
        assert await used(served) == (0, 0)
        assert store.zrange("chat:{none.anonymous}:stored_until", 0, -1) == []


async def test_what_expires_leaves_the_account_however_much_of_it_there_is(
    start: Start, store: redis.Redis
) -> None:
    async with start(max_sessions_per_principal=3_000) as served:
        await ask(served)
        await ask(served, session_id="s")
        assert (await used(served))[0] == 2
        store.zadd("chat:{none.anonymous}:stored_until", {f"old{n}": n + 1 for n in range(3_000)})
        names: dict[Any, Any] = {f"old{n}": 1_000 for n in range(3_000)}
        store.hset("chat:{none.anonymous}:stored", mapping=names)
        store.hincrby("chat:{none.anonymous}:stored", "#", 3_000)
        store.hincrby("chat:{none.anonymous}:stored", "=", 3_000_000)
        assert (await ask(served, session_id="t")).text == "hi", "what has ended is not in the way"
        assert (await used(served))[0] == 3
        ends = "chat:{none.anonymous}:stored_until"
        for item in store.zrange(ends, 0, -1):
            store.zadd(ends, {str(item): 1})  # its time is over
        assert await used(served) == (0, 0)


async def test_a_worker_that_dies_leaves_nothing_in_the_account(start: Start) -> None:
    async with start(max_sessions_per_principal=2, lease_seconds=0.5) as served:
        store = served.app.state.edge.engine.store
        dead = TurnRef("none.anonymous", "s", "t_of_the_dead")
        await store.leases.own(dead)
        assert (await store.ledger.reserve(dead, 1, 1, Bounds(), 50_000)).by == ""
        kept = await store.account.kept("none.anonymous")
        assert (kept.sessions, kept.bytes) == (1, 50_000)

        async def given_back() -> bool:
            return await used(served) == (0, 0)

        await eventually_async(given_back, within=10)


async def test_sessions_that_went_without_a_word_are_found_when_they_are_in_the_way(
    start: Start, store: redis.Redis
) -> None:
    async with start(max_sessions_per_principal=2) as served:
        for session in ("a", "b"):
            await ask(served, session_id=session)
        await used(served)
        for key in store.scan_iter("*{none.anonymous/a}*"):
            store.delete(key)  # as a worker that dies in a delete leaves it
        assert (await ask(served, session_id="c")).text == "hi"
        assert (await used(served))[0] == 2


async def test_a_session_that_a_worker_of_before_has_filled_is_measured(
    start: Start, store: redis.Redis
) -> None:
    async with start(max_sessions_per_principal=9) as served:
        await ask(served, TEXT, session_id="s")
        await served.app.state.edge.engine.idle()
        (name,) = store.keys("*/s}:session")
        store.hdel(name, "bytes")
        store.delete(*store.keys("*}:stored*"))
        await ask(served, session_id="s")
        assert PAGE < (await used(served))[1] < 2 * PAGE


async def test_on_cluster_every_call_of_the_account_goes_to_one_slot_and_says_the_same(
    start: Start, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(max_sessions_per_principal=2) as served:
        engine = served.app.state.edge.engine
        engine.store.client.cluster = True
        ask_script, slots = engine.store.scripts.call, {}

        async def noted(call: Call) -> Any:
            slots[call.script] = {key.partition("{")[2].partition("}")[0] for key in call.keys}
            return await ask_script(call)

        monkeypatch.setattr(engine.store.scripts, "call", noted)
        assert (await served.client.post("/v1/sessions", json={"id": "z"})).status_code == 201
        assert (await served.client.delete("/v1/sessions/z")).status_code == 204
        assert (await ask(served, session_id="a")).text == "hi"
        assert (await ask(served, session_id="b")).text == "hi"
        is_full(await ask(served, session_id="c"), "2 sessions")
        await engine.idle()  # what ended is settled
        engine.store.client.cluster = False
        assert (await used(served))[0] == 2
        of_the_account = {name: slots[name] for name in ("reserve", "settle", "charge", "free", "weigh")}
        assert all(found == {"none.anonymous"} for found in of_the_account.values()), of_the_account
        assert all(len(found) == 1 for name, found in slots.items()), slots
    assert sorted(map(str, store.keys("*}:stored*"))) == [
        "chat:{none.anonymous}:stored",
        "chat:{none.anonymous}:stored_until",
    ]


async def test_quotas_are_off_for_nobody_and_on_for_keys(start: Start) -> None:
    async with start() as served:
        await ask(served, session_id="s")
        storage = (await served.client.get("/v1/usage")).json()["storage"]
        nothing = {"limit": None, "used": 0}
        assert storage == {"sessions": nothing, "bytes": nothing}
    async with start(auth="keys") as served:
        mine = bearer(await make_key(served))
        await served.client.post("/chat", json={"user_query": "[[say=hi]]"}, headers=mine)
        await served.app.state.edge.engine.idle()
        storage = (await served.client.get("/v1/usage", headers=mine)).json()["storage"]
        assert storage["sessions"] == {"limit": 20_000, "used": 1}
        assert storage["bytes"]["limit"] == 67_108_864
        assert 1_000 < storage["bytes"]["used"] < 8_000
