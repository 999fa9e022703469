"""A TCP line between a client and a server that a test can cut and mend."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType


class Line:
    """Listens at `url` and passes bytes on to a port; `cut()` ends all connections and refuses new ones."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self._port}"
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._dead = self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._thread.join(5)
        for end in [self._listener, *self._pairs]:
            end.close()
        self._selector.close()

    def cut(self) -> None:
        with self._lock:
            self._dead = True
            for end in list(self._pairs):
                self._drop(end)

    def mend(self) -> None:
        with self._lock:
            self._dead = False

    def _run(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(timeout=0.05):
                with self._lock:
                    self._serve(key.fileobj)  # type: ignore[arg-type]  # only sockets are registered

    def _serve(self, end: socket.socket) -> None:
        if end is self._listener:
            client, _ = end.accept()
            if self._dead:
                client.close()
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for one, other in ((client, server), (server, client)):
                self._pairs[one] = other
                self._selector.register(one, selectors.EVENT_READ)
        elif end in self._pairs:
            try:
                data = end.recv(65_536)
                if data:
                    self._pairs[end].sendall(data)
            except OSError:
                data = b""
            if not data:
                self._drop(end)

    def _drop(self, end: socket.socket) -> None:
        other = self._pairs.pop(end, None)
        if other is None:
            return
        self._pairs.pop(other, None)
        for one in (end, other):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
            one.close()
