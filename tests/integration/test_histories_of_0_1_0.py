"""Sessions that version 0.1.0 has stored are read by each dialect of today, to the byte, and go on.

What is loaded was written by that version itself: tests/data/history.py.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from tests.conftest import Start
from tests.data import history
from tests.double import expected_text
from tests.support.branches import messages, say, versions
from tests.support.dialects import DIALECTS, Dialect
from tests.support.service import Served
from tests.support.tool_clients import NativeTools, Result
from tests.support.waiting import eventually_async

HELPFUL = "You are a helpful AI assistant."
STOPPED = '(3) שלום عالم data: {"k":1} 👩‍💻 writes'
FAILED = "(4) Привет, мир! 日本語です。 back\\slash"
CALL = "<call>"  # stands for an answer that is nothing but a call of the tool
# What was said in each session, question and answer in turn; None where a turn has ended without an answer.
SAID: dict[str, list[str | None]] = {
    "native": ["[[say=One.]]", "One.", "[[reasoning=3 say=Zwei: äöü 😀]]", "Zwei: äöü 😀"],
    "edited": ["[[tokens=5 vary]]", expected_text(5, 1), "[[say=New.]]", "New."],
    "stopped": ["[[tokens=500 rate=100 seed=3]]", STOPPED, "[[say=Fine.]]", "Fine."],
    "failed": [
        "[[fault=400]]",
        None,
        "[[tokens=20 seed=4 rate=40 fault=garbage after=12]]",
        FAILED,
        "[[say=Again.]]",
        "Again.",
    ],
    "openai": ["[[say=Hello.]]", "Hello.", "[[say=Bye.]]", "Bye."],
    # 0.1.0 kept the question once for each round of tools.
    "openai-tools": ["[[tool=weather say=Rain.]]", CALL, "[[tool=weather say=Rain.]]", "Rain."],
    "usechat": ["[[reasoning=2 say=Hi.]]", "Hi.", "[[tokens=4 vary]]", expected_text(4, 1)],
    "usechat-edited": ["[[say=Changed.]]", "Changed."],
    "usechat-tools": ["[[tool=weather say=Never.]]", CALL, "[[say=After.]]", "After."],
    "pending": ["[[tool=weather say=Dry.]]", CALL],
    "text": ["[[say=Plain.]]", "Plain."],
}
SYSTEM = {"native": "Be brief.", "openai": "You are 0.1.0."}
THOUGHTS = {"Zwei: äöü 😀": "(-1) a naïve", "Hi.": "(-1) a"}


@pytest.fixture
async def upgraded(store: redis.Redis, start: Start) -> AsyncIterator[Served]:
    """Today's service on a Redis that 0.1.0 has left."""
    history.load(store)
    async with start() as served:
        yield served


def stored(session: str) -> list[dict[str, Any]]:
    """The messages as they lie in the file, in their order."""
    keys = json.loads(history.PATH.read_text())
    base = f"chat:{{none.anonymous/{session}}}"
    bodies = keys[f"{base}:messages"]["value"]
    places = sorted(keys[f"{base}:order"]["value"], key=lambda one: one[1])
    return [json.loads(bodies[name]) for name, _ in places]


def shown(session: str) -> list[tuple[str, str]]:
    """Role and text of each message."""
    pairs = zip(("user", "assistant") * 9, SAID[session], strict=False)
    return [(role, "" if text == CALL else text) for role, text in pairs if text is not None]


def told(session: str) -> list[dict[str, str]]:
    """What a model is told of it: no turn without a text."""
    said = SAID[session]
    turns = zip(said[::2], said[1::2], strict=True)
    return [
        {"role": role, "content": str(text)}
        for question, answer in turns
        if answer not in (None, CALL)
        for role, text in (("user", question), ("assistant", answer))
    ]


async def items(served: Served, session: str) -> list[dict[str, Any]]:
    answer = await served.client.get(f"/v1/conversations/{session}/items?order=asc&limit=100")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


@pytest.mark.parametrize("session", SAID)
async def test_a_session_is_read_as_it_was_said(upgraded: Served, session: str) -> None:
    found = await messages(upgraded, session)
    assert [(one["role"], one["content"]) for one in found] == shown(session)
    same = ("id", "role", "content", "turn_id", "state", "created")
    assert [{key: one[key] for key in same} for one in found] == [
        {key: one[key] for key in same} for one in stored(session)
    ]
    exported = (await upgraded.client.get(f"/v1/sessions/{session}/export")).json()
    assert exported["messages"] == found
    assert "versions" not in exported


@pytest.mark.parametrize("session", SAID)
async def test_a_page_of_use_chat_shows_it(upgraded: Served, session: str) -> None:
    page = (await upgraded.client.get(f"/api/chat/{session}/messages")).json()
    before = stored(session)
    assert [(one["id"], one["role"]) for one in page] == [(one["id"], one["role"]) for one in before]
    for one, old in zip(page, before, strict=True):
        parts = [part for part in one["parts"] if part["type"] != "step-start"]
        text = {"type": "text", "text": old["content"], "state": "done"}
        thought = {"type": "reasoning", "text": THOUGHTS.get(old["content"]), "state": "done"}
        if "tool_calls" in old:
            (call,) = old["tool_calls"]
            tool = {"type": "tool-weather", "toolCallId": call["id"], "state": "input-available"}
            assert parts == [{**tool, "input": {"location": "Berlin"}}]
        else:
            assert parts == ([thought, text] if old["content"] in THOUGHTS else [text])


@pytest.mark.parametrize("session", SAID)
async def test_it_is_a_conversation_of_responses(upgraded: Served, session: str) -> None:
    found = []
    for item in await items(upgraded, session):
        if item["type"] == "message":
            found.append((item["role"], item["content"][0]["text"]))
        elif item["type"] == "function_call":
            assert (item["name"], item["arguments"]) == ("weather", '{"location":"Berlin"}')
            found.append(("assistant", ""))
    assert found == shown(session)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_each_goes_on_in_each_dialect(upgraded: Served, dialect: Dialect) -> None:
    for session in SAID:
        before = await messages(upgraded, session)
        outcome = await dialect.send(upgraded, "[[echo]]", session)
        assert (outcome.status, outcome.end) == (200, "completed"), (session, outcome)
        question = {"role": "user", "content": "[[echo]]"}
        if dialect.name.startswith("openai"):  # the list of the client is all that its model is told
            assert json.loads(outcome.text)[-1:] == [question], session
        else:
            system = {"role": "system", "content": SYSTEM.get(session, HELPFUL)}
            assert json.loads(outcome.text) == [system, *told(session), question], session
        after = await messages(upgraded, session)
        assert after[:-2] == before, session
        assert [(one["role"], one["content"]) for one in after[-2:]] == [
            ("user", "[[echo]]"),
            ("assistant", outcome.text),
        ]


async def test_a_call_that_waited_for_its_result_is_answered(upgraded: Served) -> None:
    (old,) = stored("pending")[1]["tool_calls"]
    said = await NativeTools(upgraded, "pending").answer({old["id"]: Result("sun")})
    assert said.text == "Dry."
    question, answer = await messages(upgraded, "pending")
    assert (question["content"], answer["content"]) == (SAID["pending"][0], "Dry.")
    assert answer["parts"] == [
        {"type": "tool_call", "id": old["id"], "name": "weather", "arguments": '{"location":"Berlin"}'},
        {"type": "tool_result", "tool_call_id": old["id"], "content": "sun"},
        {"type": "text", "text": "Dry."},
    ]


@pytest.mark.parametrize("session", SAID)
async def test_it_is_asked_again_and_edited_and_keeps_what_it_said(upgraded: Served, session: str) -> None:
    before = await messages(upgraded, session)
    first, rest = before[0], before[1:]
    await say(upgraded, "", session, edit={"message_id": first["id"], "content": "[[tokens=3 vary]]"})
    await say(upgraded, "", session, regenerate=True)
    (question, answer) = await messages(upgraded, session)
    assert (question["id"], question["content"]) == (first["id"], "[[tokens=3 vary]]")
    assert answer["content"] != ""
    kept = (await upgraded.client.get(f"/v1/sessions/{session}/messages?versions=1")).json()["data"]
    (version,) = kept[0]["versions"]
    assert version["messages"] == [first, *rest]


async def test_an_answer_that_was_running_is_taken_over(upgraded: Served) -> None:
    async def ended() -> Any:
        found = await messages(upgraded, "running")
        return found if len(found) == 2 else None

    question, answer = await eventually_async(ended, within=20)
    assert (question["content"], answer["content"]) == (
        "[[tokens=120 rate=60 seed=9]]",
        expected_text(120, 9),
    )
    assert answer["state"] == "completed"
    log = await upgraded.client.get(f"/v1/sessions/running/turns/{answer['turn_id']}/events")
    assert log.text.count("event: turn.restarted") == 1
    assert (await upgraded.client.get("/v1/sessions/running")).json()["active_turn"] is None


async def test_a_repeat_of_what_0_1_0_was_asked_meets_its_turn(upgraded: Served) -> None:
    """A client whose connection broke in the upgrade sends again, with the key of the first time."""
    before = {session: await messages(upgraded, session) for session in SAID}
    native = await upgraded.client.post(
        "/v1/sessions/native/turns", json={"content": "[[say=One.]]"}, headers=history.KEY
    )
    assert native.status_code == 200
    assert 'data: {"text":"One."}' in native.text
    plain = await upgraded.client.post("/chat", json=history.PLAIN, headers=history.KEY)
    assert (plain.status_code, plain.text) == (200, "Plain.")
    sent = {"id": "usechat-tools", "messages": [history.user("u2", "[[say=After.]]")]}
    page = await upgraded.client.post("/api/chat", json=sent)
    assert (page.status_code, page.text.count("After.")) == (200, 1)
    assert {session: await messages(upgraded, session) for session in SAID} == before


async def test_all_of_it_is_listed_and_goes_with_its_person(upgraded: Served) -> None:
    listed = (await upgraded.client.get("/v1/sessions?limit=100")).json()["data"]
    assert {one["id"] for one in listed} == {*SAID, "running"}
    assert (await versions(upgraded, "edited")) == {}
    await upgraded.client.delete("/v1/sessions")
    assert (await upgraded.client.get("/v1/sessions?limit=100")).json()["data"] == []
