"""Every string that is kept with a session or a turn has a bound in bytes, and a sentence that says so."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.support.service import Served

LONG = "x" * 1_000_000
USER = {"messages": [{"role": "user", "content": "[[say=hi]]"}]}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def calling(**changed: Any) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "assistant", "content": "", "tool_calls": [{**CALL, **changed}]},
            *USER["messages"],
        ]
    }


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/sessions", {"system_prompt": "🙂" * 65_536}, "system_prompt"),
        ("/v1/sessions", {"title": LONG}, "title"),
        ("/chat", {"user_query": "hi", "system_prompt": "🙂" * 32_769}, "system_prompt"),
        ("/chat-with-history", {"user_query": "hi", "system_prompt": "🙂" * 32_769}, "system_prompt"),
        ("/v1/sessions/s/turns", {"content": "hi", "message_id": "x" * 201}, "message_id"),
        ("/v1/sessions/s/turns", {"content": "hi", "params": {"stop": LONG}}, "params.stop"),
        ("/v1/sessions/s/turns", {"content": "hi", "params": {"stop": ["a", LONG]}}, "params.stop.1"),
        ("/v1/chat/completions", {**USER, "user": LONG}, "user"),
        ("/v1/chat/completions", {**USER, "user": "🙂" * 129}, "user"),
        ("/v1/chat/completions", {**USER, "stop": LONG}, "stop"),
        ("/v1/chat/completions", {**USER, "tool_choice": LONG}, "tool_choice"),
        ("/v1/chat/completions", {**USER, "tool_choice": {"type": LONG}}, "tool_choice"),
        ("/v1/chat/completions", {**USER, "tools": [{"type": "function", "x": LONG}]}, "tools"),
        ("/v1/chat/completions", {**USER, "response_format": {"type": LONG}}, "response_format"),
        ("/v1/chat/completions", {**USER, "reasoning_effort": LONG}, "reasoning_effort"),
        ("/v1/chat/completions", calling(id=LONG), "messages.0.tool_calls.0.id"),
        (
            "/v1/chat/completions",
            calling(function={"name": LONG, "arguments": ""}),
            "messages.0.tool_calls.0.function.name",
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": LONG}, *USER["messages"]]},
            "messages.0.tool_call_id",
        ),
        (
            "/api/chat",
            {
                "id": "s",
                "messages": [{"id": "x" * 201, "role": "user", "parts": [{"type": "text", "text": "hi"}]}],
            },
            "messages.0.id",
        ),
    ],
)
async def test_what_is_stored_is_bounded_in_bytes_with_a_sentence(
    served: Served, store: redis.Redis, path: str, body: dict[str, Any], field: str
) -> None:
    answer = await served.client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    told = answer.text if path == "/api/chat" else str(answer.json().get("detail") or answer.json()["error"])
    assert f"{field}: " in told
    assert list(store.scan_iter("*:session")) == []
