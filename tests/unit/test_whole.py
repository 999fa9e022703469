"""An answer in one piece follows the rules of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.errors import UpstreamError
from service.upstream.base import REASONING, TEXT, TOOL
from service.upstream.whole import decode

CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def completion(message: Any, finish: str | None = "stop", **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], **more}).encode()


def test_all_of_it_is_one_batch() -> None:
    said: dict[str, Any] = {}
    message = {"role": "assistant", "reasoning": "Hm.", "content": "a\x00b", "tool_calls": [CALL, CALL]}
    usage = {"prompt_tokens": 7, "completion_tokens": 4, "total_time": 0.5}
    batch = decode(completion(message, usage=usage, x_groq={"id": "req_1"}, service_tier="on_demand"), said)
    assert batch.pieces == [
        (REASONING, "Hm."),
        (TEXT, "a\ufffdb"),
        (TOOL, {**CALL, "index": 0}),
        (TOOL, {**CALL, "index": 1}),
    ]
    assert (batch.finish_reason, batch.tokens) == ("stop", 4)
    assert batch.usage == {"prompt_tokens": 7, "completion_tokens": 4}
    assert said == {"id": "req_1", "service_tier": "on_demand", "times": {"total_time": 0.5}}


@pytest.mark.parametrize(
    ("message", "pieces"),
    [
        ({"reasoning_content": "Hm.", "content": "a"}, [(REASONING, "Hm."), (TEXT, "a")]),
        ({"reasoning": "Hm.", "reasoning_content": "Hm.", "content": "a"}, [(REASONING, "Hm."), (TEXT, "a")]),
        ({"content": None, "refusal": "I will not."}, [(TEXT, "I will not.")]),
        ({"content": "a", "refusal": None, "reasoning_content": None}, [(TEXT, "a")]),
    ],
)
def test_other_providers_names_for_thoughts_and_answer_are_known(
    message: dict[str, Any], pieces: list[tuple[str, str]]
) -> None:
    assert decode(completion(message), {}).pieces == pieces


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "garbled"),
        (b"<html>", "garbled"),
        (b"[]", "garbled"),
        (b"{}", "garbled"),
        (b'{"choices":[]}', "garbled"),
        (completion({"content": "x"}, None), "cut"),
        (completion({"tool_calls": [{"function": "f"}]}), "garbled"),
        (b'{"error":{"message":"No.","code":"tool_use_failed","failed_generation":"x"}}', "bad_output"),
        (b'{"error":"overloaded"}', "server_error"),
    ],
)
def test_every_failure_is_recognised(body: bytes, kind: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        decode(body, {})
    assert caught.value.kind == kind


def test_it_ends_as_the_provider_says() -> None:
    batch = decode(completion({"content": "x"}, "length", model="m2"), {})
    assert (batch.finish_reason, batch.model) == ("length", "m2")


def test_without_a_usage_its_tokens_are_estimated() -> None:
    assert decode(completion({"content": "x" * 4_000}), {}).tokens == pytest.approx(1_000, abs=40)
