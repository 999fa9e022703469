"""Background loops of a worker: named, restarted after an unexpected error, ended together.

One of the three places that may catch everything: an error is logged with its traceback and
counted, and the loop goes on. What a loop does belongs to its owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Final

from service.errors import ServiceError
from service.telemetry import metrics
from service.telemetry.logs import get_logger

_PAUSE_SECONDS: Final = 0.5

log = get_logger(__name__)


class Background:
    def __init__(self) -> None:
        self._loops: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closed = False

    def loop(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        """Run `body` for ever; it is called again when it returns or fails."""
        task = asyncio.create_task(self._forever(name, body), name=name)
        self._loops.add(task)

    def task(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
        """Run `work` once, kept alive until it is done; not at all once this is closed."""
        if self.closed:
            work.close()
            never = asyncio.get_running_loop().create_future()
            never.cancel()
            return never
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _forever(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await body()
            except ServiceError as error:
                log.warning("background.held_up", loop=name, code=error.code)
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception:
                # One of the three tops: a loop that ended would be missed hours later.
                metrics.internal_errors.labels(where=name).inc()
                log.exception("background.failed", loop=name, action="goes on")
                await asyncio.sleep(_PAUSE_SECONDS)

    async def close(self) -> None:
        self.closed = True
        for task in (*self._loops, *self._tasks):
            task.cancel()
        await asyncio.gather(*self._loops, *self._tasks, return_exceptions=True)


class Apart:
    """Tasks of a loop that may take long: each has a name, and no two of one name run at a time.

    An unexpected exception of a task is raised in the loop, by the next `collect`.
    """

    def __init__(self, background: Background, loop: str) -> None:
        self._background = background
        self._loop = loop
        self._tasks: dict[Hashable, asyncio.Future[None]] = {}

    def collect(self) -> None:
        """Forget the tasks that are done; raises what they have raised."""
        for name in [name for name, task in self._tasks.items() if task.done()]:
            self._tasks.pop(name).result()

    def start(self, name: Hashable, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Start a task, unless the last one of this name still runs."""
        if name not in self._tasks:
            self._tasks[name] = self._background.task(self._loop, self._run(work))

    async def _run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            await work()
        except ServiceError as error:
            log.warning("background.held_up", loop=self._loop, code=error.code)
            await asyncio.sleep(_PAUSE_SECONDS)
