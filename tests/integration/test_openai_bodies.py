"""What clients send that Groq does not take as it is: accepted, and cleaned before Groq sees it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.double import Double, expected_text
from tests.support.service import Served

PATH = "/v1/chat/completions"
ASKED = {"role": "user", "content": "[[tokens=3]]"}
JSON = {"content-type": "application/json"}


async def sent(served: Served, double: Double, body: dict[str, Any]) -> dict[str, Any]:
    """What Groq was sent for a body that it answers."""
    answer = await served.client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == expected_text(3)
    [told] = [call.describe() for call in double.calls]
    return told


async def test_a_conversation_of_system_messages_alone_is_asked_as_it_is(
    served: Served, double: Double
) -> None:
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "system", "content": "Say hello."}]
    answer = await served.client.post(PATH, json={"messages": messages, "session_id": "s"})
    assert answer.status_code == 200, answer.text
    call: Any
    [call] = [call.describe() for call in double.calls]
    assert [(one["role"], one["content"]) for one in call["messages"]] == [
        ("system", "Be brief."),
        ("system", "Say hello."),
    ]
    kept = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert [(one["role"], one["content"]) for one in kept] == [
        ("user", "Say hello."),
        ("assistant", answer.json()["choices"][0]["message"]["content"]),
    ]


async def test_of_an_assistant_s_parts_what_it_said_is_passed_on(served: Served, double: Double) -> None:
    said = {
        "role": "assistant",
        "content": [
            {"type": "reasoning", "text": "Hm."},
            {"type": "thinking", "thinking": "Hm.", "signature": "x"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "I can "},
            {"type": "refusal", "refusal": "not."},
        ],
        "reasoning": "Hm.",
        "reasoning_content": "Hm.",
        "annotations": [],
        "audio": None,
    }
    refused = {"role": "assistant", "content": None, "refusal": "No."}
    call = await sent(served, double, {"messages": [ASKED, said, ASKED, refused, ASKED]})
    assert [one for one in call["messages"] if one["role"] == "assistant"] == [
        {"role": "assistant", "content": "I can not."},
        {"role": "assistant", "content": "No."},
    ]


@pytest.mark.parametrize("tools", [{"tools": []}, {"tools": None}, {}])
@pytest.mark.parametrize(
    "choice", ["auto", "none", "required", {"type": "function", "function": {"name": "f"}}]
)
async def test_without_tools_nothing_is_said_of_them(
    served: Served, double: Double, tools: dict[str, Any], choice: Any
) -> None:
    body = {"messages": [ASKED], **tools, "tool_choice": choice, "parallel_tool_calls": True}
    call = await sent(served, double, body)
    assert not call["params"].keys() & {"tools", "tool_choice", "parallel_tool_calls"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, b'{"messages":[{"role":"user","content":"[[tokens=3]]"}]}'),
        ("/chat", b'{"user_query":"[[tokens=3]]"}'),
        ("/v1/sessions/s/turns", b'{"content":"[[tokens=3]]"}'),
    ],
)
async def test_a_byte_order_mark_before_json_is_no_part_of_it(served: Served, path: str, body: bytes) -> None:
    answer = await served.client.post(path, content=b"\xef\xbb\xbf" + body, headers=JSON)
    assert answer.status_code == 200, answer.text
    alone = await served.client.post(path, content=b"\xef\xbb\xbf", headers=JSON)
    assert (alone.status_code, (await served.client.post(path, headers=JSON)).text) == (400, alone.text)
