"""Sessions: made, listed, changed, exported, deleted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.integration.test_turns import SLOW, begin, read
from tests.support.service import Served
from tests.support.waiting import eventually_async


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/sessions", {"id": "{session}"}),
        ("PATCH", "/v1/sessions/{session}", {"title": "mine"}),
        ("POST", "/chat", {"user_query": "[[tokens=2]]", "session_id": "{session}"}),
        ("GET", "/v1/sessions/{session}/turns/{turn}/events", None),
        ("GET", "/api/chat/{session}/stream", None),
    ],
    ids=["made", "changed", "sent to", "read", "resumed"],
)
async def test_a_session_that_is_named_later_keeps_all_of_it_equally_long(
    served: Served, store: redis.Redis, method: str, path: str, body: dict[str, str] | None
) -> None:
    first = await served.client.post("/chat", json={"user_query": "[[tokens=2]]"})
    session, turn = first.headers["x-session-id"], first.headers["x-turn-id"]
    base = f"chat:{{none.anonymous/{session}}}"

    def lives() -> list[int]:
        return [int(str(store.ttl(f"{base}:{name}"))) for name in ("session", "order", "messages", "turns")]

    await eventually_async(lambda: store.hget(f"{base}:session", "active") is None)
    assert max(lives()) <= 3600
    sent = body and {name: value.replace("{session}", session) for name, value in body.items()}
    answer = await served.client.request(method, path.format(session=session, turn=turn), json=sent)
    assert answer.status_code in (200, 204), answer.text
    await eventually_async(lambda: store.hget(f"{base}:session", "active") is None)
    assert min(lives()) > 3600
    assert max(lives()) - min(lives()) <= 5


async def test_a_session_is_made_once_and_listed_newest_first(served: Served) -> None:
    made = await served.client.post(
        "/v1/sessions", json={"id": "a", "title": "First", "system_prompt": "Hi."}
    )
    assert made.status_code == 201
    assert made.json() | {"created": 0, "updated": 0} == {
        "id": "a",
        "title": "First",
        "model": None,
        "system_prompt": "Hi.",
        "created": 0,
        "updated": 0,
        "turns": 0,
        "active_turn": None,
    }
    again = await served.client.post("/v1/sessions", json={"id": "a", "title": "Other"})
    assert (again.status_code, again.json()["title"]) == (200, "First")
    for name in ("b", "c", "d"):
        await served.client.post("/v1/sessions", json={"id": name})
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await served.client.get("/v1/sessions", params={"limit": 3, "cursor": cursor})).json()
        seen += [session["id"] for session in page["data"]]
        cursor = page["next"]
    assert seen == ["d", "c", "b", "a"]


async def test_sessions_that_no_call_has_named_are_not_listed_until_one_does(served: Served) -> None:
    answer = await served.client.post("/chat", json={"user_query": "[[tokens=1]]"})
    assert (await served.client.get("/v1/sessions")).json()["data"] == []
    session = answer.headers["x-session-id"]
    await served.client.post("/chat", json={"user_query": "[[tokens=1]]", "session_id": session})
    listed = (await served.client.get("/v1/sessions")).json()["data"]
    assert [item["id"] for item in listed] == [session]


@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("POST", "/ticket"), ("POST", "/stop")])
async def test_asking_for_a_turn_names_its_session(served: Served, method: str, rest: str) -> None:
    answer = await served.client.post("/chat", json={"user_query": "[[tokens=1]]"})
    session, turn = answer.headers["x-session-id"], answer.headers["x-turn-id"]
    asked = await served.client.request(method, f"/v1/sessions/{session}/turns/{turn}{rest}")
    assert asked.status_code == 200
    listed = (await served.client.get("/v1/sessions")).json()["data"]
    assert [item["id"] for item in listed] == [session]


@pytest.mark.parametrize("session", ["a b", "%00", "..", "%0A", "ü", "x" * 129])
async def test_what_can_be_no_session_id_is_400_on_every_route(served: Served, session: str) -> None:
    path = f"/v1/sessions/{session.replace('..', '%2E%2E')}"
    for method, rest in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/messages"),
        ("GET", "/export"),
        ("POST", "/turns"),
        ("GET", "/turns/t_x"),
        ("GET", "/turns/t_x/events"),
        ("POST", "/turns/t_x/stop"),
        ("POST", "/turns/t_x/ticket"),
    ):
        body = {"content": "Hi", "title": "Hi"} if rest in ("", "/turns") else None
        reply = await served.client.request(method, path + rest, json=body)
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid_request"), f"{method} {rest}"


async def test_a_session_is_renamed_and_emptied_fields_go(served: Served) -> None:
    await served.client.post("/v1/sessions", json={"id": "a", "title": "Old", "system_prompt": "Be brief."})
    changed = await served.client.patch("/v1/sessions/a", json={"title": "New", "system_prompt": None})
    assert (changed.json()["title"], changed.json()["system_prompt"]) == ("New", None)
    assert changed.json()["updated"] > changed.json()["created"]
    wrong = await served.client.patch("/v1/sessions/a", json={"model": "gpt-17"})
    assert wrong.json()["code"] == "model_not_found"


async def test_a_system_prompt_has_up_to_65536_characters(served: Served) -> None:
    longest = "é" * 65_536
    made = await served.client.post("/v1/sessions", json={"id": "a", "system_prompt": longest})
    assert (made.status_code, made.json()["system_prompt"]) == (201, longest)
    longer = await served.client.patch("/v1/sessions/a", json={"system_prompt": longest + "é"})
    assert (longer.status_code, longer.json()["code"]) == (400, "invalid_request")
    assert longer.json()["detail"].startswith("system_prompt: ")
    assert (await served.client.get("/v1/sessions/a")).json()["system_prompt"] == longest


async def test_a_page_of_sessions_ends_early_where_their_prompts_are_long(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.sessions._PAGE_CHARACTERS", 100)
    for name, length in (("a", 0), ("b", 60), ("c", 150), ("d", 40), ("e", 60)):
        await served.client.post("/v1/sessions", json={"id": name, "system_prompt": "x" * length})
    pages: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await served.client.get("/v1/sessions", params={"cursor": cursor})).json()
        pages.append("".join(session["id"] for session in page["data"]))
        cursor = page["next"]
    assert pages == ["ed", "c", "ba"]


async def test_the_sessions_system_prompt_and_model_are_used(served: Served) -> None:
    await served.client.post(
        "/v1/sessions", json={"id": "a", "system_prompt": "Be brief.", "model": "llama3-8b-8192"}
    )
    answer = await begin(served, "a", {"content": "[[echo]]"})
    events = await read(served, answer.headers["location"] + "/events")
    assert events[0].data["model"] == "openai/gpt-oss-20b"
    assert answer.json()["model"] == "openai/gpt-oss-20b"
    text = (await served.client.get(answer.headers["location"])).json()["text"]
    assert json.loads(text)[0] == {"role": "system", "content": "Be brief."}


async def test_the_first_send_gives_a_session_made_beforehand_what_it_lacks(served: Served) -> None:
    await served.client.post("/v1/sessions", json={"id": "a", "model": "openai/gpt-oss-20b"})
    first = {"user_query": "[[say=1]]", "session_id": "a", "system_prompt": "Be brief."}
    await served.client.post("/chat", json={**first, "model": "openai/gpt-oss-120b"})
    session = (await served.client.get("/v1/sessions/a")).json()
    assert (session["system_prompt"], session["model"]) == ("Be brief.", "openai/gpt-oss-20b")
    await served.client.post("/chat", json={**first, "user_query": "[[say=2]]", "system_prompt": "Shout."})
    assert (await served.client.get("/v1/sessions/a")).json()["system_prompt"] == "Be brief."


async def test_messages_are_paged_oldest_first(served: Served) -> None:
    for n in range(3):
        await served.client.post("/chat", json={"user_query": f"[[say={n}]]", "session_id": "s"})
    seen = []
    cursor: str | None = ""
    while cursor is not None:
        page = (
            await served.client.get("/v1/sessions/s/messages", params={"limit": 4, "cursor": cursor})
        ).json()
        seen += page["data"]
        cursor = page["next"]
    assert [message["content"] for message in seen] == ["[[say=0]]", "0", "[[say=1]]", "1", "[[say=2]]", "2"]
    common = {"id", "role", "content", "turn_id", "state", "created"}
    assert [message.keys() for message in seen] == [common, common | {"finish_reason", "model", "usage"}] * 3
    exported = (await served.client.get("/v1/sessions/s/export")).json()
    assert exported["messages"] == seen
    assert exported["session"]["turns"] == 3


async def test_delete_stops_the_running_turn_and_leaves_no_key(served: Served, store: redis.Redis) -> None:
    await begin(served, "s", {"content": SLOW}, **{"Idempotency-Key": "k"})
    await begin(served, "s", {"content": "[[tokens=3]]", "on_busy": "queue"})
    gone = await served.client.delete("/v1/sessions/s")
    assert gone.status_code == 204
    await eventually_async(lambda: not list(store.scan_iter("chat:{none.anonymous/s}*")))
    assert (await served.client.get("/v1/sessions/s")).status_code == 404
    assert (await served.client.get("/v1/sessions")).json()["data"] == []
    fresh = await served.client.post("/chat", json={"user_query": "[[tokens=2]]", "session_id": "s"})
    assert fresh.text == expected_text(2, 0)


async def test_long_histories_are_trimmed_and_keep_their_front_for_many_turns(
    start: Start, double: Double
) -> None:
    async with start(max_body_bytes=8_000_000) as served:
        # 400 exchanges of about 500 tokens: a context of 131k holds some 240 of them.
        history = [
            {"role": role, "content": f"{n} " + "word " * 190}
            for n in range(400)
            for role in ("user", "assistant")
        ]
        body = {"user_query": "[[tokens=1]] first", "session_id": "s", "history": history}
        await served.client.post("/chat-with-history", json=body)
        for n in range(6):
            await served.client.post("/chat", json={"user_query": f"[[tokens=1]] {n}", "session_id": "s"})
        fronts = set()
        for call in double.calls.find():
            context: Any = call.describe()["messages"]
            assert context[0] == {"role": "system", "content": "You are a helpful AI assistant."}
            assert context[1]["role"] == "user"
            first = history.index(context[1])
            assert context[1 : 1 + len(history) - first] == history[first:]
            assert len(context) > 200
            fronts.add(first)
        assert len(double.calls.find()) == 7
        assert len(fronts) <= 2


async def test_a_message_for_a_session_that_exists_does_not_make_one(served: Served) -> None:
    there = {"If-Match": "*"}
    body = {"content": "[[tokens=2]]"}
    refused = await served.client.post("/v1/sessions/s_gone/turns", json=body, headers=there)
    assert (refused.status_code, refused.json()["code"]) == (404, "session_not_found")
    assert (await served.client.get("/v1/sessions/s_gone")).status_code == 404
    await served.client.post("/v1/sessions", json={"id": "s_gone"})
    taken = await served.client.post("/v1/sessions/s_gone/turns", json=body, headers=there)
    assert taken.status_code == 200


@pytest.mark.parametrize("path", ["/v1/sessions/s/export", "/api/chat/s/messages"])
async def test_what_is_streamed_page_by_page_counts_as_an_open_stream(start: Start, path: str) -> None:
    """Each of these that is not read holds a page of 1 MiB, and what it was made of."""
    async with start(max_open_streams_per_principal=1) as served:
        await served.client.post("/v1/sessions", json={"id": "s"})
        async with served.client.stream("GET", "/v1/sessions/s/events") as response:
            assert response.status_code == 200
            answer = await served.client.get(path)
            assert answer.status_code == 429

        async def is_let_in() -> bool:
            return (await served.client.get(path)).status_code == 200

        await eventually_async(is_let_in)  # once the service has heard that the reader is gone


async def test_of_two_deletes_at_once_both_have_deleted_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.client.post("/v1/sessions", json={"id": "s"})
    sessions = served.app.state.edge.engine.store.sessions
    delete = sessions.delete

    async def beside(*args: Any) -> bool:
        """Another one is faster."""
        assert await delete(*args)
        return False

    monkeypatch.setattr(sessions, "delete", beside)
    assert (await served.client.delete("/v1/sessions/s")).status_code == 204
    assert (await served.client.delete("/v1/sessions/s")).status_code == 404


async def test_who_reads_a_turn_elsewhere_is_told_its_end_before_a_delete_takes_its_log(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.tail_cache._TAIL_SECONDS", 0.5)  # it has just looked
    monkeypatch.setattr("service.engine.engine.FAREWELL_SECONDS", 3.0)
    async with start() as one, start() as other:
        body = {"content": "[[tokens=2000 rate=200]]"}
        turn = await one.client.post("/v1/sessions/s/turns", json=body, headers={"Prefer": "respond-async"})
        async with other.client.stream("GET", f"{turn.headers['location']}/events") as reading:
            names = [line async for line in deleted_when_it_speaks(one, reading.aiter_lines())]
        assert names[-1] == "event: turn.stopped"


async def deleted_when_it_speaks(served: Served, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The names of events; upon the first text the session is deleted."""
    deleting: asyncio.Task[Any] | None = None
    async for line in lines:
        if line.startswith("event:"):
            yield line
        if line == "event: delta" and deleting is None:
            deleting = asyncio.create_task(served.client.delete("/v1/sessions/s"))
    assert deleting is not None
    await deleting
