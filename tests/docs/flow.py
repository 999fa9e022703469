"""How a message flows through the code: prints the row of docs/architecture.md for the code as it stands.

    python -m tests.docs.flow

One native POST with history goes through the service, a real Redis and a stub of the provider that says one
token every 50 ms, so that each token passes every place on its own. A profile notes each of our functions
that is called. Counted are: the frames from the route to the write of the first Redis command; the modules
entered until then, and until the first delta is written to the client; and on a token's way, from the
provider's bytes to the client's, the modules and the closures (functions that are made while the service
runs, and keep what was around them then).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from service.store.connection.connection import Line, RedisConnection
from tests.support.redis import RedisServer
from tests.support.service import Served, serve

_SERVICE: Final = str(Path(__file__).parents[2] / "service")
_TOKENS: Final = 30
_PAUSE_SECONDS: Final = 0.05  # longer than a window (40 ms)
_LAST: Final = 3  # tokens that travel with the end of the turn, and are not looked at
# What is on a token's way is called for each; what the loops of a worker call in no task, more seldom.
_OFTEN: Final = 0.9 * (_TOKENS - _LAST - 1)
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
COLUMNS: Final = (
    "frames to Redis",
    "modules to Redis",
    "modules to a delta",
    "modules per token",
    "closures per token",
)
# Tasks that belong to no request: what they call is on nobody's way.
_LOOPS: Final = {"health", "clock", "process_stats", "renew", "tick", "sweep", "tail", "pulse", "governor"}


@dataclass
class Flow:
    """What was seen of one message."""

    frames: list[str] = field(default_factory=list)  # from the route to the first command
    to_redis: set[str] = field(default_factory=set)  # modules
    to_delta: set[str] = field(default_factory=set)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)  # while tokens come

    @property
    def per_token(self) -> set[str]:
        """What is seldom called is on no token's way: loops ask the store meanwhile."""
        return {module for (module, _), count in self.calls.items() if count >= _OFTEN}

    @property
    def closures(self) -> set[str]:
        return {
            f"{module} {name}"
            for (module, name), count in self.calls.items()
            if count >= _OFTEN and "<locals>" in name and not name.endswith(("comp>", "expr>"))
        }

    def row(self) -> str:
        found = (self.frames, self.to_redis, self.to_delta, self.per_token, self.closures)
        return _row([str(len(one)) for one in found])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


class _Watch:
    """The profile: which of our functions are called, between which moments."""

    def __init__(self) -> None:
        self.flow = Flow()
        self.deltas = 0
        self._begun = False
        self._asked_in_loops: set[Any] = set()  # futures of replies

    def __call__(self, frame: FrameType, event: str, returned: Any) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(_SERVICE):
            return
        if _in_a_loop():
            if event == "return" and code is Line.ask.__code__:
                self._asked_in_loops.add(returned)
            return
        if event != "call":
            return
        if (
            code.co_qualname == "Line.ask.<locals>.answered"
            and frame.f_locals["replies"] in self._asked_in_loops
        ):
            return  # a connection calls it, in no task
        if code.co_qualname == "EdgeMiddleware.__call__":
            self._begun = True
        if not self._begun:
            return
        module = code.co_filename[len(_SERVICE) + 1 :]
        if not self.deltas:
            self.flow.to_delta.add(module)
            if not self.flow.frames:
                self._look_for_redis(frame, module)
        elif self.deltas < _TOKENS - _LAST:
            self.flow.calls[module, code.co_qualname] += 1

    def _look_for_redis(self, frame: FrameType, module: str) -> None:
        self.flow.to_redis.add(module)
        if frame.f_code is not RedisConnection.send.__code__:
            return
        stack = [f"{one.co_filename[len(_SERVICE) + 1 :]} {one.co_qualname}" for one in _stack(frame)]
        route = next(i for i, one in enumerate(stack) if one.startswith("api/routes/"))
        self.flow.frames = stack[: route + 1][::-1]


def _stack(frame: FrameType | None) -> Iterator[CodeType]:
    """Our functions that are being called, the innermost first."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_SERVICE):
            yield frame.f_code
        frame = frame.f_back


def _in_a_loop() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return True
    return task is not None and task.get_name() in _LOOPS


async def _provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers whatever it is asked, once, a token at a time."""
    with contextlib.suppress(ConnectionError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_HEAD)
        for number in range(_TOKENS):
            await asyncio.sleep(_PAUSE_SECONDS)
            finish = "stop" if number == _TOKENS - 1 else None
            choice = {"index": 0, "delta": {"content": "w "}, "finish_reason": finish}
            _write_chunk(writer, json.dumps({"id": "c", "choices": [choice]}))
        _write_chunk(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    writer.close()


def _write_chunk(writer: asyncio.StreamWriter, data: str) -> None:
    event = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))


@contextlib.asynccontextmanager
async def _service(redis: RedisServer) -> AsyncIterator[Served]:
    provider = await asyncio.start_server(_provider, "127.0.0.1", 0)
    port = provider.sockets[0].getsockname()[1]
    async with serve(redis.url, f"http://127.0.0.1:{port}") as served:
        yield served
    provider.close()


async def _ask(served: Served, watch: _Watch | None = None) -> None:
    url = "/v1/sessions/s/turns"
    async with served.client.stream("POST", url, json={"content": "Why is the sky blue?"}) as answer:
        async for line in answer.aiter_lines():
            if watch is not None and line == "event: delta":
                watch.deltas += 1


async def seen(redis: RedisServer) -> Flow:
    """The second message of a session: scripts are loaded, connections are made, there is a history."""
    async with _service(redis) as served:
        await _ask(served)
        watch = _Watch()
        sys.setprofile(watch)
        try:
            await _ask(served, watch)
        finally:
            sys.setprofile(None)
    return watch.flow


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder))
        try:
            flow = asyncio.run(seen(redis))
        finally:
            redis.kill()
    lines = ["From the route to the first Redis command:"]
    lines += [f"{number:4} {frame}" for number, frame in enumerate(flow.frames, 1)]
    lines += ["Closures on a token's way:", *(f"     {closure}" for closure in sorted(flow.closures))]
    sys.stdout.write("\n".join([*lines, _row(COLUMNS), flow.row(), ""]))


if __name__ == "__main__":
    main()
