"""Open streams of a principal: so many at once, and each place is given back."""

from __future__ import annotations

from typing import Any, cast

import pytest
from fastapi import Request

from service.api.auth.authenticator import Principal
from service.api.open_streams import OpenStreams
from service.api.request_state import RequestState, request_state
from service.errors import ServiceError


def request() -> Request:
    scope = {"type": "http", "path": "/chat", "headers": []}
    RequestState(scope, "", cast(Any, None))
    return Request(scope)


def close(taken: Request) -> None:
    end = request_state(taken).on_end
    assert end is not None
    end()


def test_exactly_as_many_as_allowed_are_open_at_once() -> None:
    streams = OpenStreams(2)
    requests = [request() for _ in range(4)]
    for one in requests[:2]:
        streams.take(one, Principal("a"))
        streams.take(one, Principal("a"))  # one request has one place
    with pytest.raises(ServiceError) as refused:
        streams.take(requests[2], Principal("a"))
    assert (refused.value.code, refused.value.retry_after) == ("concurrency_limited", 1)
    streams.take(requests[2], Principal("b"))
    close(requests[0])
    streams.take(requests[3], Principal("a"))
    with pytest.raises(ServiceError):
        streams.take(request(), Principal("a"))
    for one in requests[1:]:
        close(one)
    assert not streams._open


def test_without_a_bound_none_is_counted() -> None:
    free = request()
    OpenStreams(0).take(free, Principal("a"))
    assert request_state(free).on_end is None
