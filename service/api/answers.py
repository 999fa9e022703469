"""JSON answers, encoded by orjson: in one piece where that is bounded, else page by page."""

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
    """JSON of any length. Raises what its first piece raises.

    Where a later one fails the connection breaks, for a document that ends too soon must not look whole.
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
    """A list between two pieces of JSON; a worker holds a page of it at a time.

    `read` gives the page at a cursor and the next cursor; the first is read before anything is said.
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
