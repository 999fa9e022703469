"""Open streams of a principal: so many at once, and each place is given back."""

from __future__ import annotations

import pytest
from fastapi import Request

from service.api.auth.authenticator import Principal
from service.api.streams import Streams
from service.errors import ServiceError


def test_exactly_as_many_as_allowed_are_open_at_once() -> None:
    streams = Streams(2)
    requests = [Request({"type": "http"}) for _ in range(4)]
    for request in requests[:2]:
        streams.take(request, Principal("a"))
        streams.take(request, Principal("a"))  # one request has one place
    with pytest.raises(ServiceError) as refused:
        streams.take(requests[2], Principal("a"))
    assert (refused.value.code, refused.value.retry_after) == ("concurrency_limited", 1)
    streams.take(requests[2], Principal("b"))
    requests[0].scope["chat.stream"].close()
    streams.take(requests[3], Principal("a"))
    with pytest.raises(ServiceError):
        streams.take(Request({"type": "http"}), Principal("a"))
    for request in requests[1:]:
        request.scope["chat.stream"].close()
    assert not streams._open


def test_without_a_bound_none_is_counted() -> None:
    request = Request({"type": "http"})
    Streams(0).take(request, Principal("a"))
    assert "chat.stream" not in request.scope
