"""Gunicorn's master, made to replace a worker before it lets the old one go.

Differences from the stock arbiter, each for "a deploy cuts nothing":
- a worker that leaves (reload, recycling, SIGTERM to it alone) is replaced at once, and one
  that can wait is told to go only when its replacement serves;
- recycled workers wait for their answers, as many as there are workers: beyond that the oldest hurry;
- a reload does not block the master, so that heartbeats are checked and a SIGTERM is obeyed;
- workers that cannot boot end the master only while none serves: a broken reload leaves the
  old workers in place.

The master imports nothing of the app: it is what a reload cannot renew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from gunicorn import util
from gunicorn.app.base import Application
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from service.config.environment import METRICS_DIR, environment, set_environment, unset_environment
from service.config.loading import load_settings
from service.config.settings import Settings, SettingsError
from service.serving.http_server import readable_url
from service.serving.worker import Flag
from service.telemetry import worker_deaths
from service.telemetry.logs import get_logger, warn_of, worker_name
from service.telemetry.metrics_server import ExporterProcess

log = get_logger(__name__)

CONF: Final = Path(__file__).resolve().parents[2] / "deploy" / "gunicorn.conf.py"

_RETRY_SECONDS: Final = 5.0  # between attempts to boot a worker that does not boot (1 to 2 s of CPU each)
_LAPSE_SECONDS: Final = 5  # for the child that expires leases: an import and three calls of 0.5 s
_METRICS_PREFIX: Final = "chat-metrics-"
# Bytes for the counts of a worker: 290 KiB with few labels, and those of the one it replaces.
_WORKER_BYTES: Final = 2 * 1024 * 1024


class ChatArbiter(Arbiter):  # type: ignore[misc]  # Gunicorn has no types
    _reloading = False
    _not_before = 0.0
    _announced = False

    def setup(self, app: Any) -> None:
        super().setup(app)
        if self._reloading:
            self.cfg.set("graceful_timeout", 0)  # reload() would wait that long for the old workers

    def reload(self) -> None:
        self._reloading = True
        try:
            super().reload()
        finally:
            self._reloading = False
            self.cfg.set("graceful_timeout", self.app.grace)

    def manage_workers(self) -> None:
        """Spawn what is missing, then let go of what is replaced."""
        if self.app.exporter is not None:
            self.app.exporter.keep(*(listener.sock for listener in self.LISTENERS))
        workers = sorted(self.WORKERS.values(), key=lambda worker: worker.age)
        staying = [worker for worker in workers if not worker.has(Flag.LEAVING)]
        if time.monotonic() >= self._not_before:
            for _ in range(self.num_workers - len(staying)):
                self.spawn_worker()
        ready = [worker for worker in staying if worker.has(Flag.READY)]
        if len(ready) < self.num_workers:
            return
        if not self._announced:
            self._announced = True
            log.info("service.ready", url=readable_url(self.LISTENERS[0].getsockname()), workers=len(ready))
        surplus = ready[: len(ready) - self.num_workers]
        replaced = [worker for worker in workers if worker.has(Flag.LEAVING) and not worker.told]
        for worker in (*surplus, *replaced):
            worker.told = True
            self.kill_worker(worker.pid, signal.SIGTERM)
        waiting = [worker for worker in workers if worker.told]
        for worker in waiting[: max(0, len(waiting) - self.num_workers)]:
            worker.mark(Flag.HURRIED)

    def kill_worker(self, pid: int, sig: int) -> None:
        worker = self.WORKERS.get(pid)
        if worker is not None and sig == signal.SIGTERM:
            worker.mark(Flag.LEAVING)
        super().kill_worker(pid, sig)

    def stop(self, graceful: bool = True) -> None:
        for worker in self.WORKERS.values():
            worker.mark(Flag.REPLICA_LEAVES)
        super().stop(graceful)

    def reap_workers(self) -> None:
        try:
            super().reap_workers()
        except HaltServer as halt:
            if not any(w.has(Flag.READY) and not w.has(Flag.LEAVING) for w in self.WORKERS.values()):
                raise
            log.error("worker.boot_failed", reason=halt.reason, retry_seconds=_RETRY_SECONDS)
            self._not_before = time.monotonic() + _RETRY_SECONDS
            self.reap_workers()


class ChatApplication(Application):  # type: ignore[misc]  # Gunicorn has no types
    """Gunicorn, configured by deploy/gunicorn.conf.py and by no command line."""

    def __init__(self, app: str | None = None, exporter: ExporterProcess | None = None) -> None:
        self._app = app
        self.exporter = exporter
        super().__init__()

    def load_config(self) -> None:
        self.load_config_from_file(str(CONF))
        self.grace = self.cfg.graceful_timeout

    def reload(self) -> None:
        try:
            settings = load_settings()
        except SettingsError as error:
            log.error("reload.settings_kept", reason=str(error))
        else:
            address = self.cfg.bind
            super().reload()
            if self.cfg.bind != address:
                # Gunicorn would close the listener first, and end if the new address is taken.
                log.error(
                    "reload.address_kept", address=address[0], note="CHAT_HOST and CHAT_PORT need a restart."
                )
                self.cfg.set("bind", address)
            if self.exporter is not None:
                self.exporter.renew(settings)

    def load(self) -> Any:
        return util.import_app(self._app or self.cfg.wsgi_app)

    def run(self) -> None:
        try:
            ChatArbiter(self).run()
        except RuntimeError as error:
            sys.exit(f"chat: {error}")
        finally:
            if self.exporter is not None:
                self.exporter.end()


# -- hooks of deploy/gunicorn.conf.py


def starting(settings: Settings) -> None:
    """Once, before the first worker."""
    warn_of(settings)
    given = Path(environment().get(METRICS_DIR) or memory_dir(settings.workers))
    if given.name.startswith(_METRICS_PREFIX):
        given = given.parent  # it belongs to the master that has started this one (SIGUSR2), and goes with it
    given.mkdir(parents=True, exist_ok=True)
    set_environment(METRICS_DIR, str(make_metrics_dir(given)))


def forked(worker: Any, server: Any) -> None:
    if isinstance(server, ChatArbiter):
        worker.mark(Flag.MANAGED)


def child_exited(settings: Settings, server: Any, worker: Any) -> None:
    """In the master, after a worker has died: expire its leases, unless it has released them.

    The work is done by a short-lived fork: the master neither waits for Redis nor has threads
    (which would not survive its next fork), and what the fork imports a reload can renew.
    """
    worker.board.erase(worker.age)
    if worker.has(Flag.CLEAN):
        return
    worker_deaths.add()
    if os.fork():
        return  # reaped by the arbiter's waitpid(-1) as a child it does not know
    done = False
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LAPSE_SECONDS)
        for listener in server.LISTENERS:
            listener.close()
        unset_environment(METRICS_DIR)  # it counts nothing, and takes no place from a worker
        from service.store.expire_leases import expire_leases

        count = expire_leases(settings, worker_name(worker.pid))
        log.warning("worker.died", pid=worker.pid, leases_lapsed=count)
        done = True
    finally:
        if not done:
            log.error("worker.aftermath_failed", pid=worker.pid, exc_info=True)
        os._exit(0)


def exiting() -> None:
    """Once, after the last worker."""
    directory = Path(environment().get(METRICS_DIR, ""))
    if directory.name.startswith(_METRICS_PREFIX):
        shutil.rmtree(directory, ignore_errors=True)


# -- the directory in which prometheus_client adds up the workers


def memory_dir(workers: int) -> str:
    """A directory in memory, or the usual one for temporary files.

    A process that writes into a mapped file of a full tmpfs is killed (SIGBUS): there has to be room.
    """
    shared = "/dev/shm"
    if not os.access(shared, os.W_OK | os.X_OK):
        return tempfile.gettempdir()
    found = os.statvfs(shared)
    free, need = found.f_bavail * found.f_frsize, workers * _WORKER_BYTES
    if free >= need:
        return shared
    instead = tempfile.gettempdir()
    log.warning("metrics.no_room", folder=shared, free_bytes=free, need_bytes=need, used=instead)
    return instead


_held: list[int] = []  # the lock on this master's directory; its workers inherit it


def make_metrics_dir(parent: Path) -> Path:
    """A new directory, locked for as long as this master or a worker of it lives.

    Directories that nobody locks were left by a master that was killed; they are removed. Another master that
    does so may take ours between its making and its lock: then we make another.
    """
    for left in parent.glob(f"{_METRICS_PREFIX}*"):
        with contextlib.suppress(OSError):
            descriptor = _locked(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(descriptor)
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_METRICS_PREFIX, dir=parent))
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            descriptor = _locked(directory)
            if directory.exists():
                _held.append(descriptor)
                return directory
            os.close(descriptor)


def _locked(directory: Path) -> int:
    """The descriptor that holds the lock. Raises OSError when somebody else does."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
