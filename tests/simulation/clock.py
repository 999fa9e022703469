"""Virtual time: an event loop whose sleeps cost nothing, and processes on it that stop or die.

When nothing is ready the clock jumps to the next timer, so a minute of waiting takes as long as what is
done in it. A `Process` is a worker of its own on the same loop: each callback belongs to the process in whose
context it was scheduled. A frozen process keeps its callbacks for later, as a stopped one does; those
of a dead one are never run, as after kill -9. Invariant: a history depends on its seed alone, so every
clock and every source of chance that the service uses is replaced here. What a process does is not
known here.
"""

from __future__ import annotations

import asyncio
import datetime
import heapq
import itertools
import os
import random
import sys
import time
import traceback
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from threading import get_ident
from types import SimpleNamespace
from typing import Any, Final

import prometheus_client.metrics
import redis.utils

import service.engine.pacing.provider_keys
import service.engine.process_stats
import service.store.health
import service.store.ledger
from service.telemetry import metrics

#: 2026-06-01T12:00:00 UTC, in seconds: far from the end of a minute's, day's or month's budget
EPOCH: Final = 1_780_315_200.0
# A process starts on a machine that has been up for a while: clocks that begin at 0 would hide what waits for
# them to be large.
_BEGIN: Final = 10_000.0
# Callbacks without any time passing; a turn of an engine has some hundreds.
_MOST_STEPS: Final = 200_000
# Reading a clock takes time too: two readings in one callback differ, as in a real process.
_TICK_SECONDS: Final = 1e-6

_process: ContextVar[Process | None] = ContextVar("process", default=None)

Connect = Callable[["Process", Callable[[], Any]], Awaitable[tuple[Any, Any]]]


class Broken(Exception):
    """A rule does not hold."""


class Stuck(Exception):
    """Something waits for what will never come, or runs without an end."""


class Process:
    """What dies, or stands still, as a whole."""

    def __init__(self, loop: Loop, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.dead = False
        self._loop = loop
        self._frozen_until = float("-inf")
        self._kept: deque[asyncio.Handle] = deque()
        self._after: tuple[int, Callable[[], None]] | None = None
        self.context = copy_context()
        self.context.run(_process.set, self)

    def run(self, work: Coroutine[Any, Any, Any], name: str = "request") -> asyncio.Task[Any]:
        """Begin a task in this process."""
        return self._loop.create_task(work, name=name, context=self.context.copy())

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> None:
        self._loop.call_at(when, callback, *args, context=self.context)

    def after_steps(self, steps: int, what: Callable[[], None]) -> None:
        """Call `what` when so many more callbacks have run here: between any two awaits."""
        self._after = (steps, what)

    def disarm(self) -> None:
        self._after = None

    def kill(self) -> None:
        self.dead = True
        self._kept.clear()

    def freeze(self, seconds: float) -> None:
        self._frozen_until = max(self._frozen_until, self._loop.time() + seconds)
        self._loop.call_at(self._frozen_until, self._thaw, context=Context())

    @property
    def frozen(self) -> bool:
        return self._frozen_until > self._loop.time()

    def _thaw(self) -> None:
        if not self.frozen:
            kept, self._kept = self._kept, deque()
            self._loop.take(kept)

    def runs(self, handle: asyncio.Handle) -> bool:
        """May this callback run now?"""
        if self.dead:
            return False
        if self.frozen or self._kept:
            self._kept.append(handle)
            return False
        return True

    def stepped(self) -> None:
        if self._after is not None:
            steps, what = self._after
            self._after = (steps - 1, what) if steps > 0 else None
            if steps <= 0:
                what()


class Loop(asyncio.BaseEventLoop):
    """asyncio's own loop without sockets; `connect` makes connections to what is simulated."""

    # Of BaseEventLoop, which does not say so.
    _ready: deque[asyncio.Handle]

    def __init__(self) -> None:
        super().__init__()
        # In the order of their time, then as they came. asyncio's own heap compares handles, which is slow.
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = itertools.count()
        self._now = _BEGIN
        self._at_once = 0
        self.steps = 0
        self.connect: Connect | None = None
        self.broken: list[str] = []
        self.tasks: dict[asyncio.Task[Any], Process | None] = {}
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self._now

    def read_clock(self) -> float:
        self._now += _TICK_SECONDS
        return self._now

    def of_the_dead(self, task: asyncio.Task[Any]) -> bool:
        process = self.tasks[task]
        return process is not None and process.dead

    def take(self, handles: deque[asyncio.Handle]) -> None:
        self._ready.extend(handles)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._count), timer))
        return timer

    def create_task(
        self, coro: Any, *, name: Any = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = super().create_task(coro, name=name, context=context)
        self.tasks[task] = _process.get() if context is None else context.get(_process)
        return task

    async def create_connection(  # type: ignore[override]
        self, factory: Any, *_: Any, **__: Any
    ) -> Any:
        process = _process.get()
        assert process is not None
        assert self.connect is not None
        return await self.connect(process, factory)

    def _run_once(self) -> None:
        ready, heap = self._ready, self._timers
        while heap and heap[0][2]._cancelled:
            heapq.heappop(heap)
        if not ready:
            if not heap:
                raise Stuck("nothing will ever happen again")
            if heap[0][0] > self._now:
                self._now, self._at_once = heap[0][0], 0
        while heap and heap[0][0] <= self._now:
            ready.append(heapq.heappop(heap)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_process)  # type: ignore[attr-defined]
            if process is None:
                handle._run()
            elif process.runs(handle):
                handle._run()
                process.stepped()
            self.steps += 1
            self._at_once += 1
        if self.broken:
            raise Broken(self.broken[0])
        if self._at_once > _MOST_STEPS:
            raise Stuck("the loop never comes to rest")

    def _note(self, _: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "never retrieved" in context["message"] and isinstance(error, asyncio.CancelledError):
            return
        self.broken.append(f"{context['message']}: {error!r}")

    def _write_to_self(self) -> None:
        """Nobody wakes this loop from outside."""

    def bury(self) -> None:
        """End what processes have left behind, without running any of it on."""
        self._ready.clear()
        self._timers.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what was never awaited was to be, by a process that has died
            self._close_all()
        self._ready.clear()
        self._timers.clear()

    def _close_all(self) -> None:
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done():
                _close(task)


def _close(task: asyncio.Task[Any]) -> None:
    try:
        coroutine: Any = task.get_coro()
        coroutine.close()
    except Exception:  # noqa: BLE001 - its process is dead: what its clean-up says concerns nobody
        pass


class _Faults:
    """In the place of the counter of errors that nobody has foreseen: each ends the history."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._where = ""

    def labels(self, *, where: str) -> _Faults:
        self._where = where
        return self

    def inc(self) -> None:
        last = traceback.extract_tb(sys.exc_info()[2])[-1]
        place = f"{os.path.basename(last.filename)}:{last.lineno}"
        self._loop.broken.append(f"an error of ours: {sys.exc_info()[1]!r} in {self._where} at {place}")


class _Date(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _Date:
        return cls.fromtimestamp(time.time(), tz)


@contextmanager
def virtual(loop: Loop, seed: str) -> Iterator[None]:
    """Within the block all clocks are the loop's and all chance is the seed's."""
    chance = random.Random(seed)
    state = random.getstate()
    random.seed(seed)

    def pid() -> int:
        process = _process.get()
        return process.pid if process else 0

    here = get_ident()

    def of_here(where: Any, name: str, value: Callable[..., Any]) -> tuple[Any, str, Any]:
        """Other threads, such as the server of a test's double, keep what is real: a reading takes time."""
        real = getattr(where, name)
        return where, name, lambda *args: (value if get_ident() == here else real)(*args)

    replaced: list[tuple[Any, str, Any]] = [
        of_here(time, "time", lambda: EPOCH + loop.read_clock()),
        of_here(time, "time_ns", lambda: int((EPOCH + loop.read_clock()) * 1e9)),
        of_here(time, "monotonic", loop.read_clock),
        of_here(time, "perf_counter", loop.read_clock),
        of_here(time, "process_time", lambda: 0.0),
        of_here(time, "thread_time", lambda: 0.0),
        of_here(os, "urandom", chance.randbytes),
        of_here(os, "getpid", pid),
        (service.store.ledger, "datetime", _Date),
        (metrics, "internal_errors", _Faults(loop)),
        # A series notes when it was made, and is made once in a process: that is no part of a history.
        (prometheus_client.metrics, "time", SimpleNamespace(time=lambda: EPOCH)),
        # What is of no use here is looked at seldom: a sixth of a history.
        (service.store.health, "_LOOK_SECONDS", 5.0),
        (service.engine.pacing.provider_keys, "_LOOK_SECONDS", 5.0),
        (service.engine.process_stats, "_PERIOD_SECONDS", 5.0),
        # Read from a file for each connection: a tenth of a history.
        (redis.utils, "get_lib_version", lambda: "0"),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in replaced]
    try:
        for where, name, value in replaced:
            setattr(where, name, value)
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
        random.setstate(state)
