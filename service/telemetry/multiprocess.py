"""The metrics of all processes of a replica, added up, and their text for Prometheus.

prometheus_client keeps the counts of a process in memory-mapped files that are named after it. Here
the name is not the process id but a *worker slot*: the lowest number whose lock file nobody holds. The
kernel releases the lock when its holder ends, however it ends. The next process takes the slot and
goes on counting in its files. So kill -9 neither loses nor doubles a count, nothing has to be merged,
and there are never more files than processes have run at once. Gauges describe the present: those of a
slot that nobody holds are not shown, and a new holder begins with none.

Which metrics there are: metrics.py. Who may read them: metrics_server.py and the route. With one
process (no directory for the counts) all this is prometheus_client's own registry.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Metric, disable_created_metrics, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from service.config.environment import METRICS_DIR, environment
from service.telemetry import worker_deaths

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

_packed: Final = Struct("dd").pack  # a value and its time, as prometheus_client has them
# With the files of one worker a text takes 15 ms. After it no file is read for nine times as long: scrapers,
# however many and fast, take a tenth of a thread.
_REST: Final = 9
_LONGEST_REST_SECONDS: Final = 1.0


class WorkerSlot:
    """This process's slot in the directory; a fork takes one of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ours = False
        self._number = 0
        self._lock = -1
        os.register_at_fork(after_in_child=self._forked)

    def __call__(self) -> int:
        # Asked at every count: looking at the process id each time took a tenth of a short turn.
        if not self.ours:
            self._take()
        return self._number

    def _forked(self) -> None:
        self.ours = False

    def _take(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)  # inherited: it stays locked by whoever took it
        with _alone(self._directory):
            self._number, self._lock = next(
                (number, lock)
                for number in itertools.count()
                if (lock := _hold(self._directory / f"place_{number}")) is not None
            )
            for gauges in self._directory.glob(f"gauge_live*_{self._number}.db"):
                gauges.unlink()
        self.ours = True


def _value_class(slot: WorkerSlot) -> type:
    """prometheus_client's class without the lock and ten calls of its `inc`: one thread counts."""
    shared: Any = values.MultiProcessValue(slot)

    class Value(shared):  # type: ignore[misc]  # untyped
        _value: float

        def inc(self, amount: float) -> None:
            if not slot.ours:
                super().inc(amount)  # the first of a fork: all values go to its own files
                return
            self._value = value = self._value + amount
            file = self._file
            place = file._positions[self._key]
            file._m[place : place + 16] = _packed(value, 0.0)  # `pack_into` would write zeros first

    return Value


def count_together() -> None:
    """Count in the shared directory, if there is one. Called before the first metric is made."""
    disable_created_metrics()
    if directory := environment().get(METRICS_DIR):
        values.ValueClass = _value_class(WorkerSlot(Path(directory)))


class Exposition:
    """The counts as text, for any thread. A scrape waits, rather than get counts from before it came."""

    def __init__(self) -> None:
        directory = environment().get(METRICS_DIR)
        self._registry = CollectorRegistry() if directory else REGISTRY
        if directory:
            self._registry.register(_Files(Path(directory)))
        self._lock = threading.Lock()
        self._begun = self._rested = float("-inf")
        self._text = b""

    def text(self, came: float | None = None) -> bytes:
        """The counts as of this call, or of `came` (monotonic); scrapes that wait together share a text."""
        came = time.monotonic() if came is None else came
        with self._lock:
            if self._begun <= came:
                time.sleep(max(0.0, self._rested - time.monotonic()))  # a rest per reading, in its own thread
                self._begun = time.monotonic()
                self._text = generate_latest(self._registry)
                ended = time.monotonic()
                self._rested = ended + min(_LONGEST_REST_SECONDS, _REST * (ended - self._begun))
            return self._text


class _Files:
    """A collector over the files of a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        with _alone(self._directory):
            held = {slot.name.partition("_")[2] for slot in self._directory.glob("place_*") if _held(slot)}
        files = [
            str(file)
            for file in sorted(self._directory.glob("*.db"))
            if not file.name.startswith("gauge_") or file.stem.rpartition("_")[2] in held
        ]
        found = {metric.name: metric for metric in MultiProcessCollector.merge(files)}
        # Alerts look at these two, so they are there even when no worker is, or none can write a file.
        found["chat_worker_deaths"] = CounterMetricFamily(
            "chat_worker_deaths", "Workers that ended before they were told to.", worker_deaths.count()
        )
        if "chat_workers" not in found:
            found["chat_workers"] = GaugeMetricFamily("chat_workers", "Worker processes that serve.", 0)
        return found.values()


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """No slot changes its holder meanwhile: looking at one locks it for a moment."""
    descriptor = os.open(directory / "places.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hold(slot: Path) -> int | None:
    """The descriptor that holds the slot for as long as it is open; None when another process does."""
    descriptor = os.open(slot, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _held(slot: Path) -> bool:
    descriptor = _hold(slot)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None
