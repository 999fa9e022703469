"""HTTP errors in Groq's words: status, body and headers of everything that is refused before a stream.

Invariant: the wording, `type` and `code` are what Groq sends, because clients tell errors
apart by them. Rate limits have their own words in `limits`; which request is refused is
decided in `request`, `limits` and `faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import orjson

JSON: Final = "application/json"


class Refusal(Exception):
    """An answer with an error status instead of a completion."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        failed_generation: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.content_type = JSON
        self.error: dict[str, object] = {"message": message}
        extras = {"type": kind, "code": code, "param": param, "failed_generation": failed_generation}
        self.error.update({name: value for name, value in extras.items() if value})

    @property
    def body(self) -> bytes:
        return orjson.dumps({"error": self.error})


class Page(Refusal):
    """An answer by the proxy in front of Groq: HTML, whatever the caller accepts."""

    def __init__(self, status: int, title: str) -> None:
        super().__init__(status, title)
        self.content_type = "text/html; charset=UTF-8"
        self._html = (
            f"<!DOCTYPE html>\n<html>\n<head><title>api.groq.com | {status}: {title}</title></head>\n"
            f"<body><h1>{title} <small>Error code {status}</small></h1><p>cloudflare</p></body>\n</html>\n"
        )

    @property
    def body(self) -> bytes:
        return self._html.encode()


def model_not_found(model: str) -> Refusal:
    return Refusal(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
    )


def model_decommissioned(model: str) -> Refusal:
    return Refusal(
        400,
        f"The model `{model}` has been decommissioned and is no longer supported. Please refer to "
        "https://console.groq.com/docs/deprecations for a recommendation on which model to use instead.",
        code="model_decommissioned",
    )


def _model_permission_blocked(level: str) -> Callable[[str], Refusal]:
    def refusal(model: str) -> Refusal:
        return Refusal(
            403,
            f"The model `{model}` is blocked at the {level} level. Please have the {level} admin enable this "
            f"model in the {level} settings.",
            kind="permissions_error",
            code=f"model_permission_blocked_{'org' if level == 'organization' else level}",
        )

    return refusal


def context_length_exceeded(_model: str = "") -> Refusal:
    return Refusal(
        400,
        "Please reduce the length of the messages or completion.",
        code="context_length_exceeded",
        param="messages",
    )


def unknown_url(method: str, path: str) -> Refusal:
    return Refusal(
        404,
        f"Unknown request URL: {method} {path}. Please check the URL for typos, "
        "or see the docs at https://console.groq.com/docs/",
        code="unknown_url",
    )


def invalid_api_key(_model: str = "") -> Refusal:
    return Refusal(401, "Invalid API Key", code="invalid_api_key")


def request_too_large(_model: str = "") -> Refusal:
    return Refusal(413, "Request Entity Too Large", code="request_too_large")


def _tool_use_failed(_model: str) -> Refusal:
    return Refusal(
        400,
        "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details.",
        code="tool_use_failed",
        failed_generation='<function=get_weather{"location": "Berlin"</function>',
    )


def _json_validate_failed(_model: str) -> Refusal:
    return Refusal(
        400,
        "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
        code="json_validate_failed",
        failed_generation='{"answer": "unfini',
    )


def _output_parse_failed(_model: str) -> Refusal:
    return Refusal(
        400,
        "Parsing failed. The model generated output that could not be parsed. "
        "See 'failed_generation' for more details.",
        code="output_parse_failed",
        failed_generation="<|channel|>analysis<|channel|>final",
    )


def _blocked_api_access(_model: str) -> Refusal:
    return Refusal(
        400,
        "API access has been blocked because your organization reached its spend limit.",
        code="blocked_api_access",
    )


def _unsupported_property(_model: str) -> Refusal:
    return Refusal(
        400,
        "'messages.1' : for 'role:assistant' the following must be satisfied"
        "[('messages.1' : property 'reasoning_content' is unsupported)]",
    )


def _over_capacity(model: str) -> Refusal:
    return Refusal(
        503,
        f"{model} is currently over capacity. Please try again and back off exponentially. "
        "Visit https://groqstatus.com to see if there is an active incident.",
        kind="internal_server_error",
    )


def _flex_capacity(_model: str) -> Refusal:
    return Refusal(
        498,
        "Flex tier capacity exceeded. Please try again later or use a different service tier.",
        kind="capacity_exceeded",
        code="capacity_exceeded",
    )


# The names under which a fault asks for a refusal. 429 and 413 by tokens are in `limits`.
BY_NAME: Final[dict[str, Callable[[str], Refusal]]] = {
    "400": lambda _: Refusal(400, "The request was refused by the double."),
    "model_decommissioned": model_decommissioned,
    "context_length_exceeded": context_length_exceeded,
    "tool_use_failed": _tool_use_failed,
    "json_validate_failed": _json_validate_failed,
    "output_parse_failed": _output_parse_failed,
    "blocked_api_access": _blocked_api_access,
    "unsupported_property": _unsupported_property,
    "401": invalid_api_key,
    "403": lambda _: Refusal(403, "Access denied. Please check your network settings.", kind=""),
    "model_permission_blocked": _model_permission_blocked("organization"),
    "403_html": lambda _: Page(403, "Sorry, you have been blocked"),
    "model_permission_blocked_org": _model_permission_blocked("organization"),
    "model_permission_blocked_project": _model_permission_blocked("project"),
    "404": model_not_found,
    "model_not_found": model_not_found,
    "unknown_url": lambda _: unknown_url("POST", "/openai/v1/chat/completions"),
    "413_bytes": request_too_large,
    "422": lambda _: Refusal(422, "The request was well-formed but could not be followed."),
    "424": lambda _: Refusal(424, "A remote tool server failed.", code="failed_dependency"),
    "498": _flex_capacity,
    "500": lambda _: Refusal(500, "Internal Server Error", kind="internal_server_error"),
    "502": lambda _: Page(502, "Bad gateway"),
    "503": _over_capacity,
    "524": lambda _: Page(524, "A timeout occurred"),
    "html": lambda _: Page(200, "Just a moment..."),
}
