"""Groq's refusals: status, body and headers become one UpstreamError.

Source: Groq's error reference and recorded bodies (November 2026). The window that a 429 is
about stands only in its message, "(TPM)", "(RPD)"...; the headers alone mislead.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from service.errors import UpstreamError

_WINDOW: Final = re.compile(r"\((TPM|TPD|RPM|RPD|ITPM|OTPM)\)")
_LIMIT: Final = re.compile(r"Limit (\d{1,15})(?!\d)")
_REQUESTED: Final = re.compile(r"Requested (\d{1,15})(?!\d)")
_TRY_AGAIN: Final = re.compile(r"try again in ((?:\d+(?:\.\d+)?(?:ms|us|µs|[hms]))+)")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|[hms])")
_UNIT: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_DAILY: Final = ("RPD", "TPD")
# Bounds on the wait that a provider asks for, in s: for limits of a minute, and of a day.
_LONGEST: Final = 3_600.0
_LONGEST_DAILY: Final = 86_400.0
# Characters of a message of the provider that are read.
_MESSAGE_LENGTH: Final = 4_096
# Characters of a reason that are shown. Groq's are shorter; a proxy may answer with a whole page.
_REASON_LENGTH: Final = 300
# Characters of a failed generation that are passed on: more than a tool call that somebody would repair.
_GENERATION_LENGTH: Final = 65_536
_BAD_OUTPUT: Final = {
    "tool_use_failed": "The model made a tool call that is not valid",
    "json_validate_failed": "The model made JSON that is not valid",
    "output_parse_failed": "The model's answer could not be read",
}
_ORGANISATION: Final = re.compile(r"`?\borg_\w+`?")
# Codes about one model: it is gone, or our organisation or project may not use it.
_GONE: Final = (
    "model_decommissioned",
    "model_not_found",
    "model_permission_blocked_org",
    "model_permission_blocked_project",
    "model_terms_required",
)
_BLOCKED: Final = "model_permission_blocked"  # also at levels that are not listed above


def go_duration(text: str) -> float | None:
    """Seconds of a Go duration: "2m59.56s", "185ms", "1h23m31s"."""
    parts = _DURATION.findall(text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    return sum(float(number) * _UNIT[unit] for number, unit in parts)


def _seconds(text: str | None) -> float | None:
    """The seconds of a Retry-After, which has them or a date (RFC 9110, 10.2.3); None if it has neither."""
    try:
        seconds = float(text) if text else math.nan
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text or "").timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(0.0, seconds), _LONGEST_DAILY)


def unavailable(kind: str, sentence: str, *, retryable: bool = False, **more: Any) -> UpstreamError:
    return UpstreamError("upstream_unavailable", sentence, kind=kind, retryable=retryable, **more)


def refusal(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> UpstreamError:
    """The one place that tells Groq's errors apart. `status` 0: an error inside a stream."""
    error = body.get("error")
    if not isinstance(error, Mapping):
        error = {"message": str(error)} if error else {}
    message = str(error.get("message") or "")[:_MESSAGE_LENGTH]
    code = str(error.get("code") or "")[:_MESSAGE_LENGTH]
    inside = error.get("status_code")
    status = status or (inside if isinstance(inside, int) else 0)
    retry_after = _seconds(headers.get("retry-after"))

    if status == 413:
        return UpstreamError(
            "context_too_long",
            "The conversation is too large for the model's limits; make it shorter.",
            kind="too_large",
            retryable=False,
            **_window(message),
        )
    if status == 429 or code == "rate_limit_exceeded":
        return _limited(message, retry_after)
    if is_redirect(status):
        return unavailable("redirect", "The provider sends this service elsewhere, where it does not follow.")
    if is_unknown_url(status, body):
        return unavailable("unknown_url", "The provider is not where this service looks for it.")
    forbidden = _forbidden(status, code)
    if forbidden is not None:
        return forbidden
    if code == "context_length_exceeded":
        return UpstreamError(
            "context_too_long",
            "The conversation is too long for the model.",
            kind="too_long",
            retryable=False,
        )
    if code in _BAD_OUTPUT or (status in (0, 400) and isinstance(error.get("failed_generation"), str)):
        return _bad_output(error, code)
    if status == 498 or status == 503 or code == "capacity_exceeded":
        return unavailable(
            "capacity",
            "The model is over capacity; try again in a moment.",
            retry_after=retry_after,
            fail_over=True,
            retryable=True,
        )
    if status == 408:
        return UpstreamError(
            "upstream_timeout", "The model did not answer in time.", kind="timeout", retryable=True
        )
    if 400 <= status < 500:
        told = status in (400, 422)  # reasons of other statuses are about our account, and not shown
        return _rejected(message if told else "", error.get("param") if told else None)
    return unavailable(
        "server_error", "The model had an internal error.", retry_after=retry_after, retryable=True
    )


def is_redirect(status: int) -> bool:
    return 300 <= status < 400


def is_unknown_url(status: int, body: Mapping[str, Any]) -> bool:
    """Does the status mean that there is no such address? A 404 may also be about the model."""
    if status not in (404, 405):
        return False
    words = (word for word in str(body).lower().split() if "/" not in word)  # no paths
    return not any("model" in word for word in words)


def _forbidden(status: int, code: str) -> UpstreamError | None:
    """What we may not do: with this model, this account, or this key."""
    if code in _GONE or code.startswith(_BLOCKED) or status == 404:  # unknown URLs were found before
        return unavailable("model_gone", "The model is not offered to this service.", fail_over=True)
    if code == "blocked_api_access":
        return unavailable(
            "blocked", "The provider has blocked this service; its operators are told.", circuit="blocked"
        )
    if status == 401:
        return unavailable(
            "auth", "The provider refuses this service's key; its operators are told.", circuit="auth"
        )
    if status == 403:  # about the model, the key, or from a proxy: that is not known yet
        return unavailable("forbidden", "The provider refuses this model to this service.", fail_over=True)
    return None


def _bad_output(error: Mapping[str, Any], code: str) -> UpstreamError:
    """The model made a wrong tool call or format. Clients know Groq's words, and repair what it made."""
    sentence = _BAD_OUTPUT.get(code, "The model's answer is not valid")
    generation = error.get("failed_generation")
    words = {
        "message": _plain(str(error.get("message") or sentence)[:_MESSAGE_LENGTH]),
        "type": _plain(str(error.get("type") or "invalid_request_error")[:_MESSAGE_LENGTH]),
        "code": _plain(code) or None,
        "failed_generation": generation[:_GENERATION_LENGTH] if isinstance(generation, str) else None,
    }
    return UpstreamError(
        "upstream_rejected",
        f"{sentence} ({words['code']})." if code else f"{sentence}.",
        kind="bad_output",
        retryable=True,
        provider={name: word for name, word in words.items() if word is not None},
    )


def _plain(text: str) -> str:
    """The provider's words as they may be shown: one line, without the name of our organisation."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(_ORGANISATION.sub(" ", printable).split())
    return line if len(line) <= _REASON_LENGTH else f"{line[:_REASON_LENGTH]}..."


def _rejected(message: str, param: Any) -> UpstreamError:
    """With the provider's reason, since only the caller can mend it; it may quote what a user wrote."""
    reason = _plain(message)
    end = "" if not reason or reason.endswith(".") else "."
    plain = "The model refused the request."
    error = UpstreamError(
        "upstream_rejected",
        f"{plain[:-1]}: {reason}{end}" if reason else plain,
        kind="rejected",
        retryable=False,
        param=_plain(param[:_MESSAGE_LENGTH]) if isinstance(param, str) else None,
    )
    error.args = (plain,)  # what a traceback in the log shows
    return error


def _window(message: str) -> dict[str, Any]:
    """Which limit refused, its size, and what the call asked for; as far as the message says so."""
    window, limit, requested = _WINDOW.search(message), _LIMIT.search(message), _REQUESTED.search(message)
    return {
        "window": window.group(1).lower() if window else "",
        "limit": int(limit.group(1)) if limit else None,
        "requested": int(requested.group(1)) if requested else None,
    }


def _limited(message: str, retry_after: float | None) -> UpstreamError:
    found = _WINDOW.search(message)
    window = found.group(1) if found else "TPM"
    if retry_after is None:
        again = _TRY_AGAIN.search(message)
        retry_after = go_duration(again.group(1)) if again else None
    if retry_after is None:
        retry_after = 60.0 if window not in _DAILY else 3600.0
    retry_after = min(retry_after, _LONGEST_DAILY if window in _DAILY else _LONGEST)
    return UpstreamError(
        "upstream_rate_limited",
        f"The model is at its rate limit; try again in {max(1, round(retry_after))} s.",
        kind=f"limit_{window.lower()}",
        retry_after=retry_after,
        fail_over=window in _DAILY,
        retryable=True,
        **_window(message),
    )
