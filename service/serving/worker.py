"""The Gunicorn worker class: one process that runs the server of http_server.py.

Master and worker share a page of memory, made before the fork, with one byte per fact: is the
worker ready, does it leave, does the whole replica go. Without our
master (plain `gunicorn -c deploy/gunicorn.conf.py`) the worker still drains, as for a replica.
A worker whose master has died drains and ends; it does not hold the port as an orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from service.config.loading import load_settings
from service.serving.balanced_accept import Acceptor, Board
from service.serving.gc_policy import GcPolicy
from service.serving.http_server import ChatServer, http_options
from service.telemetry.logs import get_logger

log = get_logger(__name__)


class Flag(enum.IntEnum):
    """Bytes of the shared page."""

    MANAGED = 0  # by our master: it forked this worker
    READY = 1  # by the worker: it serves
    LEAVING = 2  # by either: a replacement is wanted
    REPLICA_LEAVES = 3  # by our master: no replacement, everything goes
    CLEAN = 4  # by the worker: the app has ended as it should and holds no lease
    HURRIED = 5  # by our master: too many workers wait for their answers, this one the longest


class ChatWorker(UvicornWorker):  # type: ignore[misc]  # Gunicorn has no types
    CONFIG_KWARGS = http_options()
    board = Board()  # made in the master, inherited by every worker

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ours = logging.getLogger("uvicorn.error")
        level = ours.level
        super().__init__(*args, **kwargs)
        ours.setLevel(level)  # it has taken Gunicorn's handlers and level; telemetry/logs.py has set others
        ours.handlers, ours.propagate = [], True
        self._page = mmap.mmap(-1, len(Flag))
        self.told = False  # in the master only: it has sent SIGTERM

    def has(self, flag: Flag) -> bool:
        return bool(self._page[flag])

    def mark(self, flag: Flag) -> None:
        self._page[flag] = 1

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = WorkerServer(self)
        await server.serve(sockets=[listener.sock for listener in self.sockets])
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        if server.clean:
            self.mark(Flag.CLEAN)
        elif server.force_exit:
            os._exit(0)  # SIGQUIT: tasks are not asked, their leases lapse

    def tell_master(self, flag: Flag) -> None:
        """Set a flag and wake the master, which looks at them when a child's state changes."""
        self.mark(flag)
        if os.getppid() == self.ppid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.ppid, signal.SIGCHLD)


class WorkerServer(ChatServer):
    """The server of a worker, whose master may die and which may be recycled."""

    def __init__(self, worker: ChatWorker) -> None:
        super().__init__(
            worker.config,
            load_settings(),
            replica_leaves=self._whole_replica,
            on_leaving=lambda: worker.tell_master(Flag.LEAVING),
            patient=self._may_wait,
        )
        self.worker = worker
        self._recycled = False
        self._collector = GcPolicy()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])

        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class

        def protocol() -> asyncio.Protocol:
            return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

        for listener in sockets or []:
            acceptor = Acceptor(
                listener,
                protocol,
                count=lambda: len(self.server_state.connections),
                board=self.worker.board,
                place=self.worker.age,
            )
            self.servers.append(acceptor)  # type: ignore[arg-type]  # all that uvicorn asks of a Server
        self._collector.settle()
        self.worker.tell_master(Flag.READY)

    def _whole_replica(self) -> bool:
        worker = self.worker
        return worker.has(Flag.REPLICA_LEAVES) or not worker.has(Flag.MANAGED) or self._orphaned()

    def _may_wait(self) -> bool:
        return self._recycled and not self.worker.has(Flag.HURRIED) and not self._whole_replica()

    def _orphaned(self) -> bool:
        return bool(os.getppid() != self.worker.ppid)

    async def on_tick(self, counter: int) -> bool:
        if self._orphaned():
            log.error("worker.master_gone")
            return True
        worker = self.worker
        if self.server_state.total_requests >= worker.max_requests and not worker.has(Flag.LEAVING):
            log.info("worker.recycled", requests=self.server_state.total_requests)
            if not worker.has(Flag.MANAGED):
                return True
            self._recycled = True
            worker.tell_master(Flag.LEAVING)  # goes on serving: the master sends SIGTERM when another does
        worker.board.write(worker.age, len(self.server_state.connections))
        if counter % 10 == 0:  # tenths of a second
            self._collector.tick(len(self.server_state.connections))
        return await super().on_tick(counter)
