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


async def paged(
    read: Callable[[int | None], Awaitable[Page[T]]],
    shape: Callable[[T], Any],
    before: bytes,
    after: bytes,
    headers: dict[str, str] | None = None,
) -> Response:
    """A list of any length between two pieces of JSON; a worker holds a page of it at a time.

    `read` gives the page at a cursor and the next cursor. Raises what it raises for the first page; of a
    later one the connection breaks, for a list that ends too soon must not look whole.
    """
    first = await read(None)
    pieces = _pieces(rows(read, shape, first), before, after)
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


async def _pieces(listed: AsyncIterator[bytes], before: bytes, after: bytes) -> AsyncIterator[bytes]:
    yield before
    try:
        async for piece in listed:
            yield piece
    except ServiceError as error:
        raise BrokenAnswer(error.code) from None
    yield after


async def rows(
    read: Callable[[int | None], Awaitable[Page[T]]],
    shape: Callable[[T], Any],
    first: Page[T] | None = None,
) -> AsyncIterator[bytes]:
    """What stands between the brackets of a list; `first` is its first page, where that was read."""
    comma = b""
    items, following = await read(None) if first is None else first
    while True:
        if items:
            yield comma + orjson.dumps([shape(item) for item in items])[1:-1]
            comma = b","
        if following is None:
            return
        items, following = await read(following)
