"""What a useChat page keeps: messages that were refused are not sent on, and histories are valid."""

from __future__ import annotations

import json
from typing import Any

from service.api.ui_messages import ui_message
from service.store.messages import Message
from tests.integration.test_aisdk import history, say, submit, user
from tests.support.service import Served


async def test_messages_that_were_refused_seed_nothing(served: Served) -> None:
    picture: dict[str, Any] = user(2, "What is this?")
    picture["parts"].append({"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="})
    context = json.loads(await say(served, submit(user(1, " \n"), picture, user(3, "[[echo]]"))))
    assert [item["content"] for item in context[1:]] == ["[[echo]]"]
    assert [role for role, _ in await history(served)] == ["user", "assistant"]


async def test_the_newest_message_alone_is_enough_for_submit_edit_and_regenerate(served: Served) -> None:
    await say(served, submit(user(1, "[[say=one]]")))
    context = json.loads(await say(served, submit(user(2, "[[echo]]"))))
    assert [item["content"] for item in context[1:]] == ["[[say=one]]", "one", "[[echo]]"]
    again = submit(user(2, "[[echo]]"), trigger="regenerate-message", messageId="anything")
    assert json.loads(await say(served, again)) == context
    edited = submit(user(1, "[[say=other]]"), messageId="u1")
    assert await say(served, edited) == "other"
    assert await history(served) == [("user", "[[say=other]]"), ("assistant", "other")]


def test_an_answer_without_text_has_one_empty_part() -> None:
    """validateUIMessages of AI SDK 6.0.0 and 7.0.0 throws for a message without parts."""
    answer = Message("m_1", "assistant", "", "t_1", "stopped", 1)
    assert ui_message(answer, "")["parts"] == [{"type": "text", "text": "", "state": "done"}]
