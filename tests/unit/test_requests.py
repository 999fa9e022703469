"""What the bodies of the text, native and AI SDK dialects ask for, as sends."""

from __future__ import annotations

from typing import Any

import pytest

from service.dialects import aisdk_request, native, text
from service.engine.sends import Send
from service.errors import ServiceError


def chat(**body: Any) -> Send:
    return text.parse({"user_query": "Hi", **body}, "p", with_history="history" in body)


def test_a_chat_says_all_that_it_was_asked_with() -> None:
    found = chat(
        system_prompt="Be brief.",
        session_id="s",
        model="m",
        temperature=0.5,
        max_completion_tokens=7,
        on_busy="queue",
    )
    assert (found.route, found.content, found.system, found.session_id) == ("chat", "Hi", "Be brief.", "s")
    assert (found.model, found.params) == ("m", {"temperature": 0.5, "max_completion_tokens": 7})
    assert (found.on_busy, found.on_busy_asked, found.shows) == ("queue", True, "text")
    assert (chat().on_busy, chat().on_busy_asked, chat().params, chat().system) == ("reject", False, {}, None)


def test_a_page_s_placeholders_are_no_history() -> None:
    found = chat(
        history=[
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": " \n"},
            {"role": "assistant", "content": " b "},
        ]
    )
    assert found.route == "chat-with-history"
    assert found.seeds == [{"role": "user", "content": "a"}, {"role": "assistant", "content": " b "}]
    assert found.seeds_required


def turn(**body: Any) -> Send:
    return native.parse(body, "p", "s")


def test_a_turn_is_a_message_an_edit_or_another_answer() -> None:
    said = turn(content="Hi", message_id="m", model="x", params={"temperature": 0, "seed": 7, "top_p": None})
    assert (said.mode, said.content, said.message_id, said.must_exist) == ("append", "Hi", "m", False)
    assert (said.model, said.params) == ("x", {"temperature": 0, "seed": 7})
    edited = turn(edit={"message_id": "m", "content": "Ho"})
    assert (edited.mode, edited.content, edited.message_id, edited.must_exist) == ("edit", "Ho", "m", True)
    again = turn(regenerate=True)
    assert (again.mode, again.content, again.must_exist) == ("regenerate", "", True)


def test_tools_stand_beside_a_turn_s_content_or_in_its_params() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    form = {"type": "json_object"}
    for body in (
        {"tools": tools, "response_format": form},
        {"params": {"tools": tools, "response_format": form}},
    ):
        assert turn(content="Hi", **body).params == {"tools": tools, "response_format": form}


def test_results_and_a_wish_for_the_rest_go_on_with_the_newest_answer() -> None:
    results = [
        {"tool_call_id": "c", "content": {"x": 1}},
        {"tool_call_id": "d", "content": "no", "is_error": True},
    ]
    found = turn(tool_results=results)
    assert (found.mode, found.content, found.must_exist) == ("continue", "", True)
    assert found.results == [
        {"type": "tool_result", "tool_call_id": "c", "content": '{"x":1}', "json": True},
        {"type": "tool_result", "tool_call_id": "d", "content": "no", "is_error": True},
    ]
    rest = turn(**{"continue": True})
    assert (rest.mode, rest.must_exist, rest.results) == ("continue", True, [])


def test_a_busy_session_is_asked_for_as_the_body_says() -> None:
    assert (turn(content="Hi").on_busy, turn(content="Hi").on_busy_asked) == ("reject", False)
    asked = turn(content="Hi", on_busy="queue")
    assert (asked.on_busy, asked.on_busy_asked) == ("queue", True)


def test_a_session_in_a_chat_s_body_wins_over_the_header_s() -> None:
    def session(header: str, **body: Any) -> str | None:
        return text.parse({"user_query": "Hi", **body}, "p", header, with_history=False).session_id

    assert (session("h"), session("h", session_id="b"), session("")) == ("h", "b", None)
    with pytest.raises(ServiceError) as refused:
        session("no spaces")
    assert refused.value.code == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [
        {"content": "x", "regenerate": True},
        {"content": "x", "tool_results": [{"tool_call_id": "c", "content": "x"}]},
        {"content": "x", "continue": True},
        {"content": "x", "edit": {"message_id": "m", "content": "x"}},
        {"regenerate": True, "edit": {"message_id": "m", "content": "x"}},
    ],
)
def test_a_turn_is_one_of_them(body: dict[str, Any]) -> None:
    with pytest.raises(ServiceError, match="Give one of"):
        turn(**body)


# AI SDK


def ui(message_id: str, role: str, *texts: str, **more: Any) -> dict[str, Any]:
    return {"id": message_id, "role": role, "parts": [{"type": "text", "text": one} for one in texts], **more}


TALK = [ui("u1", "user", "a"), ui("a1", "assistant", "b", "c"), ui("u2", "user", "d")]


def page(messages: list[dict[str, Any]] | None = None, **body: Any) -> Send:
    return aisdk_request.parse({"id": "s", "messages": TALK if messages is None else messages, **body}, "p")


def test_a_page_submits_its_last_message_under_that_s_id() -> None:
    found = page()
    assert (found.mode, found.content, found.message_id, found.key) == ("append", "d", "u2", "u2")
    assert (found.on_busy, found.on_busy_asked, found.seeds_required) == ("interrupt", False, False)
    assert found.seeds == [
        {"id": "u1", "role": "user", "content": "a"},
        {"id": "a1", "role": "assistant", "content": "bc"},
    ]
    assert found.before == ["a1", "u1"]  # newest first
    assert page(on_busy="reject").on_busy == "reject"


def test_an_edit_and_another_answer_are_no_repeats() -> None:
    edited = page(messageId="u1")
    assert (edited.mode, edited.message_id, edited.content, edited.key) == ("edit", "u1", "a", None)
    again = page([*TALK, ui("a2", "assistant", "e")], trigger="regenerate-message", messageId="a2")
    assert (again.mode, again.message_id, again.content, again.key) == ("regenerate", "u2", "d", None)


def test_what_was_refused_for_good_is_no_history() -> None:
    file = {"type": "file", "mediaType": "image/png", "url": "data:,"}
    refused = [
        ui("u0", "user", " "),
        ui("s0", "system", "S"),
        {**ui("f0", "user", "see"), "parts": [{"type": "text", "text": "see"}, file]},
    ]
    found = page([*refused, *TALK])
    assert [seed["id"] for seed in found.seeds] == ["u1", "a1"]
    assert found.before == ["a1", "u1", "f0", "u0"]


def test_the_beginning_of_a_list_is_told_by_who_always_sends_all() -> None:
    assert page([TALK[0]]).before == []
    assert page([TALK[0]], tools={}).before == [""]


@pytest.mark.parametrize(
    ("messages", "body", "code"),
    [
        (TALK[:2], {}, "invalid_request"),
        ([TALK[1]], {"trigger": "regenerate-message"}, "invalid_request"),
        (TALK, {"messageId": "a1"}, "invalid_request"),
        ([ui("u", "user", " ")], {}, "query_empty"),
        ([{"id": "u", "role": "user", "parts": [{"type": "file"}]}], {}, "unsupported_parameter"),
        ([], {}, "invalid_request"),
    ],
)
def test_what_a_page_cannot_ask(messages: list[dict[str, Any]], body: dict[str, Any], code: str) -> None:
    with pytest.raises(ServiceError) as caught:
        page(messages, **body)
    assert caught.value.code == code


def test_a_very_long_list_is_its_newest_messages() -> None:
    long = [ui(f"u{number}", "user", "x") for number in range(1_100)]
    found = page(long)
    assert (found.message_id, len(found.before), found.before[0]) == ("u1099", 64, "u1098")
    assert len(found.seeds) == 1_000


# What makes a repeat the same send


@pytest.mark.parametrize(
    "other",
    [
        {"user_query": "Ho"},
        {"temperature": 0.5},
        {"model": "m"},
        {"system_prompt": "S"},
        {"session_id": "s"},
        {"on_busy": "queue"},
        {"history": [{"role": "user", "content": "a"}]},
    ],
)
def test_another_body_is_another_send(other: dict[str, Any]) -> None:
    assert chat(**other).fingerprint() != chat().fingerprint() == chat(unknown=1).fingerprint()
