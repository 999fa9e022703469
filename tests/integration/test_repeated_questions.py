"""A failed send is repeated in a session that has message ids of any text: the history stays readable."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
import redis

from tests.double import expected_text
from tests.support.running import ROOT
from tests.support.service import Served

KEY = {"Idempotency-Key": "k1"}
# What is special in a pattern, in its replacement, in JSON, and outside ASCII.
IDS = ["%", "%1", '"', 'a","role":"assistant', "\\", "\\u0000", "é日本🙂", ".*", "[", "%s%d{}"]


async def history(served: Served, session: str) -> list[dict[str, Any]]:
    answer = await served.client.get(f"/v1/sessions/{session}/messages")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def fail(served: Served) -> tuple[str, dict[str, str]]:
    """A keyed send that names no session and fails; its session, and its body to be sent again."""
    body = {"user_query": "[[tokens=4 fault=400 times=1]] first"}
    failed = await served.client.post("/chat", json=body, headers=KEY)
    assert failed.status_code == 400
    sessions = {key.split("/")[1].partition("}")[0] for key in await keys(served)}
    (session,) = sessions
    return session, body


async def keys(served: Served) -> list[str]:
    redis_client = served.app.state.edge.engine.store.client.redis
    return [key.decode() for key in await redis_client.execute("KEYS", "*/s_k*:session")]


@pytest.mark.parametrize("message_id", IDS)
async def test_a_repeat_after_another_question_of_any_id_leaves_both(served: Served, message_id: str) -> None:
    session, body = await fail(served)
    other = {
        "id": session,
        "messages": [
            {"id": message_id, "role": "user", "parts": [{"type": "text", "text": "[[fault=400]] other"}]}
        ],
    }
    await served.client.post("/api/chat", json=other)
    again = await served.client.post("/chat", json=body, headers=KEY)
    assert (again.status_code, again.text) == (200, expected_text(4, 0))
    said = await history(served, session)
    assert [message["content"] for message in said] == [
        body["user_query"],
        "[[fault=400]] other",
        body["user_query"],
        expected_text(4, 0),
    ]
    assert said[1]["id"] == message_id
    assert (await served.client.get(f"/api/chat/{session}/messages")).status_code == 200


async def test_a_repeat_right_after_the_failure_takes_the_place_and_the_id_of_its_question(
    served: Served,
) -> None:
    session, body = await fail(served)
    (first,) = await history(served, session)
    again = await served.client.post("/chat", json=body, headers=KEY)
    question, answer = await history(served, session)
    assert (question["id"], question["content"]) == (first["id"], body["user_query"])
    assert question["turn_id"] == answer["turn_id"] == again.headers["x-turn-id"]


@pytest.mark.parametrize("message_id", IDS)
async def test_a_question_that_a_worker_of_before_asked_is_repeated_under_any_id(
    served: Served, store: redis.Redis, message_id: str
) -> None:
    """Sessions older than the field `asked_id` take the newest question for the one that was asked."""
    session, body = await fail(served)
    (name,) = await keys(served)
    base = name.removesuffix(":session")
    store.hdel(name, "asked_id")
    (body_of_question,) = store.hvals(f"{base}:messages")
    raw = orjson.loads(body_of_question)
    store.delete(f"{base}:order", f"{base}:messages")
    store.zadd(f"{base}:order", {message_id: 2})
    store.hset(f"{base}:messages", message_id, orjson.dumps({**raw, "id": message_id}).decode())
    assert (await served.client.post("/chat", json=body, headers=KEY)).status_code == 200
    said = await history(served, session)
    assert said[0]["id"] == message_id
    assert [message["content"] for message in said] == [body["user_query"], expected_text(4, 0)]


FAILS = "[[tokens=4 fault=400 times=1]] first"
SENDS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "text": ("/chat", {"user_query": FAILS, "session_id": "s"}, {}),
    "history": (
        "/chat-with-history",
        {
            "user_query": FAILS,
            "session_id": "s",
            "history": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        },
        {},
    ),
    "native": ("/v1/sessions/s/turns", {"content": FAILS}, {"Accept": "text/event-stream"}),
    "openai": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": FAILS}], "session_id": "s"},
        {},
    ),
    "responses": ("/v1/responses", {"input": FAILS, "conversation": "s"}, {}),
}


@pytest.mark.parametrize("send", SENDS)
async def test_a_failed_send_to_a_named_session_is_repeated_in_its_place(served: Served, send: str) -> None:
    path, body, headers = SENDS[send]
    if send == "openai":
        await served.client.post("/v1/sessions", json={"id": "s"})
    await served.client.post(path, json=body, headers={**KEY, **headers})
    before = await history(served, "s")
    assert [message["content"] for message in before] == [*("ab" if send == "history" else ""), FAILS]
    again = await served.client.post(path, json=body, headers={**KEY, **headers})
    assert again.status_code == 200
    *earlier, question, answer = await history(served, "s")
    assert [(message["id"], message["content"]) for message in (*earlier, question)] == [
        (message["id"], message["content"]) for message in before
    ]
    assert (answer["content"], answer["turn_id"]) == (expected_text(4, 0), question["turn_id"])


@pytest.mark.parametrize("send", ["openai", "responses"])
async def test_a_repeat_takes_the_place_of_a_partial_answer_that_nobody_was_shown(
    served: Served, send: str
) -> None:
    path, _, headers = SENDS[send]
    query = "[[tokens=6 fault=cut after=3 times=1]]"
    named = {"messages": [{"role": "user", "content": query}], "session_id": "s"}
    body = named if send == "openai" else {"input": query, "conversation": "s"}
    failed = await served.client.post(path, json=body, headers={**KEY, **headers})
    assert failed.status_code == 502
    assert [message["state"] for message in await history(served, "s")] == ["completed", "failed"]
    again = await served.client.post(path, json=body, headers={**KEY, **headers})
    assert again.status_code == 200
    said = [message["content"] for message in await history(served, "s")]
    assert said == [query, expected_text(6, 0)]


async def test_a_repeat_takes_no_answer_away_that_was_gone_on_with_since(served: Served) -> None:
    query = "[[tokens=6 fault=cut after=3 times=1]]"
    body = {"messages": [{"role": "user", "content": query}], "session_id": "s"}
    await served.client.post("/v1/chat/completions", json=body, headers=KEY)
    await served.client.post("/v1/sessions/s/turns", json={"continue": True})
    before = await history(served, "s")
    await served.client.post("/v1/chat/completions", json=body, headers=KEY)
    after = await history(served, "s")
    assert (after[:2], [message["content"] for message in after[2:]]) == (
        before,
        [query, expected_text(6, 0)],
    )


@pytest.mark.parametrize(
    ("key", "query"), [("k2", FAILS), ("k1", f"{FAILS}!")], ids=["another key", "another body"]
)
async def test_another_send_after_a_failed_one_is_a_question_of_its_own(
    served: Served, key: str, query: str
) -> None:
    for name, text in (("k1", FAILS), (key, query)):
        body = {"user_query": text, "session_id": "s"}
        await served.client.post("/chat", json=body, headers={"Idempotency-Key": name})
    said = [message["content"] for message in await history(served, "s") if message["role"] == "user"]
    assert said == [FAILS, query]


async def test_a_failed_send_that_others_have_gone_on_from_is_asked_again_behind_them(served: Served) -> None:
    body = {"user_query": FAILS, "session_id": "s"}
    await served.client.post("/chat", json=body, headers=KEY)
    await served.client.post("/chat", json={"user_query": "[[say=yes]]", "session_id": "s"})
    await served.client.post("/chat", json=body, headers=KEY)
    said = [message["content"] for message in await history(served, "s")]
    assert said == [FAILS, "[[say=yes]]", "yes", FAILS, expected_text(4, 0)]


def test_no_script_replaces_in_texts_or_takes_one_for_a_pattern() -> None:
    for file in (ROOT / "service" / "store" / "lua").glob("*.lua"):
        source = file.read_text()
        for word in ("gsub", "string.rep", ":find(", ":match(", ":gmatch("):
            assert word not in source, f"{file.name}: {word}"
        for call in re.findall(r"string\.find\(.*?\)", source):
            assert call.endswith(", true)"), f"{file.name}: {call} takes a text for a pattern"
