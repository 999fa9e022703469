"""The metrics on a port of their own (CHAT_METRICS_PORT), away from the chat path.

Under our master a process of its own serves them: it reads the workers' files, so that a scrape takes
no time of a worker, and it is started again when it dies. In a service of one process it is a thread.
The listening socket outlives both. The only answer is to `GET /metrics`, with CHAT_METRICS_TOKEN
where that is set.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from service.config.settings import Settings
from service.telemetry.logs import get_logger

log = get_logger(__name__)

_CLIENT_SECONDS: Final = 5.0  # for a scraper to send its request, and to take its answer
_LOOK_SECONDS: Final = 0.5  # between two looks at whether the master still lives
# Signals for the master only. Ctrl-C goes to the whole group, and the master may still drain answers.
_OF_THE_MASTER: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGTTIN,
    signal.SIGTTOU,
)


def allows(settings: Settings, authorization: str) -> bool:
    """May this Authorization header read the metrics?"""
    token = settings.metrics_token
    if token is None:
        return True
    scheme, _, given = authorization.partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.get_secret_value().encode())
    return scheme.lower() == "bearer" and same


class _Server(ThreadingHTTPServer):
    """An HTTP server on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, settings: Settings, text: Callable[[], bytes]) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.settings = settings
        self.text = text


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_SECONDS
    server: _Server
    server_version = "chat"
    sys_version = ""

    def do_GET(self) -> None:
        from service.telemetry.multiprocess import CONTENT_TYPE

        if self.path.partition("?")[0] != "/metrics":
            self._answer(404, b"There is only /metrics here.\n", "text/plain")
        elif not allows(self.server.settings, self.headers.get("Authorization", "")):
            self._answer(
                401, b"The metrics need a bearer token.\n", "text/plain", ("WWW-Authenticate", "Bearer")
            )
        else:
            self._answer(200, self.server.text(), CONTENT_TYPE)

    def _answer(self, status: int, body: bytes, kind: str, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are no news."""


def serve_in_threads(listeners: Sequence[socket.socket], settings: Settings) -> None:
    """For the life of this process."""
    from service.telemetry.multiprocess import Exposition

    text = Exposition().text
    for listener in listeners:
        server = _Server(listener, settings, text)
        threading.Thread(
            target=server.serve_forever, args=(_LOOK_SECONDS,), name="metrics", daemon=True
        ).start()


class ExporterProcess:
    """A child of the master that serves the metrics. `keep` starts it, again if it has died."""

    def __init__(self, listeners: Sequence[socket.socket], settings: Settings) -> None:
        self._listeners = listeners
        self._settings = settings
        self._master = os.getpid()
        self._pid = 0
        self._life = (
            -1
        )  # a pipe whose other end only the child has: it is at its end when the child has ended

    def keep(self, *foreign: socket.socket) -> None:
        """Start it unless it runs. `foreign` are sockets of the master that it must not hold open."""
        if self._runs():
            return
        life, held = os.pipe()
        os.set_blocking(life, False)
        self._pid = os.fork()
        if self._pid:
            os.close(held)
            self._life = life
            return
        done = False
        try:
            for listener in foreign:
                listener.close()
            self._serve()
            done = True
        finally:
            if not done:
                log.error("metrics.exporter_failed", exc_info=True)
            os._exit(0)

    def renew(self, settings: Settings) -> None:
        """Let a new one, with new code and these settings, take its place."""
        self._settings = settings
        self.end()

    def end(self) -> None:
        """Called by the master. A worker, which is a fork and runs through the same code, ends nothing."""
        if os.getpid() == self._master and self._runs():
            os.kill(self._pid, signal.SIGTERM)

    def _runs(self) -> bool:
        if self._life < 0:
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(self._life, 1)
            os.close(self._life)
            self._life = -1
        return self._life >= 0

    def _serve(self) -> None:
        for number in _OF_THE_MASTER:
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        with contextlib.suppress(OSError):  # Linux: what ps and top call it
            Path("/proc/self/comm").write_text("chat-metrics")
        serve_in_threads(self._listeners, self._settings)
        while os.getppid() == self._master:
            time.sleep(_LOOK_SECONDS)  # threads serve; this one only looks for the master
