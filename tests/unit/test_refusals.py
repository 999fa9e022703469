"""What a refusal of the provider's tells the caller."""

from __future__ import annotations

import time
import traceback

import pytest

from service.dialects.errors import from_event, openai_error
from service.upstream.refusals import refusal


def rejected(status: int, **error: object) -> tuple[str, str | None]:
    found = refusal(status, {"error": error}, {})
    assert (found.code, found.kind) == ("upstream_rejected", "rejected")
    return found.message, found.param


@pytest.mark.parametrize("status", [400, 422])
def test_a_rejected_request_is_told_with_the_reason_and_the_field(status: int) -> None:
    message, param = rejected(status, message="`top_p` must be at most 1", param="top_p")
    assert message == "The model refused the request: `top_p` must be at most 1."
    assert param == "top_p"


def test_the_reason_is_one_line_without_control_characters_or_our_organization() -> None:
    message, _ = rejected(400, message="no\n\x00in organization `org_01abc`\ud800 on\u2028tier.")
    assert message == "The model refused the request: no in organization on tier."


def test_a_long_reason_is_cut() -> None:
    message, _ = rejected(400, message="x" * 5000)
    assert message == f"The model refused the request: {'x' * 300}..."


@pytest.mark.parametrize("error", [{}, {"message": "\n"}, {"message": "", "param": 5}])
def test_without_a_reason_there_is_one_sentence(error: dict[str, object]) -> None:
    assert rejected(400, **error) == ("The model refused the request.", None)


def test_a_traceback_does_not_show_the_reason() -> None:
    error = refusal(400, {"error": {"message": "'secret' is too long"}}, {})
    assert "secret" in error.message
    assert "secret" not in "".join(traceback.format_exception(error))


def test_what_is_said_with_another_status_is_not_passed_on() -> None:
    assert rejected(409, message="Not with this key", param="x") == ("The model refused the request.", None)


def test_the_field_is_in_openai_s_error() -> None:
    event = {"code": "upstream_rejected", "message": "No.", "retryable": False, "param": "top_p"}
    assert openai_error(from_event(event))["error"]["param"] == "top_p"


@pytest.mark.parametrize(("said", "seconds"), [("2.5s", 2.5), ("1m30s", 90.0), ("185ms", 0.185)])
def test_a_limit_is_over_when_its_message_says_so(said: str, seconds: float) -> None:
    message = f"Rate limit reached on tokens per minute (TPM): Limit 6000. Please try again in {said}."
    found = refusal(429, {"error": {"message": message}}, {})
    assert found.kind == "limit_tpm"
    assert found.retry_after == pytest.approx(seconds)
    assert refusal(429, {"error": {"message": message}}, {"retry-after": "7"}).retry_after == 7


def test_a_key_that_is_refused_ends_all_calls() -> None:
    found = refusal(401, {"error": {"message": "Invalid API Key", "code": "invalid_api_key"}}, {})
    assert (found.kind, found.circuit, found.retryable) == ("auth", "auth", False)


def test_what_the_model_made_wrong_is_told_in_bounded_words() -> None:
    error = {
        "message": "No in organization `org_01abc`.",
        "code": "tool_use_failed",
        "failed_generation": "x" * 99_999,
    }
    found = refusal(400, {"error": error}, {})
    assert found.provider == {
        "message": "No in organization .",
        "type": "invalid_request_error",
        "code": "tool_use_failed",
        "failed_generation": "x" * 65_536,
    }


def test_kin_that_has_another_code_is_told_alike() -> None:
    error = {"message": "No.", "type": "t", "code": "schema_failed", "failed_generation": "{"}
    found = refusal(400, {"error": error}, {})
    assert (found.kind, found.message) == ("bad_output", "The model's answer is not valid (schema_failed).")
    assert openai_error(found) == {"error": {"param": None, **error}}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"error": {"detail": "Not Found"}},
        {"error": {"message": "Cannot POST /v1/models/x"}},
        {"error": {"message": "Unknown request URL: POST /v1/chat/completions.", "code": "unknown_url"}},
    ],
)
def test_a_wrong_address_is_the_operator_s_matter(body: dict[str, object]) -> None:
    for status in (404, 405):
        found = refusal(status, body, {})
        assert (found.code, found.kind, found.retryable) == ("upstream_unavailable", "unknown_url", False)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "The model `x/y` does not exist.", "type": "NotFoundError", "code": 404},
        {"message": "model 'x' not found, try pulling it first"},
        {"message": "No.", "code": "model_not_found"},
    ],
)
def test_a_404_about_a_model_is_that_model_gone(error: dict[str, object]) -> None:
    found = refusal(404, {"error": error}, {})
    assert (found.kind, found.fail_over) == ("model_gone", True)


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (413, {}, ("too_large", False, False, None)),
        (0, {"code": "rate_limit_exceeded"}, ("limit_tpm", True, False, None)),
        (429, {"message": "(RPD)"}, ("limit_rpd", True, True, None)),
        (503, {}, ("capacity", True, True, None)),
        (498, {}, ("capacity", True, True, None)),
        (408, {}, ("timeout", True, False, None)),
        (500, {}, ("server_error", True, False, None)),
        (403, {}, ("forbidden", False, True, None)),
        (403, {"code": "blocked_api_access"}, ("blocked", False, False, "blocked")),
        (400, {"code": "model_decommissioned"}, ("model_gone", False, True, None)),
        (400, {"code": "context_length_exceeded"}, ("too_long", False, False, None)),
    ],
)
def test_what_may_be_asked_again_and_who_else(
    status: int, error: dict[str, str], told: tuple[str, bool, bool, str | None]
) -> None:
    found = refusal(status, {"error": error}, {})
    assert (found.kind, found.retryable, found.fail_over, found.circuit) == told


@pytest.mark.parametrize(("said", "seconds"), [("TPM", 60), ("TPD", 3_600)])
def test_a_limit_that_does_not_say_when_it_ends_is_waited_for_as_its_period(said: str, seconds: int) -> None:
    assert refusal(429, {"error": {"message": f"({said})"}}, {}).retry_after == seconds
    assert refusal(503, {"error": {}}, {"retry-after": "7"}).retry_after == 7


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("inf", 3_600), ("1e400", 3_600), ("1000000000", 3_600), ("-5", 0), ("nan", 60), ("soon", 60)],
)
def test_a_wait_that_no_limit_has_keeps_nobody_waiting_for_longer_than_one_may(
    said: str, seconds: float
) -> None:
    assert refusal(429, {"error": {"message": "(TPM)"}}, {"retry-after": said}).retry_after == seconds


def test_figures_of_any_length_are_no_fault_of_ours() -> None:
    nines = "9" * 5_000
    message = f"(TPD) Limit {nines}, Requested {nines}. Please try again in {nines}h."
    found = refusal(429, {"error": {"message": message[:9_000]}}, {})
    assert (found.limit, found.requested, found.retry_after) == (None, None, 3_600)
    found = refusal(429, {"error": {"message": f"(TPD) try again in {'9' * 400}h"}}, {})
    assert found.retry_after == 86_400


def test_a_long_word_of_a_wrong_address_is_read_at_once() -> None:
    begun = time.thread_time()
    assert refusal(404, {"error": "x" * 1_000_000}, {}).kind == "unknown_url"
    assert refusal(400, {"error": {"message": "x" * 4_000_000}}, {}).kind == "rejected"
    assert time.thread_time() - begun < 0.5  # a pattern took hours


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7), ("0.5", 0.5), ("-3", 0), ("inf", 86_400), ("1e300", 86_400), ("nan", None), ("Mon", None)],
)
def test_a_wait_that_a_provider_names_is_a_number_of_seconds_within_a_day(
    said: str, seconds: float | None
) -> None:
    assert refusal(503, {}, {"retry-after": said}).retry_after == seconds


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Mon, 30 Nov 2026 12:01:30 GMT", 90),
        ("Mon, 30 Nov 2026 11:00:00 GMT", 0),
        ("Tue, 30 Nov 2027 12:00:00 GMT", 86_400),
        ("Mon, 30 Nov 99999 12:00:00 GMT", None),
        ("Mon, 30 Feb 2026 12:00:00 GMT", None),
    ],
)
def test_a_wait_that_a_provider_names_may_be_a_date(
    said: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_796_040_000.0)  # 30 November 2026, 12:00
    assert refusal(503, {}, {"retry-after": said}).retry_after == seconds
