"""What a page's list says of the history: what it has cut off is cut off, what it does not know stays.

assistant-ui edits by `submit-message` with a new id behind a shorter list.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.double import Double, expected_text
from tests.integration.test_aisdk import assistant, begin, history, post, say, submit, user
from tests.support.dialects import AiSdk
from tests.support.service import Served

SLOW = "[[tokens=2000 rate=100]]"
#: what AssistantChatTransport adds to each body
ASSISTANT_UI: dict[str, Any] = {"tools": {}, "metadata": {}}


async def page(served: Served) -> list[dict[str, Any]]:
    """The list as a page holds it."""
    found: list[dict[str, Any]] = (await served.client.get("/api/chat/c/messages")).json()
    return found


async def three_exchanges(served: Served) -> list[dict[str, Any]]:
    for number in (1, 2, 3):
        asked = user(number, f"[[say=answer {number}]]")
        held = await page(served) if number > 1 else []
        await say(served, submit(*held, asked))
    return await page(served)


@pytest.mark.parametrize("fields", [{}, ASSISTANT_UI], ids=["useChat", "assistant-ui"])
async def test_an_edit_by_a_new_message_behind_a_shorter_list(served: Served, fields: dict[str, Any]) -> None:
    held = await three_exchanges(served)
    context = json.loads(await say(served, submit(*held[:2], user("new", "[[echo]]"), **fields)))
    assert [item["content"] for item in context[1:]] == ["[[say=answer 1]]", "answer 1", "[[echo]]"]
    assert [text for _, text in (await history(served))[:3]] == ["[[say=answer 1]]", "answer 1", "[[echo]]"]
    assert len(await history(served)) == 4
    again = await page(served)
    assert await say(served, submit(*again, user("more", "[[say=more]]"))) == "more"
    assert len(await history(served)) == 6


async def test_an_edit_of_the_first_message_by_assistant_ui(served: Served) -> None:
    await three_exchanges(served)
    context = json.loads(await say(served, submit(user("new", "[[echo]]"), **ASSISTANT_UI)))
    assert [item["content"] for item in context[1:]] == ["[[echo]]"]
    assert [role for role, _ in await history(served)] == ["user", "assistant"]


async def test_the_newest_message_alone_cuts_off_nothing(served: Served) -> None:
    await three_exchanges(served)
    await say(served, submit(user("new", "[[say=answer 4]]")))
    assert len(await history(served)) == 8


async def test_the_newest_few_of_a_long_chat_cut_off_nothing(served: Served) -> None:
    held = await three_exchanges(served)
    await say(served, submit(*held[-2:], user("new", "[[say=answer 4]]")))
    assert len(await history(served)) == 8


async def test_what_the_server_has_refused_stays_on_the_page_and_says_nothing(served: Served) -> None:
    held = await three_exchanges(served)
    refused = [user(f"refused{number}", "hi") for number in range(3)]
    await say(served, submit(*held, *refused, user("new", "[[say=answer 4]]")))
    assert len(await history(served)) == 8


async def test_a_list_of_which_nothing_is_known_cuts_off_nothing(served: Served) -> None:
    await three_exchanges(served)
    others = [user("x", "hi"), assistant("x", "ho")]
    await say(served, submit(*others, user("new", "[[say=answer 4]]"), **ASSISTANT_UI))
    assert len(await history(served)) == 8


@pytest.mark.parametrize("between", [[], [assistant("mine", "as the page calls it")]])
async def test_a_question_goes_with_its_answer_of_which_a_page_may_know_nothing(
    served: Served, between: list[dict[str, Any]]
) -> None:
    held = await three_exchanges(served)
    await say(served, submit(held[0], *between, user("new", "[[say=other]]")))
    assert [text for _, text in await history(served)] == [
        "[[say=answer 1]]",
        "answer 1",
        "[[say=other]]",
        "other",
    ]


async def test_a_history_that_a_page_has_seeded_is_cut_like_any_other(served: Served) -> None:
    seeds = [user(1, "one"), assistant(1, "two"), user(2, "three"), assistant(2, "four")]
    await say(served, submit(*seeds, user(3, "[[say=five]]")))
    for held in (seeds[:2], seeds[:1]):
        asked = user(f"new{len(held)}", "[[say=other]]")
        await say(served, submit(*held, asked))
        assert [text for _, text in await history(served)] == ["one", "two", "[[say=other]]", "other"]


async def test_an_answer_that_runs_and_is_cut_off_is_stopped(served: Served, double: Double) -> None:
    await say(served, submit(user(1, "[[say=answer 1]]")))
    held = await page(served)
    await begin(served, submit(*held, user(2, SLOW)))
    assert await say(served, submit(*held, user("new", "[[say=other]]"), **ASSISTANT_UI)) == "other"
    assert [text for _, text in await history(served)] == [
        "[[say=answer 1]]",
        "answer 1",
        "[[say=other]]",
        "other",
    ]
    assert [call.end for call in double.calls.find(contains=SLOW)] == ["client_closed"]


@pytest.mark.parametrize("policy", ["reject", "queue"])
async def test_a_refused_edit_cuts_off_nothing(served: Served, policy: str) -> None:
    held = await three_exchanges(served)
    await begin(served, submit(*held, user(4, SLOW)))
    edited = submit(*held[:2], user("new", "hi"), on_busy=policy)
    assert (await served.client.post("/api/chat", json=edited)).status_code == 409
    assert len(await history(served)) == 7
    await served.client.post("/api/chat/c/stop")


async def test_an_edit_that_is_sent_twice_is_one(served: Served, double: Double) -> None:
    held = await three_exchanges(served)
    edited = submit(*held[:2], user("new", "[[tokens=40 rate=100]]"))
    first, second = await asyncio.gather(post(served, edited), post(served, edited))
    assert first == second == await post(served, edited)
    assert AiSdk().read(first) == (expected_text(40), "completed")
    assert len(double.calls.find(contains="tokens=40")) == 1
    assert len(await history(served)) == 4


async def test_nulls_are_fields_that_are_not_there(served: Served) -> None:
    names = (
        "trigger",
        "messageId",
        "model",
        "on_busy",
        "continue",
        "tools",
        "tool_choice",
        "response_format",
    )
    nothing: dict[str, Any] = dict.fromkeys(names)
    await say(served, {**submit(user(1, "[[say=ok]]")), **nothing})
    assert await history(served) == [("user", "[[say=ok]]"), ("assistant", "ok")]
