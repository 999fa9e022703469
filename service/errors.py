"""The one tree of errors that callers may see.

Each error carries a stable code, the HTTP status it has before the first byte, whether a
repeat of the same request can succeed, one sentence for a person, and the seconds after
which a repeat makes sense. Foreign exceptions are translated into this tree at the border
where they arise (store/, upstream/); envelopes belong to the dialects.
"""

from __future__ import annotations

from typing import Any, Final

# code -> (HTTP status, retryable, title). The codes are firm: clients switch on them.
CODES: Final[dict[str, tuple[int, bool, str]]] = {
    "invalid_request": (400, False, "The request is not valid"),
    "query_empty": (400, False, "The message is empty"),
    "context_too_long": (413, False, "The message does not fit the model"),
    "context_length_exceeded": (400, False, "The input does not fit the model"),
    "model_not_found": (404, False, "There is no such model"),
    "body_too_large": (413, False, "The body is too large"),
    "image_too_large": (413, False, "The image is too large"),
    "unsupported_media_type": (415, False, "The body has to be application/json"),
    "unsupported_parameter": (400, False, "The model does not support a parameter"),
    "bad_cursor": (400, False, "The cursor is not an event id"),
    "not_found": (404, False, "There is nothing here"),
    "method_not_allowed": (405, False, "The method is not allowed here"),
    "session_not_found": (404, False, "There is no such session"),
    "turn_not_found": (404, False, "There is no such turn"),
    "response_not_found": (404, False, "There is no such response"),
    "previous_response_not_found": (400, False, "There is no response to go on from"),
    "message_not_found": (404, False, "There is no such message"),
    "unauthenticated": (401, False, "Credentials are missing or not valid"),
    "forbidden": (403, False, "The credentials do not allow this"),
    "rate_limited": (429, True, "Too many requests"),
    "concurrency_limited": (429, True, "Too many answers at once"),
    "budget_exhausted": (429, False, "The token budget is used up"),
    "storage_full": (429, False, "The caller's storage is full"),
    "turn_in_progress": (409, True, "The session is answering already"),
    "idempotency_mismatch": (409, False, "The idempotency key belongs to another request"),
    "session_has_history": (409, False, "The session has messages already"),
    "cursor_ahead": (409, False, "The cursor is beyond the last event"),
    "events_expired": (410, False, "The events are no longer kept"),
    "misdirected_request": (421, False, "The request names another host"),
    "events_lost": (410, False, "The store has lost events that were shown"),
    "upstream_rate_limited": (429, True, "The model is at its rate limit"),
    "upstream_unavailable": (502, True, "The model cannot be reached"),
    "upstream_timeout": (504, True, "The model did not answer in time"),
    "upstream_rejected": (400, False, "The model refused the request"),
    "store_unavailable": (503, True, "The session store cannot be reached"),
    "overloaded": (503, True, "The service is at capacity"),
    "draining": (503, True, "This replica is shutting down"),
    "internal": (500, True, "Something went wrong on our side"),
}


class ServiceError(Exception):
    """An error with a stable code. `message` is one plain sentence, safe to show anybody."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        retryable: bool | None = None,
        headers: dict[str, str] | None = None,
        param: str | None = None,
        provider: dict[str, Any] | None = None,
    ) -> None:
        default_status, default_retryable, self.title = CODES[code]
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = default_status if status is None else status
        self.retryable = default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.headers = headers or {}
        self.param = param
        self.provider = provider  # the provider's own words, for clients that know them


class Draining(ServiceError):
    """This replica ends: what it has not come to is for another one."""

    def __init__(self) -> None:
        super().__init__("draining", "This replica is shutting down; send it again.", retry_after=1)


class StoreUnavailable(ServiceError):
    """Redis cannot be reached, is stalled or loading."""

    def __init__(self, message: str = "The session store does not answer; try again in 2 s.") -> None:
        super().__init__("store_unavailable", message, retry_after=2)


class StoreMoving(StoreUnavailable):
    """A Cluster is moving the keys that a command names to another node: they are safe, and for now apart."""


class StoreRefusesWrites(StoreUnavailable):
    """Redis answers, and refuses to write. `reason` is one of metrics.REFUSALS; reads go on."""

    def __init__(self, reason: str) -> None:
        super().__init__("The session store takes no writes at the moment; try again in 2 s.")
        self.reason = reason


class UpstreamError(ServiceError):
    """An attempt failed at the provider.

    `fail_over` says that another model may work at once where this one will not;
    `circuit` names the condition (`auth`, `blocked`) that no retry mends. Where a limit of the
    provider's refused, `window` is its kind (`tpm`, `rpd`, ...), `limit` its size and `requested` what the
    call would have taken, if said.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        kind: str,
        fail_over: bool = False,
        circuit: str | None = None,
        window: str = "",
        limit: int | None = None,
        requested: int | None = None,
        **more: Any,
    ) -> None:
        super().__init__(code, message, **more)
        self.kind = kind
        self.fail_over = fail_over
        self.circuit = circuit
        self.window = window
        self.limit = limit
        self.requested = requested


class BrokenAnswer(Exception):
    """Raised in an ASGI response on purpose: the connection breaks instead of ending cleanly.

    A clean end of a text/plain body would say that the answer is whole.
    """
