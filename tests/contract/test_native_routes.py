"""What the native routes say, field by field, and the bounds of their pages."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.service import Served

SAY = "[[tokens=3]]"
SLOW = "[[tokens=2000 rate=100]]"


async def told(served: Served, path: str, **more: Any) -> Any:
    answer = await served.client.get(path, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx.Response) -> tuple[int, str, str]:
    document = answer.json()
    return answer.status_code, document["code"], document["detail"]


@pytest.mark.parametrize(
    ("path", "name", "top"),
    [
        ("/v1/sessions", "limit", 200),
        ("/v1/sessions/s/messages", "limit", 1_000),
        ("/v1/usage", "days", 400),
        ("/v1/turns", "limit", 1_000),
    ],
)
async def test_a_page_has_so_many_items_at_most(served: Served, path: str, name: str, top: int) -> None:
    await served.client.post("/v1/sessions", json={"id": "s"})
    for number in (1, top):
        assert (await served.client.get(path, params={name: number})).status_code == 200
    for wrong in (0, top + 1, "-1", "1.0", " 1", "x", ""):
        assert refused(await served.client.get(path, params={name: wrong})) == (
            400,
            "invalid_request",
            f"{name} is an integer from 1 to {top}.",
        )


async def test_fifty_sessions_and_fifty_messages_are_a_page_unless_asked(served: Served) -> None:
    client = served.client
    history = [{"role": "user", "content": str(n)} for n in range(60)]
    await client.post("/chat-with-history", json={"user_query": SAY, "session_id": "s", "history": history})
    for n in range(50):
        await client.post("/v1/sessions", json={"id": f"s{n}"})
    sessions = await told(served, "/v1/sessions?cursor=")
    assert [len(sessions["data"]), sessions["next"] is None] == [50, False]
    rest = await told(served, "/v1/sessions", params={"cursor": sessions["next"]})
    assert [rest["next"], *(one["id"] for one in rest["data"])] == [None, "s"]
    page = await told(served, "/v1/sessions/s/messages?cursor=")
    assert len(page["data"]) == 50
    assert isinstance(page["next"], str)
    rest = await told(served, "/v1/sessions/s/messages", params={"cursor": page["next"]})
    assert (len(rest["data"]), rest["next"]) == (12, None)
    newest = await told(served, "/v1/sessions/s/messages?order=desc&limit=1")
    assert newest["data"] == rest["data"][-1:]
    assert (await told(served, "/v1/sessions/s/messages?order=asc&limit=1"))["data"] == page["data"][:1]


async def test_messages_say_whose_they_are_and_how_they_ended(served: Served) -> None:
    client = served.client
    given = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    asked = {"user_query": "[[tokens=2]]", "session_id": "s", "history": given}
    answer = await client.post("/chat-with-history", json=asked)
    turn = answer.headers["x-turn-id"]
    found = (await told(served, "/v1/sessions/s/messages"))["data"]
    assert [one.pop("created") / 1000 for one in found] == [pytest.approx(time.time(), abs=30)] * 4
    ids = [one.pop("id") for one in found]
    assert len(set(ids)) == 4
    usage = found[3].pop("usage")
    assert usage["total_tokens"] == usage["prompt_tokens"] + 2
    assert found == [
        {"role": "user", "content": "a", "turn_id": None, "state": "completed"},
        {"role": "assistant", "content": "b", "turn_id": None, "state": "completed"},
        {"role": "user", "content": "[[tokens=2]]", "turn_id": turn, "state": "completed"},
        {
            "role": "assistant",
            "content": answer.text,
            "turn_id": turn,
            "state": "completed",
            "finish_reason": "stop",
            "model": found[3]["model"],
        },
    ]


async def test_an_answer_that_a_stop_has_cut_has_no_reason_and_a_call_of_a_tool_is_a_part(
    served: Served,
) -> None:
    client = served.client
    turn = await client.post(
        "/v1/sessions/s/turns", json={"content": SLOW}, headers={"Prefer": "respond-async"}
    )
    async with client.stream("GET", f"{turn.headers['location']}/events") as events:
        async for line in events.aiter_lines():
            if line == "event: delta":
                break
    stopped = (await client.post(f"{turn.headers['location']}/stop")).json()
    assert (stopped["state"], stopped["finish_reason"]) == ("stopped", "stop")
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    body = {"messages": [{"role": "user", "content": '[[tool=look args={"a":1}]]'}], "tools": tools}
    await client.post("/v1/chat/completions", json=body, headers={"X-Session-Id": "t"})
    answer = (await told(served, "/v1/sessions/t/messages"))["data"][-1]
    [call] = answer["parts"]
    assert (call["type"], call["name"], call["arguments"]) == ("tool_call", "look", '{"a":1}')
    assert (answer["content"], answer["finish_reason"]) == ("", "tool_calls")


async def test_a_session_is_made_at_an_address_with_the_model_that_its_name_means(served: Served) -> None:
    client = served.client
    default = (await told(served, "/health"))["model"]
    aliases = next(
        one["aliases"] for one in (await told(served, "/v1/models"))["data"] if one["id"] == default
    )
    for name in (default, *aliases[:1]):
        made = await client.post("/v1/sessions", json={"id": f"s-{name.partition('/')[0]}", "model": name})
        assert (made.status_code, made.json()["model"]) == (201, default)
        assert made.headers["location"] == f"/v1/sessions/{made.json()['id']}"
    unknown = (404, "model_not_found")
    for method, path in (("POST", "/v1/sessions"), ("PATCH", f"/v1/sessions/{made.json()['id']}")):
        answer = await client.request(method, path, json={"model": "none-such"})
        assert (answer.status_code, answer.json()["code"]) == unknown
    changed = await client.patch(made.headers["location"], json={"model": aliases[0]} if aliases else {})
    assert changed.json()["model"] == default
    emptied = await client.patch(made.headers["location"], json={"title": "T", "model": None})
    assert (emptied.json()["title"], emptied.json()["model"]) == ("T", None)


async def test_an_export_is_a_file_of_the_sessions_name_and_a_watch_names_its_session(served: Served) -> None:
    client = served.client
    await client.post("/v1/sessions", json={"id": "s"})
    answer = await client.get("/v1/sessions/s/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="s.json"'
    whole = await client.get("/v1/export")
    assert whole.headers["content-disposition"] == 'attachment; filename="export.json"'
    async with client.stream("GET", "/v1/sessions/s/events") as events:
        names = ("x-session-id", "cache-control", "x-accel-buffering", "content-type")
        assert [events.headers.get(name) for name in names] == [
            "s",
            "no-cache, no-transform",
            "no",
            "text/event-stream; charset=utf-8",
        ]


async def test_a_regenerated_answers_version_says_when_it_was_made_and_replaced(served: Served) -> None:
    client = served.client
    await client.post("/v1/sessions/s/turns", json={"content": SAY})
    first = (await told(served, "/v1/sessions/s/messages"))["data"][1]
    await client.post("/v1/sessions/s/turns", json={"regenerate": True})
    question, answer = (await told(served, "/v1/sessions/s/messages?versions=1"))["data"]
    assert question["versions"] == []
    [version] = answer["versions"]
    assert (version["role"], version["created"]) == ("assistant", first["created"])
    assert first["created"] <= version["replaced"] <= time.time() * 1000
    assert version["messages"] == [first]
    [brief] = (await told(served, "/v1/sessions/s/messages?versions=1&brief=1"))["data"][1]["versions"]
    assert brief == {name: version[name] for name in ("id", "replaced", "role", "created")}
    await client.patch("/v1/sessions/s", json={"version": version["id"]})
    session = await told(served, "/v1/sessions/s")
    assert sorted(session) == sorted(
        ("id", "title", "model", "system_prompt", "created", "updated", "turns", "active_turn")
    )


# -- turns


async def test_a_turn_in_the_background_is_told_whole_while_it_runs_and_when_it_has_ended(
    served: Served,
) -> None:
    client = served.client
    sent = await client.post(
        "/v1/sessions/s/turns",
        json={"content": SLOW},
        headers=[("Prefer", "wait=1"), ("Prefer", "respond-async")],
    )
    path = f"/v1/sessions/s/turns/{sent.headers['x-turn-id']}"
    assert (sent.status_code, sent.headers["location"], sent.headers["x-session-id"]) == (202, path, "s")
    running = sent.json()
    assert running | {"text": "", "attempt": 0} == {
        "id": sent.headers["x-turn-id"],
        "session_id": "s",
        "state": "running",
        "attempt": 0,
        "text": "",
        "model": running["model"],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "finish_reason": None,
    }
    ended = (await client.post(f"{path}/stop")).json()
    assert (ended["state"], "cost" in ended) == ("stopped", True)
    events = await client.get(f"{path}/events")
    assert events.headers["location"] == f"{path}/events"
    last = events.text.strip().rpartition("id: ")[2]
    seen = await client.get(f"{path}/events", headers={"Last-Event-ID": last})
    names = ("x-session-id", "x-turn-id", "location")
    assert [seen.status_code, *(seen.headers.get(name) for name in names)] == [
        204,
        "s",
        sent.headers["x-turn-id"],
        f"{path}/events",
    ]


async def test_a_ticket_is_for_a_turn_that_there_is_and_ends_in_ten_minutes(start: Start) -> None:
    async with start(auth="keys", trusted_proxies=["127.0.0.1"]) as served:
        key = bearer(await make_key(served))
        sent = await served.client.post("/v1/sessions/s/turns", json={"content": SAY}, headers=key)
        path = f"/v1/sessions/s/turns/{sent.headers['x-turn-id']}"
        prefix = {"X-Forwarded-Prefix": "/below"}
        ticket = (await served.client.post(f"{path}/ticket", headers={**key, **prefix})).json()
        assert ticket["url"].startswith(f"/below{path}/events?ticket=")
        assert ticket["expires"] == pytest.approx(time.time() + 600, abs=30)
        for turn in ("t_" + "0" * 26, "none", "a b"):
            answer = await served.client.post(f"/v1/sessions/s/turns/{turn}/ticket", headers=key)
            assert (answer.status_code, answer.json()["code"]) == (404, "turn_not_found")
