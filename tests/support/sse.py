"""A small, strict reader of Server-Sent Events for tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Frame:
    id: int | None
    event: str
    data: Any


class Parser:
    """Feed bytes; get whole events only, as an EventSource would dispatch them."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        blocks = (self._rest + data).split(b"\n\n")
        self._rest = blocks.pop()
        for block in blocks:
            fields: dict[str, str] = {}
            lines = block.decode().split("\n")
            for line in lines:
                if line.startswith(":") or not line:
                    continue
                name, _, value = line.partition(": ")
                assert name in ("id", "event", "data", "retry"), line
                fields[name] = value
            if "data" not in fields:
                continue
            if "id" in fields:
                assert lines[-1].startswith("id: "), "id has to be the last line"
            yield Frame(
                int(fields["id"]) if "id" in fields else None,
                fields.get("event", "message"),
                json.loads(fields["data"]),
            )


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    parser = Parser()
    async for chunk in response.aiter_raw():
        for frame in parser.feed(chunk):
            yield frame


def text_of(events: list[Frame]) -> str:
    """The answer that a reader has: what follows the last restart."""
    text = ""
    for frame in events:
        if frame.event == "delta":
            text += frame.data["text"]
        elif frame.event == "turn.restarted":
            text = ""
    return text


def check_gapless(events: list[Frame], first: int = 1) -> None:
    ids = [frame.id for frame in events]
    assert ids == list(range(first, first + len(ids))), ids
