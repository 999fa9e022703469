"""The port of the metrics: who may read them, what is answered, and a process that ends with its master."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from service.config.settings import Settings
from service.telemetry import metrics_server
from service.telemetry.metrics_server import ExporterProcess, allows, serve_in_threads
from tests.support.logged import logged_by


def settings(token: str | None = None) -> Settings:
    return Settings(_env_file=None).model_copy(update={"metrics_token": token and SecretStr(token)})


@pytest.mark.parametrize(
    ("token", "header", "allowed"),
    [
        (None, "", True),
        (None, "Bearer other", True),
        ("t", "Bearer t", True),
        ("t", "bearer  t ", True),
        ("t", "", False),
        ("t", "Bearer other", False),
        ("t", "Bearer", False),
        ("t", "Basic t", False),
        ("t", "t", False),
        ("t", "Bearer \u00fc", False),
    ],
)
def test_a_token_is_asked_for_where_one_is_set(token: str | None, header: str, allowed: bool) -> None:
    assert allows(settings(token), header) is allowed


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def ask(listener: socket.socket, path: str = "/metrics", **headers: str) -> http.client.HTTPResponse:
    host, port = listener.getsockname()
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def test_the_port_answers_the_metrics_to_who_may_read_them_and_nothing_else(listener: socket.socket) -> None:
    serve_in_threads([listener], settings("t"))
    for path in ("/metrics", "/metrics?x=1"):
        answer = ask(listener, path, Authorization="Bearer t")
        text = answer.read().decode()
        kind = "text/plain; version=0.0.4; charset=utf-8"
        assert (answer.status, answer.headers["content-type"]) == (200, kind)
        assert (int(answer.headers["content-length"]), answer.headers["server"].strip()) == (
            len(text),
            "chat",
        )
        assert text.startswith("# HELP ")
    refused = ask(listener)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.read() == b"The metrics need a bearer token.\n"
    other = ask(listener, "/", Authorization="Bearer t")
    assert (other.status, other.read()) == (404, b"There is only /metrics here.\n")


def test_a_scraper_that_says_nothing_has_five_seconds() -> None:
    assert metrics_server._Handler.timeout == 5


# -- the process


class Gone(Exception):
    """The child has ended."""


def test_the_process_holds_no_socket_of_the_master_and_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    served: list[bool] = []

    def leave(status: int) -> None:
        raise Gone(status)

    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "_exit", leave)
    lines = logged_by(metrics_server, monkeypatch)
    exporter = ExporterProcess([], settings())
    monkeypatch.setattr(exporter, "_serve", lambda: served.append(True))
    foreign: Any = SimpleNamespace(close=lambda: closed.append("api"))
    with pytest.raises(Gone, match=r"^0$"):
        exporter.keep(foreign)
    assert (closed, served, lines) == (["api"], [True], [])

    def fail() -> None:
        raise OSError("no thread")

    monkeypatch.setattr(exporter, "_serve", fail)
    with pytest.raises(Gone, match=r"^0$"):
        exporter.keep(foreign)
    assert [line["event"] for line in lines] == ["metrics.exporter_failed"]


def test_it_serves_until_its_master_is_gone_and_only_the_master_ends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handlers: dict[int, Any] = {}
    parents = [1, 1, 2]
    looks: list[float] = []
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(os, "getppid", lambda: parents.pop(0))  # asked once more it fails
    monkeypatch.setattr(time, "sleep", looks.append)
    monkeypatch.setattr(metrics_server, "Path", lambda _: tmp_path / "comm")
    began: list[Any] = []
    monkeypatch.setattr(metrics_server, "serve_in_threads", lambda *given: began.append(given))
    told = settings()
    exporter = ExporterProcess([], told)
    exporter._master = 1
    exporter._serve()
    assert (looks, parents) == ([0.5, 0.5], [])
    assert began == [([], told)]
    by_the_master = [signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD]
    assert [handlers[number] for number in by_the_master] == [signal.SIG_DFL] * 3
    group = [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH]
    assert [handlers[number] for number in group] == [signal.SIG_IGN] * 5
    assert (tmp_path / "comm").read_text() == "chat-metrics"


def test_a_process_that_has_ended_is_started_again_and_costs_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pids = iter(range(1_000_000_001, 1_000_000_005))
    forks: list[int] = []
    pipes: list[tuple[int, int]] = []
    of_child: list[int] = []
    closed: list[int] = []
    signals: list[tuple[int, int]] = []
    make, close = os.pipe, os.close

    def pipe() -> tuple[int, int]:
        pipes.append(make())
        return pipes[-1]

    def fork() -> int:
        of_child.append(os.dup(pipes[-1][1]))  # the other side, which a child holds to its end
        forks.append(next(pids))
        return forks[-1]

    def close_it(number: int) -> None:
        closed.append(number)
        close(number)

    monkeypatch.setattr(os, "pipe", pipe)
    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(os, "close", close_it)
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    exporter = ExporterProcess([], settings())
    exporter.end()  # there is none
    for _ in range(3):
        closed.clear()
        exporter.keep()
        exporter.keep()  # it runs
        life, held = pipes[-1]
        assert closed == [held]
        new = settings("new")
        exporter.renew(new)
        assert exporter._settings is new
        close(of_child.pop())  # the child has ended
        exporter.end()  # and is sent nothing
        assert closed == [held, life]
    assert forks == [1_000_000_001, 1_000_000_002, 1_000_000_003]
    assert signals == [(pid, signal.SIGTERM) for pid in forks]
    exporter._master = 1  # a worker, which is a fork of the master and unwinds through its code
    exporter.keep()
    exporter.end()
    assert len(signals) == 3
    close(of_child.pop())
    assert not exporter._runs()
