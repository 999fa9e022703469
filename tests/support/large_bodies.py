"""The largest legal bodies of every route that takes one, for the test of stalls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from service.dialects.base import MAX_HISTORY, MAX_MESSAGES, MAX_TOOLS

LARGEST_BODY = 1_048_576  # CHAT_MAX_BODY_BYTES


def filled(item: Any, make: Callable[[list[Any]], Any], most: int = 10**9) -> bytes:
    """The body that `make` makes of as many items as fit, `most` at most."""
    room = LARGEST_BODY - len(orjson.dumps(make([])))
    return orjson.dumps(make([item] * min(most, room // (len(orjson.dumps(item)) + 1))))


def words(make: Callable[[str], Any], text: str = "word ") -> bytes:
    """The body with the longest text that a model takes: 120,000 tokens of its window."""
    length = min(440_000, LARGEST_BODY - len(orjson.dumps(make(""))) - 10)
    return orjson.dumps(make((text * length)[:length]))


USER = {"role": "user", "content": "a"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def ui(parts: list[Any], last: str = "hi") -> dict[str, Any]:
    said = [
        {"id": f"m{i}", "role": "user" if i % 2 == 0 else "assistant", "parts": [part]}
        for i, part in enumerate(parts)
    ]
    return {"id": "$", "messages": [*said, {"id": "last", "role": "user", "parts": [text_part(last)]}]}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def calls(items: list[Any]) -> dict[str, Any]:
    chunks = [items[i : i + MAX_TOOLS] for i in range(0, len(items), MAX_TOOLS)]
    return {
        "messages": [
            *({"role": "assistant", "content": None, "tool_calls": chunk} for chunk in chunks),
            {"role": "user", "content": "hi"},
        ]
    }


def rounds(items: list[Any]) -> dict[str, Any]:
    """An exchange of as many rounds as a call may have messages; its calls are `items`."""
    most = MAX_MESSAGES // 2 - 1
    size = len(items) // most + 1
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    said: list[Any] = [USER]
    for i, chunk in enumerate(chunks):
        named = [{**call, "id": f"{i}.{j}"} for j, call in enumerate(chunk)]
        said.append({"role": "assistant", "content": None, "tool_calls": named})
        said.append({"role": "tool", "tool_call_id": f"{i}.0", "content": ""})
    return {"messages": said}


_COMPLETIONS = {
    "words": words(lambda text: {"messages": [{"role": "user", "content": text[:400_000]}]}),
    "messages": filled(USER, lambda items: {"messages": [USER, *items]}, MAX_MESSAGES - 1),
    "messages with parts": filled(
        {"role": "user", "content": [text_part("a")]},
        lambda items: {"messages": [USER, *items]},
        MAX_MESSAGES - 1,
    ),
    "parts": filled(
        text_part(""),
        lambda items: {"messages": [{"role": "user", "content": [text_part("a"), *items]}]},
        19_900,
    ),
    "tool calls": filled(CALL, calls, 9_000),
    "rounds of tools": orjson.dumps(rounds([CALL] * 7_000)),
    "rounds of tools before a question": orjson.dumps(
        {"messages": [*rounds([CALL] * 7_000)["messages"], {"role": "user", "content": "hi"}]}
    ),
    "tools": filled(
        {"enum": ["abc"] * 400, "type": "string"},
        lambda items: {
            "messages": [USER],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": items}}}],
        },
        80,
    ),
    "a wide tool": orjson.dumps(
        {
            "messages": [USER],
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {f"{i:x}": 0 for i in range(25_000)}},
                }
            ],
        }
    ),
}

_INPUT = {"type": "input_text", "text": "a"}
_METADATA = orjson.dumps({"metadata": {f"{number:<64}": "x" * 512 for number in range(16)}})

# As many items as a call may bring, OpenAI's bound.
_ITEMS = orjson.dumps({"items": [{"role": "user", "content": "word " * 10_000}] * 20})

# Of every route with a body: the largest that are legal. `$` stands for a session that is new.
BODIES: dict[tuple[str, str], dict[str, bytes]] = {
    ("POST", "/chat"): {
        "words": words(lambda text: {"user_query": text}),
        "another script": words(lambda text: {"user_query": text[:120_000]}, "\u8a9e"),
        "system prompt": orjson.dumps({"user_query": "hi", "system_prompt": "a" * 65_000}),
    },
    ("POST", "/chat-with-history"): {
        "messages": filled(USER, lambda items: {"user_query": "hi", "history": items}, MAX_HISTORY),
        "long messages": filled(
            {"role": "user", "content": "a" * 400},
            lambda items: {"user_query": "hi", "history": items},
            MAX_HISTORY,
        ),
        "a very long one": words(lambda text: {"user_query": "hi", "history": [{**USER, "content": text}]}),
    },
    ("POST", "/v1/sessions"): {"system prompt": orjson.dumps({"id": "$", "system_prompt": "a" * 65_000})},
    ("PATCH", "/v1/sessions/{session_id}"): {"system prompt": orjson.dumps({"system_prompt": "a" * 65_000})},
    ("POST", "/v1/sessions/{session_id}/turns"): {
        "words": words(lambda text: {"content": text}),
        "an edit": words(lambda text: {"edit": {"message_id": "m2", "content": text}}),
    },
    ("POST", "/v1/sessions/{session_id}/fork"): {"a fork": b'{"through":"m20000"}'},
    ("POST", "/v1/chat/completions"): _COMPLETIONS,
    ("POST", "/openai/v1/chat/completions"): {"messages": _COMPLETIONS["messages"]},
    ("POST", "/api/chat"): {
        "messages": filled(text_part("a"), ui, 6_600),
        "parts": filled(
            text_part(""),
            lambda items: {
                "id": "$",
                "messages": [{"id": "m", "role": "user", "parts": [text_part("a"), *items]}],
            },
            19_900,
        ),
        "words": words(lambda text: ui([], text)),
    },
    ("POST", "/v1/responses"): {
        "words": words(lambda text: {"input": text}),
        "messages": filled(USER, lambda items: {"input": items}, 2_000),
        "parts": filled(
            {"type": "input_text", "text": ""},
            lambda items: {"input": [{"role": "user", "content": [_INPUT, *items]}]},
            9_900,
        ),
    },
    ("POST", "/openai/v1/responses"): {"words": words(lambda text: {"input": text})},
    ("POST", "/v1/conversations"): {"metadata": _METADATA},
    ("POST", "/openai/v1/conversations"): {"metadata": _METADATA},
    ("POST", "/v1/conversations/{conversation_id}"): {"metadata": _METADATA},
    ("POST", "/openai/v1/conversations/{conversation_id}"): {"metadata": _METADATA},
    ("POST", "/v1/conversations/{conversation_id}/items"): {"messages": _ITEMS},
    ("POST", "/openai/v1/conversations/{conversation_id}/items"): {"messages": _ITEMS},
    ("POST", "/v1/keys"): {"a name": orjson.dumps({"name": "a" * 200})},
    ("PATCH", "/v1/keys/{key_id}"): {"a URL": orjson.dumps({"webhook_url": f"https://{'a' * 1_900}"})},
    ("POST", "/v1/keys/{key_id}/rotate"): {"nothing": b"{}"},
    ("POST", "/v1/principals"): {"a name": orjson.dumps({"subject": "a" * 200})},
    ("POST", "/v1/turns/stop"): {"a principal": orjson.dumps({"principal": "owner." + "a" * 64})},
}
