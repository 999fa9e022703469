"""JSON answers, encoded by orjson: in one piece where their size is bounded, else streamed page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import orjson
from fastapi import Response
from fastapi.responses import StreamingResponse

from service.errors import BrokenAnswer, ServiceError

T = TypeVar("T")
Page = tuple[list[T], int | None]


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


async def streamed(pieces: AsyncIterator[bytes], headers: dict[str, str] | None = None) -> Response:
    """A response of JSON of any length. Raises what the first piece raises.

    Where a later piece fails the connection is broken off: a document that is cut must not look whole.
    """
    first = await anext(pieces)
    return StreamingResponse(_unbroken(first, pieces), media_type="application/json", headers=headers)


async def _unbroken(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    try:
        async for piece in pieces:
            yield piece
    except ServiceError as error:
        raise BrokenAnswer(error.code) from None


async def listed(
    read: Callable[[int | None], Awaitable[Page[T]]], shape: Callable[[T], Any], before: bytes, after: bytes
) -> AsyncIterator[bytes]:
    """The JSON of a list, between the texts `before` and `after`. A worker holds one page of it at a time.

    `read` returns the page at a cursor, and the next cursor or None. The first page is read before output.
    """
    items, following = await read(None)
    yield before
    comma = b""
    while True:
        if items:
            yield comma + orjson.dumps([shape(item) for item in items])[1:-1]
            comma = b","
        if following is None:
            break
        items, following = await read(following)
    yield after
