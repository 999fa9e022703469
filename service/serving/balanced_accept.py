"""Accepting connections from one listening socket that all workers share, evenly.

One socket for all, because the connections in its queue survive every worker: none is reset
when a worker is killed, recycled or reloaded (with SO_REUSEPORT each worker has a queue of its
own, which dies with it). But the kernel wakes all workers and the same ones are always first;
so each writes down how many connections it has, and one that has more than its share steps
back for a moment. Figures: docs/decisions/0002-listening-sockets.md.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
from collections.abc import Callable
from typing import Final

from service.telemetry.logs import get_logger

log = get_logger(__name__)

_PLACES: Final = 512  # workers at once: 256, the bound of the setting, and as many that drain
_STEP_BACK_SECONDS: Final = 0.002  # long enough for an idle worker to wake and accept (0.1 to 0.5 ms)
_STARVED_SECONDS: Final = 0.5  # before another attempt when this process has no descriptor left
_SLACK: Final = 2  # connections over the mean before a worker steps back


class Board:
    """How many connections each worker has, in memory that all of them share."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * _PLACES)).cast("I")

    def write(self, place: int, connections: int) -> None:
        self._counts[place % _PLACES] = connections + 1

    def erase(self, place: int) -> None:
        """The worker accepts no more, or is dead."""
        self._counts[place % _PLACES] = 0

    def mean(self) -> float:
        counts = self._counts.tolist()
        workers = _PLACES - counts.count(0)
        return (sum(counts) - workers) / workers if workers else 0.0


class Acceptor:
    """A listening socket in one worker. Has what uvicorn calls on an asyncio.Server."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        count: Callable[[], int],
        board: Board,
        place: int,
    ) -> None:
        self._listener = listener
        self._make_protocol = make_protocol
        self._count = count
        self._board = board
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[object]] = set()
        listener.setblocking(False)
        board.write(place, 0)
        self._loop.add_reader(listener.fileno(), self._readable)

    def _readable(self) -> None:
        mine = self._count() + len(self._opening)
        self._board.write(self._place, mine)
        if mine > self._board.mean() + _SLACK:
            self._step_back(_STEP_BACK_SECONDS)
        else:
            self._accept()

    def _step_back(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(seconds, self._step_forward)

    def _step_forward(self) -> None:
        """Accept again; a connection that is still there was taken by no other worker."""
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._readable)
        self._accept()

    def _accept(self) -> bool:
        """One connection at a time: the next may be for another worker."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            log.error("accept.failed", reason=str(error))
            self._step_back(_STARVED_SECONDS)
            return False
        task: asyncio.Task[object] = self._loop.create_task(
            self._loop.connect_accepted_socket(self._make_protocol, connection)
        )
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    def close(self) -> None:
        """Accept the connections that the kernel has queued, then none. Other workers may hold the socket."""
        if self._listener.fileno() < 0:
            return
        self._board.erase(self._place)
        while self._accept():
            pass
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    async def wait_closed(self) -> None:
        if self._opening:
            await asyncio.wait(self._opening)
