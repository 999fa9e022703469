"""Errors before the first byte, and those that a log tells of: status, envelope, headers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from service.dialects.errors import (
    envelope,
    error_headers,
    from_event,
    of_responses,
    openai_error,
    sentence,
)
from service.errors import ServiceError

LIMITED = ServiceError("rate_limited", "The limit is reached.", retry_after=6.2)


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        (
            "/chat",
            "application/problem+json",
            {
                "type": "urn:chat:error:rate_limited",
                "title": LIMITED.title,
                "status": 429,
                "detail": "The limit is reached.",
                "code": "rate_limited",
            },
        ),
        *(
            (
                path,
                "application/json",
                {
                    "error": {
                        "message": "The limit is reached.",
                        "type": "rate_limit_error",
                        "param": None,
                        "code": "rate_limited",
                    }
                },
            )
            for path in (
                "/v1/chat/completions",
                "/v1/models",
                "/v1/responses/x",
                "/v1/conversations",
                "/openai/v1",
            )
        ),
        ("/v1/sessions", "application/problem+json", None),
        ("/v1/modelsx", "application/problem+json", None),
    ],
)
def test_each_path_has_its_envelope(path: str, kind: str, body: dict[str, Any] | None) -> None:
    data, media_type = envelope(path, LIMITED)
    assert media_type == kind
    assert body is None or orjson.loads(data) == body


def test_a_page_is_told_one_sentence_with_the_time_to_wait() -> None:
    assert envelope("/api/chat", LIMITED) == (
        b"The limit is reached; try again in 7 s.",
        "text/plain; charset=utf-8",
    )
    assert (
        sentence(ServiceError("overloaded", "Full; try again in 1 s.", retry_after=5))
        == "Full; try again in 1 s."
    )
    assert sentence(ServiceError("query_empty", "Say something.")) == "Say something."
    used_up = "The budget of 60 tokens a day is used up; there is room again in 900 s."
    assert sentence(ServiceError("budget_exhausted", used_up, retry_after=900)) == used_up


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("unauthenticated", "authentication_error"),
        ("forbidden", "permission_error"),
        ("session_not_found", "not_found_error"),
        ("rate_limited", "rate_limit_error"),
        ("invalid_request", "invalid_request_error"),
        ("upstream_unavailable", "server_error"),
    ],
)
def test_openai_s_types_go_by_status(code: str, kind: str) -> None:
    assert openai_error(ServiceError(code, "No.", param="x"))["error"] == {
        "message": "No.",
        "type": kind,
        "param": "x",
        "code": code,
    }


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ("reasoning_effort", "reasoning.effort"),
        ("response_format", "text.format"),
        ("max_completion_tokens", "max_output_tokens"),
        ("messages", "input"),
        ("tools", "tools"),
        (None, None),
    ],
)
def test_a_response_s_fields_are_named_as_its_caller_has_sent_them(
    param: str | None, told: str | None
) -> None:
    error = ServiceError("unsupported_parameter", f"{param}: no.", param=param, retry_after=2, retryable=True)
    found = of_responses(error)
    assert (found.param, found.message) == (told, f"{told}: no.")
    assert (found.code, found.status, found.retry_after, found.retryable) == (
        "unsupported_parameter",
        400,
        2,
        True,
    )


def test_too_long_an_input_is_told_in_openai_s_words_and_by_its_field() -> None:
    found = of_responses(ServiceError("context_too_long", "9 of 8 tokens."))
    assert (found.code, found.param) == ("context_length_exceeded", "input")
    assert found.message.startswith("Your input exceeds the context window of this model.")
    assert "9 of 8 tokens." in found.message
    assert of_responses(ServiceError("context_too_long", "No.", param="instructions")).param == "instructions"


def test_retry_after_is_whole_seconds_and_never_too_short() -> None:
    assert error_headers(LIMITED) == {"Retry-After": "7"}
    assert error_headers(ServiceError("overloaded", "No.", retry_after=0.01)) == {"Retry-After": "1"}


@pytest.mark.parametrize(
    ("code", "retryable", "told"),
    [
        ("budget_exhausted", False, True),
        ("upstream_unavailable", False, True),
        ("idempotency_mismatch", False, True),
        ("budget_exhausted", True, False),
        ("invalid_request", False, False),
    ],
)
def test_sdks_are_told_where_a_repeat_is_senseless(code: str, retryable: bool, told: bool) -> None:
    error = ServiceError(code, "No.", retryable=retryable)
    assert (error_headers(error).get("x-should-retry") == "false") is told


def test_a_failed_turn_is_the_error_that_it_was() -> None:
    body = {
        "code": "upstream_rate_limited",
        "message": "Busy.",
        "retryable": True,
        "retry_after": 2,
        "param": "x",
    }
    found = from_event(body)
    assert (found.code, found.message, found.retryable, found.retry_after, found.param) == (
        "upstream_rate_limited",
        "Busy.",
        True,
        2,
        "x",
    )
    assert from_event({**body, "retryable": False}).retryable is False
    assert from_event({"code": "of the future", "message": "?"}).code == "internal"
