"""The nginx of compose, as its start script starts it: it follows the addresses of the replicas by itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.deploy import programs
from tests.support.redis import free_port
from tests.support.running import ROOT, children
from tests.support.waiting import eventually

SOURCE = ROOT / "deploy" / "nginx"
pytestmark = pytest.mark.timeout(300)  # the first of these tests installs nginx


class NameServer:
    """Answers each question for an address with `addresses`, for ten minutes; with none: no such name."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            asked, client = self._socket.recvfrom(512)
            if not asked:
                return self._socket.close()
            end = asked.index(b"\0", 12) + 5  # the name, its type and class
            given = [socket.inet_aton(address) for address in self.addresses]
            head = struct.pack(">HHHHH", 0x8180 if given else 0x8183, 1, len(given), 0, 0)
            records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\2\x58\0\4" + address for address in given)
            self._socket.sendto(asked[:2] + head + asked[12:end] + records, client)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as farewell:
            farewell.sendto(b"", ("127.0.0.1", self.port))


class Replica:
    """Says its address; a stream ends when it is told to."""

    def __init__(self, address: str, port: int) -> None:
        self.end = end = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                said = address.encode()
                self.send_header("Content-Length", str(len(said) * (2 if self.path == "/stream" else 1)))
                self.end_headers()
                self.wfile.write(said)
                if self.path == "/stream":
                    end.wait(60)
                    self.wfile.write(said)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer((address, port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.end.set()
        self._server.shutdown()
        self._server.server_close()


class Balancer:
    def __init__(self, directory: Path) -> None:
        self.names = NameServer()
        self.replicas_port = free_port()
        self.url = f"http://127.0.0.1:{free_port()}"
        text = (SOURCE / "nginx.conf").read_text()
        for old, new in {
            r"listen [^;]+;": f"listen {self.url.removeprefix('http://')};",
            r"resolver 127\.0\.0\.11 ": f"resolver 127.0.0.1:{self.names.port} ",
            r"server service:8000 ": f"server service:{self.replicas_port} ",
        }.items():
            text, found = re.subn(old, new, text)
            assert found == 1, old
        # As root nginx makes its workers somebody else, who may not enter the folders of a test.
        user = "user root;\n" if os.geteuid() == 0 else ""
        (directory / "nginx.conf").write_text(user + text)
        shutil.copytree(SOURCE / "newer", directory / "newer")
        program = directory / "nginx"
        program.write_text(f'#!/bin/sh\nexec {programs.newer_nginx()} -e stderr "$@"\n')
        program.chmod(0o755)
        self.process = subprocess.Popen(
            ["sh", str(SOURCE / "start.sh")],
            env={
                "PATH": f"{directory}:{os.environ['PATH']}",
                "NGINX_CONF": str(directory / "nginx.conf"),
                "NGINX_FOLDER": str(directory),
            },
            stdout=subprocess.DEVNULL,
        )

    def says(self) -> str:
        try:
            return httpx.get(f"{self.url}/", timeout=5).text
        except httpx.TransportError as error:
            return repr(error)


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Balancer]:
    running = Balancer(tmp_path)
    yield running
    running.process.terminate()
    running.process.wait(10)
    running.names.close()


@pytest.fixture
def replica(balancer: Balancer) -> Iterator[Callable[[str], Replica]]:
    started: list[Replica] = []

    def start(address: str) -> Replica:
        started.append(Replica(address, balancer.replicas_port))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_nginx_starts_before_the_first_replica_and_finds_it(
    balancer: Balancer, replica: Callable[[str], Replica]
) -> None:
    eventually(lambda: "No replica answers" in balancer.says(), within=15)
    replica("127.0.0.2")
    balancer.names.addresses = ["127.0.0.2"]
    eventually(lambda: balancer.says() == "127.0.0.2", within=20)


def test_nginx_follows_the_replicas_and_clients_keep_streams_and_connections(
    balancer: Balancer, replica: Callable[[str], Replica]
) -> None:
    old = replica("127.0.0.2")
    balancer.names.addresses = ["127.0.0.2"]
    eventually(lambda: balancer.says() == "127.0.0.2", within=20)
    with httpx.Client(base_url=balancer.url, timeout=30) as client, client.stream("GET", "/stream") as stream:
        text = stream.iter_text()
        assert next(text) == "127.0.0.2"
        with httpx.Client(base_url=balancer.url, timeout=30) as waiting:
            connection = waiting.get("/").extensions["network_stream"]
            replica("127.0.0.3")
            balancer.names.addresses = ["127.0.0.3"]
            eventually(lambda: {balancer.says() for _ in range(8)} == {"127.0.0.3"}, within=20)
            again = waiting.get("/")
            assert (again.text, again.extensions["network_stream"]) == ("127.0.0.3", connection)
        old.end.set()
        assert "".join(text) == "127.0.0.2"


def test_a_reload_keeps_the_connection_of_a_client_that_waits_for_its_next_request(
    balancer: Balancer, replica: Callable[[str], Replica]
) -> None:
    replica("127.0.0.2")
    balancer.names.addresses = ["127.0.0.2"]
    eventually(lambda: balancer.says() == "127.0.0.2", within=20)
    before = children(balancer.process.pid)

    def leaves(pid: int) -> bool:
        try:
            return "shutting down" in Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            return True  # it has left

    with httpx.Client(base_url=balancer.url, timeout=30) as waiting:
        connection = waiting.get("/").extensions["network_stream"]
        balancer.process.send_signal(signal.SIGHUP)
        eventually(lambda: all(map(leaves, before)), within=20)
        again = waiting.get("/")
        assert (again.status_code, again.extensions["network_stream"]) == (200, connection)


def test_nginx_ends_by_the_signal_of_compose_when_its_streams_have(
    balancer: Balancer, replica: Callable[[str], Replica]
) -> None:
    only = replica("127.0.0.2")
    balancer.names.addresses = ["127.0.0.2"]
    eventually(lambda: balancer.says() == "127.0.0.2", within=20)
    with httpx.stream("GET", f"{balancer.url}/stream", timeout=30) as stream:
        text = stream.iter_text()
        assert next(text) == "127.0.0.2"
        balancer.process.send_signal(signal.SIGQUIT)
        eventually(lambda: "ConnectError" in balancer.says(), within=10)
        only.end.set()
        assert "".join(text) == "127.0.0.2"
    assert balancer.process.wait(15) == 0
