"""Clients that cost next to nothing and believe nothing: one request, read to its end.

Each counts tokens when their bytes arrive, notes how late they are against the model's plan,
and at the end compares the whole text with what it has to be. A connection is used for one
request unless it is asked again.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from typing import Final, cast

import httptools
import orjson

from service.errors import UpstreamError
from service.upstream.base import TEXT
from service.upstream.chunks import Decoder
from tests.load import wire

_SHED: Final = (429, 503)


class Tally:
    """What a group of streams has had so far. Lateness (s) is noted while `noting`."""

    def __init__(self) -> None:
        self.asked = 0
        self.tokens = 0
        self.exact = 0
        self.wrong: list[str] = []
        self.shed = 0
        self.noting = False
        self.lateness = array("d")
        self.first_after = array("d")
        self.whole_after = array("d")


class Client(asyncio.Protocol):
    """Asks once connected; `answered` is set with the head, `done` when all has ended, however."""

    def __init__(self, request: bytes, tokens: int, rate: int, tally: Tally) -> None:
        self.done = asyncio.Event()
        self.answered = asyncio.Event()
        self.headers: dict[str, str] = {}
        self._request = request
        self._tokens = tokens
        self._rate = rate
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._text: list[bytes] = []
        self._bytes = 0
        self._had = 0
        self._plan = 0.0
        self._complete = False
        self._asked_at = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self.ask(self._request)

    def ask(self, request: bytes) -> None:
        assert self._transport is not None
        self._reset()
        self.done.clear()
        self.headers.clear()
        self._tally.asked += 1
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.answered.set()

    def decode(self, data: bytes) -> bytes:
        """The text in a piece of body; here they are the same."""
        return data

    def on_body(self, data: bytes) -> None:
        if self._parser.get_status_code() != 200:
            self._text.append(data)
            return
        try:
            text = self.decode(data)
        except UpstreamError as error:
            self._fail(f"garbled: {error.message}")
            return
        if text:
            self._arrived(text)

    def _arrived(self, text: bytes) -> None:
        now = time.monotonic()
        self._text.append(text)
        self._bytes += len(text)
        had = wire.tokens_in(self._bytes)
        tally = self._tally
        if had and not self._had:
            tally.first_after.append(now - self._asked_at)
            self._plan = int(b"".join(self._text)[: wire.STAMP_BYTES], 16) / 1e9
        tally.tokens += had - self._had
        if tally.noting and self._rate:
            late = now - self._plan
            tally.lateness.extend([late - place / self._rate for place in range(self._had, had)])
        self._had = had

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        text = b"".join(self._text)
        self._complete = True
        if status in _SHED:
            self._tally.shed += 1
            if "retry-after" not in self.headers:
                self._tally.wrong.append(f"a {status} without Retry-After")
        elif status != 200:
            self._tally.wrong.append(f"status {status}: {text[:200]!r}")
        elif text[wire.STAMP_BYTES :] != wire.text_after_stamp(self._tokens):
            self._tally.wrong.append(
                f"{self._had} of {self._tokens} tokens, or other ones: ...{text[-60:]!r}"
            )
        else:
            self._tally.exact += 1
            self._tally.whole_after.append(time.monotonic() - self._asked_at)
        self.done.set()

    def _fail(self, why: str) -> None:
        if not self._complete:
            self._complete = True
            self._tally.wrong.append(why)
            self.answered.set()
            self.done.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"cut after {self._had} of {self._tokens} tokens ({error})")

    def close(self) -> None:
        if self._transport is not None:
            self._complete = True
            self._transport.abort()


class GroqClient(Client):
    """Reads what the model itself sends."""

    def _reset(self) -> None:
        super()._reset()
        self._decoder = Decoder()

    def decode(self, data: bytes) -> bytes:
        return "".join(piece for kind, piece in self._decoder.feed(data).pieces if kind == TEXT).encode()


class EventsClient(Client):
    """Reads our Server-Sent Events; ids have to be gapless from 1."""

    def _reset(self) -> None:
        super()._reset()
        self._rest = b""
        self.last_id = 0

    def decode(self, data: bytes) -> bytes:
        frames = (self._rest + data).split(b"\n\n")
        self._rest = frames.pop()
        text = []
        for frame in frames:
            name, _, rest = frame.partition(b"\n")
            if not name.startswith(b"event: "):
                continue  # retry, or a heartbeat
            body, _, place = rest.partition(b"\nid: ")
            self.last_id += 1
            if int(place) != self.last_id:
                raise UpstreamError(
                    "internal", f"id {place!r} after {self.last_id - 1}", kind="gap", retryable=False
                )
            if name == b"event: delta":
                text.append(orjson.loads(body[6:])["text"].encode())
        return b"".join(text)


class ResponsesClient(Client):
    """Reads OpenAI's Response events."""

    def _reset(self) -> None:
        super()._reset()
        self._rest = b""

    def decode(self, data: bytes) -> bytes:
        frames = (self._rest + data).split(b"\n\n")
        self._rest = frames.pop()
        deltas = [frame for frame in frames if frame.startswith(b"event: response.output_text.delta\n")]
        return "".join([orjson.loads(one.partition(b"\ndata: ")[2])["delta"] for one in deltas]).encode()


Make = Callable[[], Client]


async def connect(make: Make, port: int) -> Client:
    """Raises OSError."""
    _, client = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
    return client
