"""How clients of Responses show an answer with thoughts, one that was cut short and one that was stopped.

What it shows of a text, a call, a failure and a refusal is asked by test_matrix.py. `make test` asks those
that need no environment of their own, `make clients` all.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.matrix import page
from tests.clients.matrix.environments import install, missing
from tests.clients.matrix.running import SECONDS, ask
from tests.clients.matrix.scenarios import ANSWER
from tests.clients.matrix.scenarios import QUESTIONS as USUAL
from tests.clients.matrix.table import RESPONSES, Client
from tests.double import expected_text
from tests.support.needed import lacking
from tests.support.service import Served
from tests.support.waiting import eventually_async

NAMED = json.loads(os.environ.get("CLIENTS", "null"))
CHOSEN = [client for client in RESPONSES if (not client.place if NAMED is None else client.id in NAMED)]
# By names of the scenarios that show a stream.
QUESTIONS: Final = {
    "stream": "[[tokens=20 reasoning=5]]",
    "cut": "[[tokens=20 finish=length]]",
    "refused": "[[tokens=900 rate=40]]",
}
# Clients to which an answer that is incomplete is an error: they know no end but `completed`.
STRICT: Final = {"openai (Python), .stream()": "RuntimeError", "OpenAI Agents SDK": "ModelBehaviorError"}


@pytest.mark.timeout(SECONDS + 120)  # an installation, where __main__.py has not done it
@pytest.mark.parametrize("client", CHOSEN, ids=[client.id for client in CHOSEN])
async def test_a_client_shows_what_was_said_however_it_ended(
    served: Served, store: Any, client: Client, tmp_path: Path
) -> None:
    if missing(client):
        lacking(f"{client.name} {page.not_run(client)}")
    install(client)
    asking = replace(
        client, questions=QUESTIONS, lacks=dict.fromkeys(("tools", "structured"), "not asked here")
    )
    stopping = asyncio.create_task(_stopped(served, store))
    told = await ask(asking, served.url, tmp_path)
    stopped = await stopping
    assert told["stream"] == {"text": expected_text(20)}
    error = STRICT.get(client.name)
    for name, text in (("cut", expected_text(20)), ("refused", stopped)):
        shown = dict(told[name])
        assert (shown.pop("error", None) or {}).get("kind") == error, told
        assert shown == {"text": text}


async def _stopped(served: Served, store: Any) -> str:
    """Stop the long answer once some of it was said; what was kept of it."""

    async def running() -> str | None:
        for name in store.scan_iter("chat:{*}:turn:*"):
            state, last = store.hmget(name, "state", "last")
            if state in (b"running", "running") and int(last) > 12:
                return name.decode() if isinstance(name, bytes) else str(name)
        return None

    name = await eventually_async(running, within=SECONDS)
    session, turn = name.partition("/")[2].split("}:turn:t_")
    answer = await served.client.post(f"/v1/responses/resp_{turn}_{session}/cancel")
    assert answer.json()["status"] == "cancelled", answer.text
    text: str = answer.json()["output"][0]["content"][0]["text"]
    return text


AGENTS: Final = [client for client in CHOSEN if client.place == "agents"]


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("client", AGENTS, ids=[client.id for client in AGENTS])
async def test_the_agents_sdk_keeps_its_session_in_a_conversation(
    served: Served, store: Any, client: Client, tmp_path: Path
) -> None:
    install(client)
    asking = replace(
        client,
        script="openai_agents_session",
        questions={"stream": USUAL["tools"]},
        lacks=dict.fromkeys(("tools", "structured", "cut", "refused"), "not asked here"),
    )
    told = (await ask(asking, served.url, tmp_path))["stream"]
    assert (told["answer"], told["called"]) == (ANSWER, ["Berlin"])
    steps = [["message"] * 2, [*["message"] * 3, "function_call", "function_call_output", "message"]]
    assert told["text"] == "".join(json.dumps(step) for step in [*steps, ["message", 5]])
    assert list(store.scan_iter("chat:*conv_*")) == []
