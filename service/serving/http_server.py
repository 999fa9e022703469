"""The server of one process: uvicorn, taught to leave without cutting anything.

Used by Gunicorn's workers (worker.py) and by `run`, which has one process. It adds to uvicorn
a signal that the app can see, `scope["state"]["leaving"]`, and an order of leaving:

    the whole replica goes          only this worker is replaced (reload, recycling)
    1 leaving is set                1 the listener closes, others hold the same socket
    2 the listener stays open       2 kept connections serve one more request each
      for the drain delay           3 leaving is set, without refusing anything
    3 the listener closes
    then: requests finish until the deadline, a connection without one is closed after a
    moment, the rest is cancelled and awaited, the app's lifespan ends.

From the first step on every response asks its client to close the connection. The deadline is
CHAT_DRAIN_SECONDS away; a worker that is merely recycled waits for its answers for as long as one
may take, until something presses: then it has CHAT_DRAIN_SECONDS from that moment.
Processes, signals of the master and the choice between the two columns are worker.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import Server

from service.config.settings import Settings
from service.eventloop.aligned_sleep import aligned_sleep
from service.eventloop.leaving import Leaving
from service.serving.http_protocol import KEEP_ALIVE_SECONDS, BoundedHttp, is_idle
from service.serving.unsent import bound_unsent
from service.telemetry.logs import get_logger

log = get_logger(__name__)

LINGER_SECONDS: Final = 2.0  # for kept connections without a request, after the listener has closed
CANCEL_SECONDS: Final = 2.0  # for cancelled requests to end, before the app's lifespan does
FAREWELL_SECONDS: Final = 6.0  # for the app's lifespan: two bounded store calls of 2.5 s at most

_OURSELVES: Final = ("127.0.0.1", "0.0.0.0", "::1", "::")
_TICK: Final = 0.05  # between looks at connections: uvicorn tells nobody when one goes idle or closes
_HEARTBEAT: Final = 1.0  # uvicorn's own, for the Date header and Gunicorn's heartbeat
_BACKLOG: Final = 2048


def grace_seconds(settings: Settings) -> float:
    """How long a process may take to leave, from SIGTERM to its end."""
    own = LINGER_SECONDS + CANCEL_SECONDS + FAREWELL_SECONDS
    return settings.drain_delay_seconds + settings.drain_seconds + own


def readable_url(address: tuple[str, int]) -> str:
    """The URL of a bound socket, as a person on this machine would type it."""
    host, port = address[:2]
    if host in _OURSELVES:
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def http_options() -> dict[str, Any]:
    """What uvicorn is configured with, under Gunicorn and alone."""
    return {
        "loop": "uvloop",
        "http": BoundedHttp,
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "proxy_headers": False,
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_notify": 0,  # beat at each second's tick
        "limit_max_requests": None,  # counted by worker.py
        "backlog": _BACKLOG,
    }


class ChatServer(Server):
    """See the module. `replica_leaves` says which column applies and may change its mind.

    `patient` says whether it may wait for its answers beyond CHAT_DRAIN_SECONDS, and may too.
    """

    def __init__(
        self,
        config: Config,
        settings: Settings,
        *,
        replica_leaves: Callable[[], bool] = lambda: True,
        on_ready: Callable[[], None] = lambda: None,
        on_leaving: Callable[[], None] = lambda: None,
        patient: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(config)
        self.settings = settings
        self.clean = False  # True once the lifespan has ended as it should
        self._replica_leaves = replica_leaves
        self._on_ready = on_ready
        self._on_leaving = on_leaving
        self._patient = patient
        self._waits = False  # for answers, beyond the time that a drain has

    # -- a life

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.leaving = Leaving()
        self.lifespan.state["leaving"] = self.leaving
        await super().startup(sockets)
        self._on_ready()

    async def main_loop(self) -> None:
        """uvicorn's, in step with the worker's own timers; it counts tenths of a second."""
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 2) % 864_000
            await aligned_sleep(0.2)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # each second
            bound_unsent(list(self.server_state.connections))
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_leaving()
        heartbeat = asyncio.create_task(self._heartbeat(), name="drain-heartbeat")
        try:
            await self._leave()
            await super().shutdown(sockets)
            self.clean = not self.force_exit and not self.lifespan.error_occurred
        finally:
            heartbeat.cancel()

    async def _leave(self) -> None:
        loop = asyncio.get_running_loop()
        whole = self._replica_leaves()
        first = self.settings.drain_delay_seconds if whole else LINGER_SECONDS
        self._waits = self._patient()
        longest = self.settings.turn_timeout_seconds if self._waits else 0.0
        self.leaving.deadline = loop.time() + first + max(longest, self.settings.drain_seconds)
        log.info("server.leaving", replica_leaves=whole, connections=len(self.server_state.connections))
        self.config.encoded_headers = [*self.config.encoded_headers, (b"connection", b"close")]
        await super().on_tick(0)  # puts them into the headers of every response from here on
        if whole:
            self.leaving.set()
            await self._wait(self.settings.drain_delay_seconds)
        for _ in range(3):  # what the kernel has queued is accepted before the listener goes
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        await self._wait(LINGER_SECONDS, until=self._no_idle_connection)
        self.leaving.refusing = self._replica_leaves()
        self.leaving.set()
        await self._let_go()

    async def _wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end and not self.force_exit and not until():
            if self._replica_leaves():
                self.leaving.set()
            await asyncio.sleep(_TICK)

    async def _let_go(self) -> None:
        """Close each connection when it has been without a request for a while.

        A stream that began before the leave has not asked its client to close: the next request
        may be on its way on the same connection, and is answered.
        """
        loop = asyncio.get_running_loop()
        idle_since: dict[object, float] = {}
        while self.server_state.connections and not self.force_exit and loop.time() < self.leaving.deadline:
            for connection in list(self.server_state.connections):
                if not is_idle(connection):
                    idle_since.pop(connection, None)
                elif loop.time() - idle_since.setdefault(connection, loop.time()) >= LINGER_SECONDS:
                    connection.shutdown()
            await asyncio.sleep(_TICK)

    def _no_idle_connection(self) -> bool:
        """Is each connection busy with a request, whose response will close it?"""
        return not any(map(is_idle, self.server_state.connections))

    async def _wait_tasks_to_complete(self) -> None:
        # Not uvicorn's timeout_graceful_shutdown: that one does not await what it has cancelled.
        waiting = asyncio.create_task(super()._wait_tasks_to_complete(), name="requests")
        while not waiting.done() and asyncio.get_running_loop().time() < self.leaving.deadline:
            await asyncio.wait([waiting], timeout=_TICK)
        if waiting.done():
            await waiting
            return
        waiting.cancel()
        tasks = set(self.server_state.tasks)
        log.warning("server.requests_cut", requests=len(tasks))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)

    async def _heartbeat(self) -> None:
        """Heartbeat and Date header go on while the main loop no longer ticks.

        Bounded, so that a lifespan that hangs is ended by the master for want of a heartbeat.
        """
        loop = asyncio.get_running_loop()
        while loop.time() < self.leaving.deadline + CANCEL_SECONDS + FAREWELL_SECONDS:
            await self.on_tick(0)
            if self._waits and not self._patient():
                self._waits = False
                self.leaving.deadline = min(self.leaving.deadline, loop.time() + self.settings.drain_seconds)
                log.info("server.pressed", seconds=self.settings.drain_seconds)
            await asyncio.sleep(_HEARTBEAT)

    # -- signals

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGQUIT, self.handle_quit)
        try:
            with super().capture_signals():
                yield
                # uvicorn would raise them again and turn a clean end into a death by signal.
                self._captured_signals.clear()
        finally:
            signal.signal(signal.SIGQUIT, previous)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.force_exit and sig == signal.SIGINT:
            os._exit(130)  # the third Ctrl-C: whoever presses it means it
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = self.force_exit = True
