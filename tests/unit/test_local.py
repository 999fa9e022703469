"""What a local service starts for itself, and the sockets that it takes before anything else."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from service.cli import listening, local
from service.cli.listening import Refused, listen, listen_for_metrics
from service.config.settings import Settings
from service.store import embedded
from tests.support.logged import logged_by

SETTINGS = Settings(_env_file=None)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is handed to workers by the environment."""
    found: dict[str, str] = {}
    monkeypatch.setattr(local, "set_environment", found.__setitem__)
    return found


# -- the store


def test_a_private_store_is_announced_and_ends_with_us(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    lines = logged_by(local, monkeypatch)
    closed: list[int] = []
    store = SimpleNamespace(
        url="unix:///tmp/s",
        directory=Path("/tmp/d"),
        server=SimpleNamespace(name="valkey-server"),
        shared=False,
        close=lambda: closed.append(1),
    )
    monkeypatch.setattr(embedded, "start", lambda folder: store if folder == SETTINGS.data_dir else None)
    with ExitStack() as stack:
        local._start_store(SETTINGS, stack)
        assert closed == []
    assert closed == [1]
    assert told == {"CHAT_REDIS_URL": "unix:///tmp/s", "CHAT_STORE_KIND": "embedded"}
    assert [(line["event"], line["log_level"], line["folder"], line["server"]) for line in lines] == [
        ("store.embedded", "warning", "/tmp/d", "valkey-server")
    ]


def test_without_a_server_sessions_live_in_the_process_which_is_said(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    lines = logged_by(local, monkeypatch)
    monkeypatch.setattr(embedded, "start", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "fakeredis" or None)
    with ExitStack() as stack:
        local._start_store(SETTINGS, stack)
    assert told == {"CHAT_STORE_KIND": "memory"}
    assert [(line["event"], line["log_level"]) for line in lines] == [("store.memory", "warning")]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Refused, match=r"^CHAT_REDIS_URL is not set, and the store for local use"):
        local._start_store(SETTINGS, ExitStack())


def test_a_store_that_cannot_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise embedded.EmbeddedStoreError("The folder is not ours.")

    monkeypatch.setattr(embedded, "start", fail)
    with pytest.raises(Refused, match=r"^The folder is not ours\.$"):
        local._start_store(SETTINGS, ExitStack())


# -- the model


class Process:
    """The demo's process: what it prints, and how it ends."""

    def __init__(self, said: bytes, *, stubborn: bool = False) -> None:
        reader, writer = os.pipe()
        os.write(writer, said)
        os.close(writer)
        self.stdout = os.fdopen(reader, "rb")
        self.stubborn = stubborn
        self.did: list[str] = []

    def terminate(self) -> None:
        self.did.append("terminate")

    def kill(self) -> None:
        self.did.append("kill")

    def wait(self, seconds: float | None = None) -> None:
        self.did.append(f"wait {seconds}")
        if self.stubborn and seconds is not None:
            raise subprocess.TimeoutExpired("demo", seconds)


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_demo_is_a_process_of_its_own_that_ends_with_us(
    monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    process = Process(b"demo ready on http://127.0.0.1:9 (pid 7)\n", stubborn=stubborn)
    began: list[Any] = []

    def popen(command: list[str], **how: Any) -> Process:
        began.append((command, how))
        return process

    monkeypatch.setattr(subprocess, "Popen", popen)
    with ExitStack() as stack:
        assert local._start_demo(stack) == "http://127.0.0.1:9"
        assert process.did == []
    ends = ["terminate", "wait 3.0"]
    assert process.did == ([*ends, "kill", "wait None"] if stubborn else ends)
    [(command, how)] = began
    demo = [sys.executable, "-m", "service.demo", "--port", "0", "--parent-pid", str(os.getpid())]
    assert command == demo
    assert how == {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "start_new_session": True}


def test_a_demo_that_says_nothing_of_use_is_refused() -> None:
    for said in (b"", b"Traceback\n"):
        with pytest.raises(Refused, match=r"^The demo model did not start;"):
            local._ready_url(Process(said))  # type: ignore[arg-type]  # what is read of one


def test_made_up_text_is_announced(monkeypatch: pytest.MonkeyPatch, told: dict[str, str]) -> None:
    lines = logged_by(local, monkeypatch)
    local._use_demo("http://127.0.0.1:9")
    assert told == {"GROQ_BASE_URL": "http://127.0.0.1:9", "CHAT_UPSTREAM_KIND": "demo"}
    assert [(line["event"], line["log_level"], line["url"]) for line in lines] == [
        ("upstream.demo", "warning", "http://127.0.0.1:9")
    ]


def test_a_demo_that_is_named_is_used_and_none_started(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr(local, "_use_demo", used.append)
    monkeypatch.setattr(local, "_start_demo", lambda _: "http://started")
    given: dict[str, Any] = {"redis_url": "redis://h", "demo_url": "http://named"}
    monkeypatch.setattr(local, "load_settings", lambda: SETTINGS)
    for settings in (Settings(_env_file=None, **given), Settings(_env_file=None, redis_url="redis://h")):
        with local.surroundings(settings) as found:
            assert found is SETTINGS
    assert used == ["http://named", "http://started"]


def test_a_fork_ends_nothing_that_its_parent_started(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    monkeypatch.setattr(local, "_start_store", lambda _, stack: stack.callback(ended.append, "store"))
    monkeypatch.setattr(local, "load_settings", lambda: SETTINGS)
    pid = os.getpid()
    with local.surroundings(SETTINGS, demo=False):
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert ended == []
    monkeypatch.setattr(os, "getpid", lambda: pid)
    with local.surroundings(SETTINGS, demo=False):
        pass
    assert ended == ["store"]


# -- sockets


class Socket:
    """A socket whose `bind` fails with what stands for its address."""

    failures: ClassVar[dict[str, int]] = {}

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        self.family = family
        self.options: dict[tuple[int, int], int] = {}
        self.did: list[Any] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    def bind(self, address: tuple[str, int]) -> None:
        if (number := self.failures.get(address[0])) is not None:
            raise OSError(number, os.strerror(number))
        self.did.append(address)

    def listen(self, backlog: int) -> None:
        self.did.append(backlog)

    def close(self) -> None:
        self.did.append("close")
        closed.append(self)


closed: list[Socket] = []


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """The addresses of a host, and how binding them fails."""

    def are(*hosts: str, **failures: int) -> None:
        Socket.failures = {host.replace("six", "::1"): number for host, number in failures.items()}
        found = [
            (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 8000))
            for host in hosts
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    monkeypatch.setattr(socket, "socket", Socket)
    closed.clear()
    yield are
    Socket.failures = {}


def test_each_address_of_a_host_is_listened_on_once_and_may_be_taken_again_at_once(
    sockets: Callable[..., None],
) -> None:
    sockets("1.2.3.4", "1.2.3.4", "::1")
    bound: list[Any] = listen(SETTINGS, 8000)
    assert [one.did for one in bound] == [[("1.2.3.4", 8000), 16], [("::1", 8000), 16]]
    assert [one.options[socket.SOL_SOCKET, socket.SO_REUSEADDR] for one in bound] == [1, 1]
    only = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert [one.options.get(only) for one in bound] == [None, True]
    sockets("::")
    [one] = listen(SETTINGS, 8000)
    assert one.options[only] is False  # type: ignore[attr-defined]  # it takes IPv4 too


def test_an_address_that_this_machine_lacks_is_left_out_where_there_is_another(
    sockets: Callable[..., None],
) -> None:
    sockets("1.2.3.4", "::1", six=errno.EADDRNOTAVAIL)
    assert len(listen(SETTINGS, 8000)) == 1
    assert len(closed) == 1
    sockets("::1", six=errno.EADDRNOTAVAIL)
    with pytest.raises(Refused, match=r"^127\.0\.0\.1:8000 cannot be listened on .+: set CHAT_HOST and P\.$"):
        listen(SETTINGS, 8000, "P")


def test_a_port_in_use_and_a_host_that_is_none_are_a_sentence(
    sockets: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets("::1", six=errno.EADDRINUSE)
    with pytest.raises(
        Refused, match=r"^Port 8000 of 127\.0\.0\.1 is in use: stop what uses it, or set P\.$"
    ):
        listen(SETTINGS, 8000, "P")
    assert len(closed) == 1

    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        Refused, match=r"^CHAT_HOST 127\.0\.0\.1 is no address \(Name or service not known\)\.$"
    ):
        listen(SETTINGS, 8000)


def test_the_metrics_are_listened_for_where_they_have_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(listening, "listen", lambda *given: asked.append(given[1:]))
    assert listen_for_metrics(SETTINGS) == []
    assert asked == []
    listen_for_metrics(SETTINGS.model_copy(update={"metrics_port": 9464}))
    assert asked == [(9464, "CHAT_METRICS_PORT")]
