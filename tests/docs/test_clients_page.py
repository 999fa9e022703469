"""Every example of docs/clients.md in Python or JavaScript is run as it stands there.

Only two things are replaced: the address of the service, and the question, by one whose answer is
known to the byte. (The shell's examples are run by test_commands.py like those of all pages.)
"""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.conftest import Start
from tests.docs.pages import Block, blocks
from tests.double import expected_text
from tests.support.node import Node
from tests.support.running import ROOT
from tests.support.service import Served

PAGE = ROOT / "docs" / "clients.md"
QUESTION = "Why is the sky blue?"
ASKED = "[[tokens=60 rate=40]]"
# At a load of 30 it took more than 40 s; beside other parts it has what those leave (tests/__main__.py).
_EXAMPLE_SECONDS = 150
CLIENT = ROOT / "service" / "web" / "client"
MODULE = "http://localhost:8000/client/resumable-fetch.js"

EXAMPLES = [block for block in blocks(PAGE) if block.language in ("python", "js", "jsx")]


def example(text: str) -> Block:
    """The one example that has this text in it."""
    [found] = [block for block in EXAMPLES if text in block.text]
    return found


def ready(block: Block, served: Served) -> str:
    """The example, for this service and with a question whose answer is known."""
    text = block.text.replace(MODULE, str(CLIENT / "resumable-fetch.js"))
    text = text.replace('"chat-service-client"', f'"{CLIENT / "index.js"}"')
    return text.replace("http://localhost:8000", served.url).replace(QUESTION, ASKED)


@pytest.mark.parametrize(
    "mark", ["from openai import", "import openai", "from groq import", "from langchain_openai import"]
)
async def test_the_python_examples_print_the_answer(served: Served, mark: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        ready(example(mark), served),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), _EXAMPLE_SECONDS)
    assert process.returncode == 0, err.decode()
    assert out.decode() == expected_text(60)


@pytest.mark.parametrize(
    "mark", ['/chat", {\n  method', "new EventSource", "followTurn", 'from "openai"', 'from "groq-sdk"']
)
async def test_the_javascript_examples_show_the_answer(served: Served, node: Node, mark: str) -> None:
    shown = await node.play("example", "show", code=ready(example(mark), served))
    assert shown == expected_text(60)


async def test_the_text_transport_example_makes_our_request(served: Served, node: Node) -> None:
    code = ready(example("TextStreamChatTransport"), served)
    shown = await node.play("example", "transport", code=code, text=ASKED)
    assert shown == [ASKED, expected_text(60)]


async def test_the_use_chat_example_sends_shows_and_resumes(served: Served, node: Node) -> None:
    code = ready(example("useChat({"), served)
    page = await node.play("example", "component", code=code, text=ASKED)
    assert page["texts"] == [ASKED, expected_text(60)]
    assert page["buttons"] == ["Send", "Stop", "Send"]
    reloaded = await node.play("example", "component", code=code, history=f"{served.url}/api/chat/c/messages")
    assert reloaded["texts"] == [ASKED, expected_text(60)]


async def test_the_use_chat_example_stops_for_everybody(served: Served, node: Node) -> None:
    code = ready(example("useChat({"), served)
    page = await node.play("example", "component", code=code, text="[[tokens=3000 rate=100]]", stops=True)
    [_, shown] = page["texts"]
    assert expected_text(3000).startswith(shown)
    assert (await served.client.get("/v1/sessions/c")).json()["active_turn"] is None


async def test_the_use_chat_example_shows_an_error(start: Start, node: Node) -> None:
    async with start(limit_sends="1/hour") as served:
        await served.client.post("/chat", json={"user_query": "[[say=zero]]"})
        page = await node.play("example", "component", code=ready(example("useChat({"), served), text="hi")
    assert "try again in" in page["error"]


def test_every_example_is_run() -> None:
    """Each test above takes its example by a text in it; here, that none is left out."""
    marks = (
        "from openai import",
        "import openai",
        "from groq import",
        "from langchain_openai import",
        '/chat", {\n  method',
        "new EventSource",
        "followTurn",
        'from "openai"',
        'from "groq-sdk"',
        "TextStreamChatTransport",
        "useChat({",
    )
    assert {example(mark).line for mark in marks} == {block.line for block in EXAMPLES}


async def test_what_open_webui_sends_is_answered(served: Served) -> None:
    """Requests written by hand, with fields and headers of Open WebUI's; it is not run here."""
    headers = {"X-OpenWebUI-User-Id": "u1", "X-OpenWebUI-Chat-Id": "c1", "Authorization": "Bearer none"}
    models = (await served.client.get("/v1/models", headers=headers)).json()
    body = {
        "stream": True,
        "model": models["data"][0]["id"],
        "params": {},
        "tool_servers": [],
        "metadata": {},
        "messages": [{"role": "user", "content": ASKED}],
        "features": {"web_search": False},
        "variables": {"{{USER_NAME}}": "Ann"},
        "session_id": "Q2gTz4kPq8vV3mXhAAAB",
        "chat_id": "c1",
        "id": "m1",
        "background_tasks": {"title_generation": True},
        "stream_options": {"include_usage": True},
    }
    answer = await served.client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n")
