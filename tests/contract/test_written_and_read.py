"""What is kept is the same whichever dialect has written it, and each other one reads it alike."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.double import Double, expected_text
from tests.integration.test_images import SEES, by_native, by_openai, by_responses, by_use_chat
from tests.support.dialects import DIALECTS, AiSdk, Native, Responses, Text
from tests.support.pictures import data_url, png
from tests.support.service import Served
from tests.support.tool_clients import TOOL_CLIENTS, Result

# Of each rule: what is asked, the text that stays, and how the answer ended.
RULES: Final = {
    "text": ("[[say=Hello]] you", "Hello", "completed", "stop"),
    "reasoning": ("[[reasoning=5 tokens=10]]", expected_text(10), "completed", "stop"),
    "length": ("[[finish=length say=Half]]", "Half", "completed", "length"),
    "content filter": ("[[finish=content_filter say=Half]]", "Half", "completed", "content_filter"),
    "failure": ("[[tokens=9 fault=cut after=4]]", expected_text(4), "failed", None),
    "a fallback": ("[[fault=503 times=2 say=Hi]]", "Hi", "completed", "stop"),
}
# What is another in each session, or counts what the dialect's own context has.
_OWN: Final = (
    *("id", "turn_id", "created", "usage", "turnId", "createdAt", "metadata"),
    *("call_id", "tool_call_id", "toolCallId"),
    *("media_type", "mediaType"),  # a page tells it of a URL, which others do not
)
_IMAGES: Final = "/v1/sessions/"


def alike(value: Any) -> Any:
    """Without ids and times, and with one name for all sessions."""
    if isinstance(value, dict):
        return {name: alike(one) for name, one in value.items() if name not in _OWN}
    if isinstance(value, list):
        return [alike(one) for one in value]
    if isinstance(value, str) and value.startswith(_IMAGES):
        return _IMAGES + value.split("/", 4)[4]
    return value


async def context(served: Served, session: str, reader: type[Any]) -> Any:
    """What a model is told of the session by a question in this dialect; asked in a copy."""
    last = (await served.client.get(f"/v1/sessions/{session}/messages?order=desc&limit=1")).json()["data"][0]
    copy = (await served.client.post(f"/v1/sessions/{session}/fork", json={"through": last["id"]})).json()[
        "id"
    ]
    if reader is AiSdk:
        known = (await served.client.get(f"/api/chat/{copy}/messages")).json()
        asked = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "[[echo]]"}]}
        answer = await served.client.post("/api/chat", json={"id": copy, "messages": [*known, asked]})
        assert answer.status_code == 200, answer.text
        text, _ = AiSdk().read(answer.text)
    else:
        text = (await reader().send(served, "[[echo]]", copy)).text
    return alike(json.loads(text)[1:-1])


async def readings(served: Served, session: str, *, seen: bool = False) -> dict[str, Any]:
    """A session as each dialect tells of it. `seen`: it has images, which the echo does not show."""

    async def get(path: str) -> Any:
        answer = await served.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    native = (await get(f"/v1/sessions/{session}/messages"))["data"]
    page = await get(f"/api/chat/{session}/messages")
    metadata = [message.get("metadata", {}) for message in page]
    items = (await get(f"/v1/conversations/{session}/items?order=asc&limit=100"))["data"]
    assert (await get(f"/v1/sessions/{session}/export"))["messages"] == native
    found = {
        "native": alike(native),
        "aisdk": alike(page),
        "aisdk, metadata": [
            (one.get("state"), one.get("finishReason"), one.get("model")) for one in metadata
        ],
        "responses": alike(items),
    }
    for reader in () if seen else (Text, Native, Responses, AiSdk):
        found[f"context by {reader.name}"] = await context(served, session, reader)
    return found


@pytest.mark.parametrize("rule", RULES)
async def test_an_answer_is_the_same_in_each_dialect_whoever_has_asked(
    served: Served, double: Double, rule: str
) -> None:
    asked, text, state, reason = RULES[rule]
    told: dict[str, Any] = {}
    for number, writer in enumerate(DIALECTS):
        session = f"s{number}"
        double.calls.clear()  # it counts how often it has heard a question
        await writer.send(served, asked, session)
        told[writer.name] = await readings(served, session)
    first = told[DIALECTS[0].name]
    for name, found in told.items():
        assert found == first, name
    answer = first["native"][1]
    assert (answer["content"], answer["state"], answer.get("finish_reason")) == (text, state, reason)
    assert (answer["model"] != "openai/gpt-oss-120b") == (rule == "a fallback")
    contexts = [value for name, value in first.items() if name.startswith("context")]
    assert contexts == [contexts[0]] * 4
    assert [one["content"] for one in contexts[0]] == [asked, text]


async def test_rounds_are_the_same_in_each_dialect_whoever_has_asked(served: Served) -> None:
    told: dict[str, Any] = {}
    for client in TOOL_CLIENTS:
        asking = client(served, session=client.__name__)
        said = await asking.ask("[[tool=weather rounds=2 say=It rains.]]")
        for number in range(2):
            said = await asking.answer({said.calls[0]: Result(f"rain {number}")})
        told[client.__name__] = await readings(served, client.__name__)
    first = told[TOOL_CLIENTS[0].__name__]
    for name, found in told.items():
        assert found == first, name


async def test_images_are_the_same_in_each_dialect_whoever_has_sent_them(served: Served) -> None:
    told: dict[str, Any] = {}
    for way in (by_native, by_openai, by_responses, by_use_chat):
        answer = await way(
            served,
            way.__name__,
            "[[say=red]] what",
            data_url(png(3, 2)),
            "https://example.com/a.png",
            model=SEES,
        )
        assert answer.status_code == 200, answer.text
        told[way.__name__] = await readings(served, way.__name__, seen=True)
    first = told["by_native"]
    for name, found in told.items():
        assert found["responses"] == first["responses"], name
        assert found["native"] == first["native"], name
        assert found["aisdk"] == first["aisdk"], name
