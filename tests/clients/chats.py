"""What the tests of the AI SDK share: its versions, and looking at chats from both sides."""

from __future__ import annotations

from typing import Any

from tests.support.service import Served

# `react` is the Chat of @ai-sdk/react 4 with ai 7.0.173; the x.0.0 have strict schemas.
VERSIONS = ["react", "ai-7.0.0", "ai-6", "ai-6.0.0", "ai-5"]
# Those that rebuild a whole message from its replay, and half of one after a drop; others add to it.
REBUILDING = ["react", "ai-6", "ai-5"]
REBUILDING_AFTER_DROPS = ["react", "ai-6"]


def texts(chat: dict[str, Any]) -> list[str]:
    return [message["text"] for message in chat["messages"]]


async def history(served: Served, chat: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await served.client.get(f"/api/chat/{chat}/messages")).json()
    return found


async def running_text(served: Served, chat: str) -> str:
    """The answer that is running, as another client sees it; empty when none is."""
    turn = (await served.client.get(f"/v1/sessions/{chat}")).json().get("active_turn")
    if turn is None:
        return ""
    text: str = (await served.client.get(f"/v1/sessions/{chat}/turns/{turn}")).json()["text"]
    return text
