"""What is stored, as clients read it: every field of every object, from the field that it is of."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from service import parts
from service.api.responses_resource import listed, placed_items, stored_items
from service.api.routes import keys, live_turns, principals
from service.api.routes.conversations import conversation_resource
from service.api.routes.openai import model_resource
from service.api.routes.sessions import message_resource, session_resource, version_resource
from service.api.routes.turns import turn_resource
from service.api.routes.usage import usage_resource
from service.api.ui_messages import ui_message
from service.engine.engine import Engine
from service.errors import ServiceError
from service.money import Amount
from service.store.credentials import Credential
from service.store.ledger_records import Usage
from service.store.messages import Message, Session
from service.store.principals import Entry
from service.store.turn_records import Turn, TurnRef
from service.store.versions import Version
from service.upstream.models import Catalogue, load_catalogue

USAGE: Final[dict[str, Any]] = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
TOLD: Final = {
    "inputTokens": 7,
    "outputTokens": 5,
    "totalTokens": 12,
    "reasoningTokens": 2,
    "cachedInputTokens": 3,
}
SESSION: Final = Session("s", "A title", "m", "Be brief.", 1_111, 2_222, 3, "t_1", True, '{"a":"b"}')
QUESTION: Final = Message("u_1", "user", "Why?", "t_1", "completed", 3_333)
ANSWER: Final = Message(
    "m_1", "assistant", "So.", "t_1", "stopped", 4_444, "Hm", (), "stop", "m", USAGE, 3_999
)
OWN: Final[dict[str, Any]] = {
    "limit_sends": "1/minute",
    "limit_reads": "2/minute",
    "budget_tokens_per_minute": 3,
    "budget_tokens_per_day": 4,
    "budget_tokens_per_month": 5,
    "budget_money_per_day": 6_000_000_000,
    "budget_money_per_month": 7_500_000_000,
    "max_running_turns": 8,
}
OWN_TOLD: Final = {**OWN, "budget_money_per_day": "6", "budget_money_per_month": "7.5"}


def test_a_session() -> None:
    assert session_resource(SESSION) == {
        "id": "s",
        "title": "A title",
        "model": "m",
        "system_prompt": "Be brief.",
        "created": 1_111,
        "updated": 2_222,
        "turns": 3,
        "active_turn": "t_1",
    }
    of_openai = {"id": "s", "object": "conversation", "created_at": 1}
    assert conversation_resource(SESSION) == {**of_openai, "metadata": {"a": "b"}}
    assert conversation_resource(replace(SESSION, metadata=None)) == {**of_openai, "metadata": {}}


def test_a_message_and_a_version() -> None:
    question = {
        "id": "u_1",
        "role": "user",
        "content": "Why?",
        "turn_id": "t_1",
        "state": "completed",
        "created": 3_333,
    }
    assert message_resource(QUESTION) == question
    assert message_resource(replace(QUESTION, turn_id=""))["turn_id"] is None
    assert message_resource(ANSWER) == {
        "id": "m_1",
        "role": "assistant",
        "content": "So.",
        "turn_id": "t_1",
        "state": "stopped",
        "created": 4_444,
        "reasoning": "Hm",
        "finish_reason": "stop",
        "model": "m",
        "usage": USAGE,
    }
    assert message_resource(replace(ANSWER, finish_reason=""))["finish_reason"] is None
    pictured = ({"type": "text", "text": "Why?"}, {"type": "image", "url": "https://x.example/a"})
    assert message_resource(replace(QUESTION, parts=pictured))["parts"] == list(pictured)
    version = Version("v_1", "u_2", 5_555, [QUESTION, ANSWER])
    brief = {"id": "v_1", "replaced": 5_555, "role": "user", "created": 3_333}
    assert version_resource(version, brief=True) == brief
    assert version_resource(version) == {
        **brief,
        "messages": [question, message_resource(ANSWER)],
    }


async def test_a_turn() -> None:
    class Texts:
        async def text(self, turn: Turn) -> str:
            return "So."

    async def told(**more: Any) -> dict[str, Any]:
        turn = Turn(TurnRef("p", "s", "t_1"), "running", 4, 2, "m", "u_1", 1, 9, 1_111, **more)
        return await turn_resource(cast(Engine, Texts()), turn)

    running = {
        "id": "t_1",
        "session_id": "s",
        "state": "running",
        "attempt": 2,
        "text": "So.",
        "model": "m",
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "finish_reason": None,
    }
    assert await told() == running
    error = {"code": "internal", "message": "No."}
    ended = Turn(
        TurnRef("p", "s", "t_1"),
        "failed",
        4,
        2,
        "m",
        "u_1",
        1,
        9,
        1_111,
        usage=USAGE,
        error=error,
        finish_reason="length",
        cost=Amount(1_500_000_000, "EUR"),
    )
    assert await turn_resource(cast(Engine, Texts()), ended) == {
        **running,
        "state": "failed",
        "usage": USAGE,
        "finish_reason": "length",
        "cost": {"EUR": "1.5"},
        "error": error,
    }
    assert (await turn_resource(cast(Engine, Texts()), replace(ended, cost=None)))["cost"] is None


def test_a_turn_as_an_administrator_sees_it() -> None:
    turn = Turn(TurnRef("p", "s", "t_1"), "running", 4, 2, "m", "u_1", 1, 9, 60_000, owner="host:7", tokens=5)
    seen = {
        "id": "t_1",
        "session_id": "s",
        "principal": "p",
        "state": "running",
        "model": "m",
        "attempt": 2,
        "age_seconds": 2.5,
        "tokens": 5,
        "worker": "host:7",
    }
    assert live_turns._resource(turn, 62.5) == seen
    waiting = replace(turn, owner="", answered_by="m2")
    assert live_turns._resource(waiting, 59) == {**seen, "worker": None, "model": "m2", "age_seconds": 0}


def test_a_key_and_who_has_limits_of_its_own() -> None:
    key = Credential(
        id="k",
        name="n",
        owner="team",
        scopes=("chat",),
        created=1,
        digest="d",
        expires=2**40,
        rotated=3,
        last_used=4,
        webhook_url="https://x.example/",
        webhook_secret="whsec_x",
        **OWN,
    )
    found = {
        "id": "k",
        "name": "n",
        "owner": "team",
        "principal": key.principal,
        "scopes": ["chat"],
        "state": "active",
        "created": 1,
        "expires": 2**40,
        "revoked": None,
        "rotated": 3,
        "last_used": 4,
        "webhook_url": "https://x.example/",
        **OWN_TOLD,
    }
    assert keys.key_resource(key) == found
    assert keys.key_resource(replace(key, revoked=9)) == {**found, "revoked": 9, "state": "revoked"}
    assert keys.key_resource(replace(key, expires=int(time.time())))["state"] == "expired"
    assert keys.limits_resource(Entry("x")) == dict.fromkeys(OWN)
    assert principals._resource(Entry("jwt.a", "a", "i", **OWN)) == {
        "id": "jwt.a",
        "name": "a",
        "issuer": "i",
        **OWN_TOLD,
    }
    assert principals._resource(Entry("jwt.a", "a"))["issuer"] is None


def test_a_day_s_usage() -> None:
    usage = Usage("2026-11-30", "m", 7, 5, 3, 2, 4, {"EUR": 1_500_000_000}, 3)
    told = {
        "date": "2026-11-30",
        "model": "m",
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "cached_tokens": 3,
        "reasoning_tokens": 2,
        "turns": 4,
        "cost": {"EUR": "1.5"},
        "unpriced_turns": 1,
    }
    assert usage_resource(usage) == told
    plain = replace(usage, cached_tokens=0, reasoning_tokens=0, cost={}, priced=0)
    left_out = ("cached_tokens", "reasoning_tokens")
    assert usage_resource(plain) == {
        **{name: value for name, value in told.items() if name not in left_out},
        "cost": None,
        "unpriced_turns": 4,
    }
    assert usage_resource(replace(plain, priced=4))["cost"] == {}


def test_a_model() -> None:
    catalogue = load_catalogue(None, None)
    sees = catalogue.resolve("qwen/qwen3.8-27b")
    gone = {sees.id}

    def told(catalogue: Catalogue, model: Any) -> dict[str, Any]:
        governor = SimpleNamespace(offers=lambda one: one.id not in gone)
        edge = SimpleNamespace(engine=SimpleNamespace(governor=governor, catalogue=catalogue))
        return model_resource(cast(Any, edge), model)

    assert told(catalogue, sees) == {
        "id": sees.id,
        "object": "model",
        "created": 0,
        "owned_by": sees.owned_by,
        "active": False,
        "context_window": sees.context_window,
        "max_completion_tokens": sees.max_completion_tokens,
        "input_modalities": ["text", "image"],
        "capabilities": sorted(sees.capabilities),
        "reasoning_efforts": list(sees.reasoning_efforts),
        "fallbacks": list(sees.fallbacks),
        "aliases": list(sees.aliases),
        "default": False,
    }
    default = told(catalogue, catalogue.default)
    assert (default["active"], default["default"], default["input_modalities"]) == (True, True, ["text"])


# As the AI SDK keeps them


def test_a_page_s_message_has_what_its_stream_has_told() -> None:
    assert ui_message(QUESTION, "/images") == {
        "id": "u_1",
        "role": "user",
        "parts": [{"type": "text", "text": "Why?", "state": "done"}],
        "metadata": {"turnId": "t_1"},
    }
    assert ui_message(ANSWER, "/images") == {
        "id": "m_1",
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "text": "Hm", "state": "done"},
            {"type": "text", "text": "So.", "state": "done"},
        ],
        "metadata": {
            "turnId": "t_1",
            "state": "stopped",
            "finishReason": "stop",
            "model": "m",
            "usage": TOLD,
            "createdAt": 3_999,
        },
    }
    assert ui_message(replace(ANSWER, begun=0), "")["metadata"]["createdAt"] == 4_444
    nothing = replace(ANSWER, content="", reasoning="")
    assert ui_message(nothing, "")["parts"] == [{"type": "text", "text": "", "state": "done"}]


def test_a_page_s_images_and_tools_are_told_as_parts() -> None:
    ref = {"type": "image", "ref": "0" * 64, "media_type": "image/png"}
    pictured = replace(QUESTION, parts=(ref, {"type": "image", "url": "https://x.example/a"}))
    assert ui_message(pictured, "/images")["parts"] == [
        {"type": "file", "mediaType": "image/png", "url": f"/images/{'0' * 64}"},
        {"type": "file", "mediaType": "image/*", "url": "https://x.example/a"},
    ]
    made = (*(call(name) for name in "abc"), parts.result("a", '{"x":1}', json=True))
    made = (*made, parts.result("b", "no", is_error=True), {"type": "text", "text": "So."})
    tool = {"input": {"q": 1}}
    assert ui_message(replace(ANSWER, parts=made), "")["parts"] == [
        {"type": "step-start"},
        {"type": "tool-f", "toolCallId": "a", **tool, "state": "output-available", "output": {"x": 1}},
        {"type": "tool-f", "toolCallId": "b", **tool, "state": "output-error", "errorText": "no"},
        {"type": "tool-f", "toolCallId": "c", **tool, "state": "input-available"},
        {"type": "step-start"},
        {"type": "text", "text": "So.", "state": "done"},
    ]


def call(name: str) -> parts.Part:
    return {"type": "tool_call", "id": name, "name": "f", "arguments": '{"q":1}'}


# As OpenAI's Responses has them


def test_a_message_s_items_say_what_it_is_made_of() -> None:
    [item] = stored_items("s", replace(QUESTION, parts=({"type": "image", "ref": "0" * 64},)))
    assert (item["id"], item["role"], item["status"]) == ("msg_u_1", "user", "completed")
    image = {"type": "input_image", "detail": "auto", "file_id": None}
    assert item["content"] == [{**image, "image_url": f"/v1/sessions/s/images/{'0' * 64}"}]
    answer = replace(
        ANSWER, id=f"m_{'0' * 26}", turn_id=f"t_{'0' * 26}", parts=(call("a"), parts.result("a", "42"))
    )
    called, gave = stored_items("s", answer)
    assert (called["type"], called["call_id"], called["status"]) == ("function_call", "a", "incomplete")
    assert (gave["type"], gave["call_id"], gave["output"]) == ("function_call_output", "a", "42")
    of_call, of_result = [made for _, made in placed_items("s", answer, answer.whole)]
    assert [part["type"] for part in of_call] == ["tool_call", "tool_result"]
    assert [part["type"] for part in of_result] == ["tool_result"]


def test_a_page_of_items_says_where_it_begins_and_ends_and_whether_there_are_more() -> None:
    items = [{"id": str(number)} for number in range(4)]

    def page(after: str | None, limit: int, *, more: bool = False) -> tuple[Any, ...]:
        found = listed(items, after=after, limit=limit, more=more)
        assert found["object"] == "list"
        seen = [item["id"] for item in found["data"]]
        return seen, found["first_id"], found["last_id"], found["has_more"]

    assert page(None, 2) == (["0", "1"], "0", "1", True)
    assert page("1", 2) == (["2", "3"], "2", "3", False)
    assert page("1", 2, more=True)[-1] is True
    assert page("3", 2) == ([], None, None, False)
    with pytest.raises(ServiceError) as caught:
        page("9", 2)
    assert (caught.value.code, caught.value.param) == ("not_found", "after")
