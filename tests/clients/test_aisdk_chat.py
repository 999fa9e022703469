"""The real AI SDK in five versions at once: send, stop, regenerate, edit, reload, errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.chats import REBUILDING, VERSIONS, history, running_text, texts
from tests.conftest import Start
from tests.double import expected_text
from tests.support.node import Node
from tests.support.service import Served
from tests.support.waiting import eventually_async


async def play(node: Node, served: Served, scenario: str, **parameters: Any) -> dict[str, dict[str, Any]]:
    """What each version's chat was in the end; `{version}` in a parameter is its name and chat id."""
    found: dict[str, dict[str, Any]] = await node.play(
        "chat", scenario, url=served.url, versions=VERSIONS, **parameters
    )
    assert list(found) == VERSIONS
    return found


async def test_messages_are_sent_and_answers_streamed(served: Served, node: Node) -> None:
    asked = ["[[tokens=40 reasoning=5 rate=200]]", "[[say=two]]"]
    for version, chat in (await play(node, served, "talk", texts=asked)).items():
        assert (chat["status"], chat["error"]) == ("ready", None)
        assert texts(chat) == [asked[0], expected_text(40), asked[1], "two"]
        assert chat["messages"][1]["reasoning"] == expected_text(5, -1)
        assert chat["statuses"] == ["submitted", "streaming", "ready"] * 2
        assert chat["messages"][1]["metadata"]["usage"]["outputTokens"] == 45
        assert [message["id"] for message in await history(served, version)] == [
            message["id"] for message in chat["messages"]
        ]


async def test_a_tool_of_the_page_is_one_answer_however_many_rounds_there_are(
    served: Served, node: Node
) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    asked = "[[tool=weather rounds=3 say=It rains.]]"
    chats = await play(node, served, "tools", text=asked, tools=tools, failing=1)
    for version, chat in chats.items():
        assert (chat["status"], chat["error"]) == ("ready", None)
        assert texts(chat) == [asked, "It rains."]
        question, answer = await history(served, version)
        assert [question["id"], answer["id"]] == [message["id"] for message in chat["messages"]]
        states = [part["state"] for part in answer["parts"] if part["type"] == "tool-weather"]
        assert states == ["output-available", "output-error", "output-available"]
        shown = [{name: part[name] for name in part if name in _TOLD} for part in chat["parts"]]
        assert shown == answer["parts"]
        assert chat["messages"][1]["metadata"] == answer["metadata"]


# Of a part of a page's message what the history has too.
_TOLD = ("type", "text", "state", "toolCallId", "input", "output", "errorText")


async def test_stop_keeps_the_text_on_the_page_and_on_the_server(served: Served, node: Node) -> None:
    for version, chat in (await play(node, served, "stop", text="[[tokens=3000 rate=100]]")).items():
        assert chat["told"] == "The answer was stopped."
        assert (chat["status"], chat["error"]) == ("ready", None)
        assert expected_text(3000).startswith(texts(chat)[1])
        assert texts(chat)[2:] == ["[[say=after]]", "after"]
        assert (await history(served, version))[1]["parts"][0]["text"] == texts(chat)[1]


async def test_regenerating_replaces_the_last_answer(served: Served, node: Node) -> None:
    asked = ["[[tokens=20 vary]] {version}"]
    for chat in (await play(node, served, "again", way="regenerate", texts=asked)).values():
        assert texts(chat["before"])[1:] == [expected_text(20, 0)]
        assert texts(chat["after"])[1:] == [expected_text(20, 1)]
        assert chat["after"]["status"] == "ready"


async def test_an_earlier_answer_is_regenerated(served: Served, node: Node) -> None:
    asked = ["[[tokens=20 vary]] {version}", "[[say=two]]"]
    for version, chat in (await play(node, served, "again", way="regenerate-first", texts=asked)).items():
        assert texts(chat["after"]) == [f"[[tokens=20 vary]] {version}", expected_text(20, 1)]
        assert len(await history(served, version)) == 2


async def test_an_edited_message_gets_a_new_answer(served: Served, node: Node) -> None:
    asked = ["[[say=one]]", "[[say=two]]"]
    chats = await play(node, served, "again", way="edit", edited="[[say=other]]", texts=asked)
    for version, chat in chats.items():
        assert texts(chat["before"]) == ["[[say=one]]", "one", "[[say=two]]", "two"]
        assert texts(chat["after"]) == ["[[say=other]]", "other"]
        assert len(await history(served, version)) == 2


@pytest.mark.parametrize("history", ["question", "running", "finished"])
async def test_a_reload_in_mid_answer_shows_it_once_and_whole(
    served: Served, node: Node, history: str
) -> None:
    """With the page's own question, with the history while it runs, and with the whole history."""
    asked = "[[tokens=80 rate=25]]"
    for version, chat in (await play(node, served, "reload", history=history, text=asked)).items():
        assert (chat["status"], chat["error"]) == ("ready", None)
        if history == "finished" and version not in REBUILDING:
            assert texts(chat)[1] == expected_text(80) * 2, "they add a replay to what they have"
        else:
            assert texts(chat) == [asked, expected_text(80)]


async def test_a_new_chat_has_nothing_to_resume(served: Served, node: Node) -> None:
    for chat in (await play(node, served, "open")).values():
        assert (chat["messages"], chat["status"], chat["error"]) == ([], "ready", None)


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_429_is_a_sentence_for_the_user(start: Start, node: Node, resumable: bool) -> None:
    async with start(limit_sends="1/hour") as served:
        await served.client.post("/chat", json={"user_query": "[[say=zero]]"})
        for chat in (await play(node, served, "talk", resumable=resumable, texts=["hi"])).values():
            assert chat["status"] == "error"
            assert "try again in" in chat["error"]
            assert "{" not in chat["error"]


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_failure_in_mid_stream_is_shown_and_the_text_kept(
    served: Served, node: Node, resumable: bool
) -> None:
    asked = ["[[tokens=60 fault=cut after=30]]"]
    for chat in (await play(node, served, "talk", resumable=resumable, texts=asked)).values():
        assert (chat["status"], chat["error"]) == ("error", "The model's answer was cut off.")
        assert texts(chat)[1] == expected_text(30)


async def test_the_retry_button_asks_the_same_message_again(served: Served, node: Node) -> None:
    asked = "[[tokens=9 fault=400 times=1]] {version}"
    for version, chat in (await play(node, served, "retry", text=asked)).items():
        assert chat["failed"]["error"].startswith("The model refused the request: ")
        assert texts(chat["after"])[1:] == [expected_text(9)]
        assert len(await history(served, version)) == 2


async def test_the_text_stream_transport_needs_one_line(served: Served, node: Node) -> None:
    for chat in (await play(node, served, "talk", text=True, texts=["[[tokens=30]]", "[[echo]]"])).values():
        assert texts(chat)[1] == expected_text(30)
        assert "[[tokens=30]]" in texts(chat)[3], "the server kept the first exchange"


async def test_the_text_stream_transport_shows_a_failure(served: Served, node: Node) -> None:
    asked = ["[[tokens=30 fault=cut after=9]]"]
    for chat in (await play(node, served, "talk", text=True, texts=asked)).values():
        assert chat["status"] == "error"


async def test_use_chat_renders_the_answer_as_it_arrives(served: Served, node: Node) -> None:
    page = await node.play("chat", "hook", url=served.url, text="[[tokens=300 rate=100]]")
    assert (page["status"], page["error"]) == ("ready", None)
    assert page["text"] == ["[[tokens=300 rate=100]]", expected_text(300)]
    assert page["renders"] > 10


async def test_use_chat_resumes_when_it_is_mounted(served: Served, node: Node) -> None:
    message = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "[[tokens=60 rate=20]]"}]}
    leaving = asyncio.create_task(served.client.post("/api/chat", json={"id": "c", "messages": [message]}))

    async def begun() -> bool:
        return len(await running_text(served, "c")) > 20

    await eventually_async(begun)
    leaving.cancel()
    page = await node.play("chat", "hook", url=served.url, resume=True)
    assert (page["text"], page["status"]) == ([expected_text(60)], "ready")
