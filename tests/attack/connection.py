"""One HTTP/1.1 connection that sends exactly the bytes it is given, from an address of its own.

What a client library would refuse to send is what attackers send, so there is none here. All of
127.0.0.0/8 is this machine: each caller binds to its own address, and is counted by it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

HOST: Final = "127.0.0.1"
# A head is a line of some 40 bytes to some 64 KiB, the largest that the service takes itself.
_MOST: Final = 128 * 1024


class Cut(Exception):
    """The other side closed the connection in the middle of an answer."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


def request(
    method: str, path: str, *, key: str = "", body: object = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a request; `body` is bytes, or anything that JSON can say."""
    fields = {"Host": "chat.example", **(headers or {})}
    if key:
        fields["Authorization"] = f"Bearer {key}"
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        fields.setdefault("Content-Type", "application/json")
        fields.setdefault("Content-Length", f"{len(data)}")
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + data


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._kept = True

    @classmethod
    async def open(cls, port: int, address: str) -> Connection:
        """Raises OSError."""
        return cls(*await asyncio.open_connection(HOST, port, limit=_MOST, local_addr=(address, 0)))

    @property
    def usable(self) -> bool:
        return self._kept and not self._reader.at_eof()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case) of the next answer; raises Cut."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
            self._kept = False
            raise Cut("no answer") from error
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = [line.partition(":") for line in lines if line]
        headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        if headers.get("connection", "").lower() == "close":
            self._kept = False
        return int(first.split()[1]), headers

    async def pieces(self, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The body that follows a head, as it comes; raises Cut when it does not come whole."""
        try:
            if headers.get("transfer-encoding", "").lower() == "chunked":
                while size := int(await self._reader.readuntil(b"\r\n"), 16):
                    yield (await self._reader.readexactly(size + 2))[:-2]
                await self._reader.readuntil(b"\r\n")
            elif left := int(headers.get("content-length", 0)):
                yield await self._reader.readexactly(left)
        except (asyncio.IncompleteReadError, OSError, ValueError) as error:
            self._kept = False
            raise Cut("half an answer") from error

    async def answer(self, method: str = "GET") -> Answer:
        status, headers = await self.head()
        while status < 200:  # 100 Continue
            status, headers = await self.head()
        if method == "HEAD" or status in (204, 304):
            return Answer(status, headers, b"")
        return Answer(status, headers, b"".join([piece async for piece in self.pieces(headers)]))

    def stop_reading(self) -> None:
        """From now on all that comes fills the kernel's buffers, and then the other side's."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's has it

    def abort(self) -> None:
        """Gone at once, as a client is whose battery is empty."""
        self._kept = False
        self._writer.transport.abort()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.abort()
