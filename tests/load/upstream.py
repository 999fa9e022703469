"""The model of the benchmark: a cheap Groq that sends one token at a time, on plan.

One timer for all streams, ready bytes, one write per token: about 10 us each, so that a whole
machine full of streams is not spent on pretending. Run as a process of its own.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import sys
import time
from typing import Final, cast

import uvloop

from tests.load import wire

_LINE: Final = b"\r\n\r\n"


class Pacer:
    """Runs what is due, earliest first."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: list[tuple[float, int, Answer]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._count = 0

    def add(self, when: float, answer: Answer) -> None:
        self._count += 1
        heapq.heappush(self._due, (when, self._count, answer))
        if self._due[0][2] is answer:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # The loop's timers have whole milliseconds: rounded down, this one would spin.
        wait = max(0.0, self._due[0][0] - time.monotonic())
        self._timer = self._loop.call_later(math.ceil(wait * 1000) / 1000, self._run)

    def _run(self) -> None:
        self._timer = None
        due = self._due
        while due and due[0][0] <= time.monotonic():
            _, count, answer = due[0]
            following = answer.say()
            if following is None:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (following, count, answer))
        if due:
            self._arm()


# Tokens that an answer without a rate says in one write: a whole answer comes in pieces, as over a network.
_AT_ONCE: Final = 20


class Answer:
    """One answer under way."""

    def __init__(self, transport: asyncio.Transport, tokens: int, rate: int) -> None:
        self.transport = transport
        self.tokens = tokens
        self.rate = rate
        self.said = 0
        self.begin = 0.0

    def say(self) -> float | None:
        """Say what is due; when the next token is."""
        if self.transport.is_closing():
            return None
        if not self.said:
            now = time.monotonic_ns()
            self.begin = now / 1e9
            self.said = 1
            data = wire.stamp_on_wire(now)
        else:
            until = self.said + 1 if self.rate else min(self.said + _AT_ONCE, self.tokens)
            data = b"".join(map(wire.token_on_wire, range(self.said, until)))
            self.said = until
        if self.said < self.tokens:
            self.transport.write(data)
            return self.begin + (self.said / self.rate if self.rate else 0)
        self.transport.write(data + wire.tail_on_wire(self.tokens))
        return None


class Exchange(asyncio.Protocol):
    """A kept connection: request after request."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, line, body = self._buffer.partition(_LINE)
        if not line:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = body[length:]
        tokens, rate, delay = wire.wished(body)
        self._transport.write(wire.HEAD)
        self._pacer.add(time.monotonic() + delay, Answer(self._transport, tokens, rate))


async def serve(port: int) -> None:
    pacer = Pacer()
    server = await asyncio.get_running_loop().create_server(
        lambda: Exchange(pacer), "127.0.0.1", port, backlog=4096
    )
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
