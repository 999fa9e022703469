"""Why an answer ended, and the rest of one that was cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.engine.context import GO_ON
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.dialects import datas
from tests.support.service import Served
from tests.support.tool_clients import NativeTools

CUT = {"content": "[[tokens=40 continue]]", "params": {"max_completion_tokens": 10}}


async def messages(served: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    return found


@pytest.mark.parametrize(
    ("reason", "at_a_page"), [("length", "length"), ("content_filter", "content-filter"), ("stop", "stop")]
)
async def test_why_an_answer_ended_is_told_everywhere(served: Served, reason: str, at_a_page: str) -> None:
    said = await NativeTools(served).ask(f"[[tokens=5 finish={reason}]]")
    assert f'"finish_reason":"{reason}"' in said.body
    assert (await messages(served))[1]["finish_reason"] == reason
    shown = (await served.client.get("/api/chat/s/messages")).json()[1]
    assert shown["metadata"]["finishReason"] == at_a_page
    again = {"id": "s", "messages": [{"id": "u", "role": "user", "parts": [_text(reason)]}]}
    chunks = datas((await served.client.post("/api/chat", json=again)).text)
    assert [one["finishReason"] for one in chunks if one["type"] == "finish"] == [at_a_page]


def _text(reason: str) -> dict[str, str]:
    return {"type": "text", "text": f"[[tokens=5 finish={reason}]]"}


async def test_the_rest_is_appended_to_the_same_message(served: Served, double: Double) -> None:
    """A model that takes no prefill is asked for it in words."""
    native = NativeTools(served)
    await native.post(CUT)
    question, cut = await messages(served)
    assert (cut["content"], cut["finish_reason"]) == (expected_text(10), "length")
    rest = await native.post({"continue": True})
    asked: Any = double.calls.find()[-1].describe()
    assert asked["messages"][-2:] == [
        {"role": "assistant", "content": expected_text(10)},
        {"role": "user", "content": GO_ON},
    ]
    again, whole = await messages(served)
    assert again == question
    assert (whole["id"], whole["content"]) == (cut["id"], expected_text(10) + rest.text)
    assert (whole["finish_reason"], "parts" in whole) == ("stop", False)


@pytest.fixture
def prefilling(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(
        '[[models]]\nid = "openai/gpt-oss-120b"\ncontext_window = 131072\nmax_completion_tokens = 65536\n'
        'capabilities = ["tools"]\non_takeover = "continue"\n'
    )
    return path


async def test_a_model_that_goes_on_with_a_prefill_is_asked_for_the_rest_by_one(
    start: Start, prefilling: Path, double: Double
) -> None:
    async with start(models_file=prefilling) as served:
        native = NativeTools(served)
        await native.post(CUT)
        rest = await native.post({"continue": True})
        assert expected_text(10) + rest.text == expected_text(40)
        asked: Any = double.calls.find()[-1].describe()
        assert asked["messages"][-1] == {"role": "assistant", "content": expected_text(10)}
        _, whole = await messages(served)
        assert (whole["content"], whole["finish_reason"]) == (expected_text(40), "stop")
        assert len(await messages(served)) == 2


async def test_a_page_asks_for_the_rest_of_its_last_message(served: Served) -> None:
    await NativeTools(served).post(CUT)
    chat = (await served.client.get("/api/chat/s/messages")).json()
    body = {"id": "s", "messages": chat, "continue": True}
    chunks = datas((await served.client.post("/api/chat", json=body)).text)
    assert chunks[0]["messageId"] == chat[1]["id"]
    assert [one["type"] for one in chunks][-1] == "finish"
    assert len(await messages(served)) == 2


async def test_an_answer_that_is_whole_has_no_rest(served: Served) -> None:
    native = NativeTools(served)
    assert (await native.post({"continue": True})).status == 404
    await native.ask("[[tokens=5]]")
    refused = await native.post({"continue": True})
    assert (refused.status, json.loads(refused.body)["code"]) == (400, "invalid_request")
    both = await native.post({"continue": True, "content": "And?"})
    assert (both.status, json.loads(both.body)["code"]) == (400, "invalid_request")
