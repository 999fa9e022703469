"""The codes of errors: clients switch on them, on their status and on whether a repeat makes sense."""

from __future__ import annotations

from typing import Final

import pytest

from service.errors import CODES, Draining, ServiceError, StoreRefusesWrites, StoreUnavailable, UpstreamError

#: code: its status, and whether a repeat of the same request can succeed
TABLE: Final = {
    "invalid_request": (400, False),
    "query_empty": (400, False),
    "context_too_long": (413, False),
    "context_length_exceeded": (400, False),
    "model_not_found": (404, False),
    "body_too_large": (413, False),
    "image_too_large": (413, False),
    "unsupported_media_type": (415, False),
    "unsupported_parameter": (400, False),
    "bad_cursor": (400, False),
    "not_found": (404, False),
    "method_not_allowed": (405, False),
    "session_not_found": (404, False),
    "turn_not_found": (404, False),
    "response_not_found": (404, False),
    "previous_response_not_found": (400, False),
    "message_not_found": (404, False),
    "unauthenticated": (401, False),
    "forbidden": (403, False),
    "rate_limited": (429, True),
    "concurrency_limited": (429, True),
    "budget_exhausted": (429, False),
    "storage_full": (429, False),
    "turn_in_progress": (409, True),
    "idempotency_mismatch": (409, False),
    "session_has_history": (409, False),
    "cursor_ahead": (409, False),
    "events_expired": (410, False),
    "misdirected_request": (421, False),
    "events_lost": (410, False),
    "upstream_rate_limited": (429, True),
    "upstream_unavailable": (502, True),
    "upstream_timeout": (504, True),
    "upstream_rejected": (400, False),
    "store_unavailable": (503, True),
    "overloaded": (503, True),
    "draining": (503, True),
    "internal": (500, True),
}


def test_each_code_has_its_status_and_says_whether_a_repeat_makes_sense() -> None:
    assert {code: (status, retryable) for code, (status, retryable, _) in CODES.items()} == TABLE
    assert all(title and title[0].isupper() for _, _, title in CODES.values())
    assert len({title for _, _, title in CODES.values()}) == len(CODES)


@pytest.mark.parametrize("code", TABLE)
def test_an_error_has_what_its_code_says_unless_it_knows_better(code: str) -> None:
    error = ServiceError(code, "A sentence.")
    assert (error.status, error.retryable, error.title) == CODES[code]
    assert (error.code, error.message, str(error)) == (code, "A sentence.", "A sentence.")
    assert (error.retry_after, error.headers, error.param, error.provider) == (None, {}, None, None)
    other = ServiceError(
        code,
        "x",
        status=418,
        retryable=not error.retryable,
        retry_after=0.5,
        headers={"A": "b"},
        param="p",
        provider={"c": 1},
    )
    assert (other.status, other.retryable) == (418, not error.retryable)
    assert (other.retry_after, other.headers, other.param, other.provider) == (0.5, {"A": "b"}, "p", {"c": 1})


@pytest.mark.parametrize(
    ("error", "code", "seconds", "sentence"),
    [
        (Draining(), "draining", 1, "This replica is shutting down; send it again."),
        (StoreUnavailable(), "store_unavailable", 2, "The session store does not answer; try again in 2 s."),
        (
            StoreRefusesWrites("full"),
            "store_unavailable",
            2,
            "The session store takes no writes at the moment; try again in 2 s.",
        ),
    ],
    ids=["draining", "silent", "refuses"],
)
def test_what_passes_by_itself_says_when_to_come_again(
    error: ServiceError, code: str, seconds: float, sentence: str
) -> None:
    assert (error.code, error.retry_after, error.message, error.status) == (code, seconds, sentence, 503)


def test_a_failed_attempt_keeps_what_the_provider_said_of_it() -> None:
    error = UpstreamError(
        "upstream_rate_limited",
        "x",
        kind="limit_tpm",
        fail_over=True,
        circuit="auth",
        window="tpm",
        limit=5,
        requested=6,
        retry_after=3,
    )
    assert (error.kind, error.fail_over, error.circuit) == ("limit_tpm", True, "auth")
    assert (error.window, error.limit, error.requested, error.retry_after) == ("tpm", 5, 6, 3)
    plain = UpstreamError("upstream_timeout", "x", kind="timeout")
    assert (plain.fail_over, plain.circuit, plain.window) == (False, None, "")
    assert (plain.limit, plain.requested) == (None, None)
