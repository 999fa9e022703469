"""Loops of tools that libraries run by themselves, in a session: three rounds, one question, one answer.

`make clients` asks them on chat completions, whose session a header names. Each call of the library is a
turn of its own; what the session has in the end is one exchange, with the calls and their results in order,
read through each dialect.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.matrix import page
from tests.clients.matrix.environments import install, missing
from tests.clients.matrix.running import SECONDS, ask
from tests.clients.matrix.scenarios import ANSWER, QUESTIONS, RESULT
from tests.clients.matrix.table import CLIENTS, Client
from tests.support.branches import messages, said, say
from tests.support.needed import lacking
from tests.support.service import Served

ROUNDS: Final = 3
QUESTION: Final = QUESTIONS["tools"].replace("[[", f"[[rounds={ROUNDS} ")
# Scripts whose `tools` goes on until the model calls none, and that name a session.
LOOPS: Final = ("openai_agents_run", "pydantic_ai_agent", "langchain_chat")
NAMED = json.loads(os.environ.get("CLIENTS", "[]"))
CHOSEN = [
    client
    for client in CLIENTS
    if client.script in LOOPS and client.id in NAMED and not client.options.get("responses")
]


@pytest.mark.timeout(SECONDS + 120)  # an installation, where __main__.py has not done it
@pytest.mark.parametrize("client", CHOSEN, ids=[client.id for client in CHOSEN])
async def test_three_rounds_of_a_library_are_one_question_and_one_answer(
    served: Served, client: Client, tmp_path: Path
) -> None:
    if missing(client):
        lacking(f"{client.name} {page.not_run(client)}")
    install(client)
    await say(served, "[[say=Before.]]")
    looping = replace(
        client,
        options={**client.options, "session": "s"},
        questions={"tools": QUESTION},
        lacks=dict.fromkeys(QUESTIONS.keys() - {"tools"}, "not asked here"),
    )
    told = await ask(looping, served.url, tmp_path)
    assert told == {"tools": {"called": ["Berlin"] * ROUNDS, "answer": ANSWER}}

    assert await said(served) == ["[[say=Before.]]", "Before.", QUESTION, ANSWER]
    answer = (await messages(served))[-1]
    calls = [part["id"] for part in answer["parts"] if part["type"] == "tool_call"]
    assert answer["parts"] == [*_rounds(calls), {"type": "text", "text": ANSWER}]
    assert len(set(calls)) == ROUNDS
    exported = (await served.client.get("/v1/sessions/s/export")).json()
    assert exported["messages"][-1] == answer
    shown = (await served.client.get("/api/chat/s/messages")).json()[-1]["parts"]
    assert [(one["toolCallId"], one["output"]) for one in shown if one["type"] == "tool-weather"] == [
        (call, RESULT) for call in calls
    ]
    items = (await served.client.get("/v1/conversations/s/items?order=asc&limit=100")).json()["data"]
    assert [item["type"] for item in items[3:]] == [
        *["function_call", "function_call_output"] * ROUNDS,
        "message",
    ]
    await say(served, "[[echo]]")
    context = json.loads((await said(served))[-1])[1:-1]
    assert [one["content"] for one in context if one["role"] == "user"] == ["[[say=Before.]]", QUESTION]
    assert [one.get("tool_call_id") for one in context if one["role"] == "tool"] == calls


def _rounds(calls: list[str]) -> list[dict[str, Any]]:
    return [
        part
        for call in calls
        for part in (
            {"type": "tool_call", "id": call, "name": "weather", "arguments": '{"city":"Berlin"}'},
            {"type": "tool_result", "tool_call_id": call, "content": RESULT},
        )
    ]
