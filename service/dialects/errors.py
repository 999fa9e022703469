"""Errors before the first byte: one ServiceError, three envelopes, chosen by the path.

Ours is RFC 9457 problem+json; OpenAI's object under /v1/chat, /v1/models, /v1/responses, /v1/conversations
and /openai, and where nothing is below /v1 (api/handlers.py); one plain sentence under /api/chat, because
useChat shows the body to the user as it is.
"""

from __future__ import annotations

import math
from typing import Any, Final

import orjson

from service.errors import CODES, ServiceError
from service.events import STOPPED, Event, provider

_OPENAI: Final = ("/v1/chat", "/v1/models", "/v1/responses", "/v1/conversations", "/openai")
_AISDK: Final = ("/api/chat",)

# code -> OpenAI's `type`; everything else goes by status.
_OPENAI_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

# Words by which clients see that the conversation is too long, and shorten it or take another model:
# LangChain looks for the first clause, LiteLLM for the second, pydantic-ai for the third; none for our code.
_TOO_LONG: Final = (
    " It exceeds the context window: this model's maximum context length is smaller."
    " Please reduce the length of the messages."
)


# The same for Responses, in OpenAI's words. Behind it come our own sentence with the numbers, the words
# above, and the code, which LangChain looks for in the message of a 400.
_TOO_LONG_INPUT: Final = (
    "Your input exceeds the context window of this model. Please adjust your input and try again."
)


# Fields of chat completions, and their names in a request to Responses.
_FIELDS: Final = {
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "max_completion_tokens": "max_output_tokens",
    "messages": "input",
}


def of_responses(error: ServiceError) -> ServiceError:
    """The error with the code, the words and the names of fields that OpenAI's Responses has."""
    if error.param in _FIELDS:
        field = _FIELDS[error.param]
        return ServiceError(
            error.code,
            error.message.replace(f"{error.param}:", f"{field}:", 1),
            retry_after=error.retry_after,
            status=error.status,
            retryable=error.retryable,
            headers=error.headers,
            param=field,
            provider=error.provider,
        )
    if error.code != "context_too_long":
        return error
    sentence = f"{_TOO_LONG_INPUT} {error.message}{_TOO_LONG} (context_length_exceeded)"
    return ServiceError("context_length_exceeded", sentence, param=error.param or "input")


def _below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)


def openai_error(error: ServiceError) -> dict[str, Any]:
    """OpenAI's error object, for bodies and for `data:` lines in mid-stream.

    A failed generation is told in Groq's words, which clients know.
    """
    if error.provider is not None:
        return {"error": {"param": error.param, **error.provider}}
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return {
        "error": {
            "message": error.message + _TOO_LONG if error.code == "context_too_long" else error.message,
            "type": _OPENAI_TYPES.get(error.status, kind),
            "param": error.param,
            "code": error.code,
        }
    }


def sentence(error: ServiceError) -> str:
    """All that a person needs, in one sentence: useChat shows the body and passes no headers."""
    if error.retry_after is None or " again in " in error.message:
        return error.message
    return f"{error.message.rstrip('.')}; try again in {max(1, math.ceil(error.retry_after))} s."


def envelope(path: str, error: ServiceError) -> tuple[bytes, str]:
    """Body and content type."""
    if _below(path, _OPENAI):
        return orjson.dumps(openai_error(error)), "application/json"
    if _below(path, _AISDK):
        return sentence(error).encode(), "text/plain; charset=utf-8"
    problem = {
        "type": f"urn:chat:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
    }
    return orjson.dumps(problem), "application/problem+json"


def error_headers(error: ServiceError) -> dict[str, str]:
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    # The SDKs of OpenAI and Groq repeat requests with these statuses unless they are told not to.
    if (error.status in (408, 409, 429) or error.status >= 500) and not error.retryable:
        headers.setdefault("x-should-retry", "false")
    return headers


def unread(event: Event) -> ServiceError | None:
    """The error for an answer that was ended since nobody read it, in dialects that cannot tell a stop."""
    if event.name != STOPPED or event.data["finish_reason"] != "abandoned":
        return None
    return ServiceError(
        "events_expired", "Nobody read this answer, so it was ended; send the request again with a new key."
    )


def from_event(body: dict[str, Any]) -> ServiceError:
    """The error that a `turn.failed` event stands for."""
    code = body.get("code", "internal")
    return ServiceError(
        code if code in CODES else "internal",
        body.get("message", ""),
        retryable=body.get("retryable"),
        retry_after=body.get("retry_after"),
        param=body.get("param"),
        provider=provider(body),
    )
