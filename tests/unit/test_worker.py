"""A worker under Gunicorn's master: what it tells, when another is to take its place, how it ends."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import signal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from gunicorn.arbiter import Arbiter
from uvicorn.config import Config
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from service.config.settings import Settings
from service.serving import worker
from service.serving.balanced_accept import Board
from service.serving.http_server import ChatServer
from service.serving.worker import ChatWorker, Flag, WorkerServer
from tests.support.logged import logged_by


class Own(ChatWorker):
    """A worker without a process; `woken` are signals to its master."""

    def __init__(self, *flags: Flag) -> None:
        self._page = mmap.mmap(-1, len(Flag))
        self.board = Board()
        self.age = 1
        self.max_requests = 20
        self.ppid = os.getppid()
        self.told = False
        for flag in flags:
            self.mark(flag)


def server_of(own: Own) -> WorkerServer:
    found = WorkerServer.__new__(WorkerServer)
    Server.__init__(found, Config("nothing", log_config=None))
    found.config.encoded_headers = []
    found.worker, found._recycled = own, False
    found._collector = cast(Any, SimpleNamespace(tick=lambda connections: None))
    return found


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


@pytest.mark.parametrize(
    ("flags", "orphaned", "whole"),
    [
        ((Flag.MANAGED,), False, False),
        ((Flag.MANAGED, Flag.LEAVING), False, False),
        ((Flag.MANAGED, Flag.REPLICA_LEAVES), False, True),
        ((), False, True),
        ((Flag.MANAGED,), True, True),
    ],
    ids=["serves", "goes alone", "goes with all", "stock master", "orphan"],
)
def test_the_whole_replica_goes_where_nobody_will_replace_a_worker(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[Flag, ...], orphaned: bool, whole: bool
) -> None:
    own = Own(*flags)
    own.ppid += orphaned
    assert server_of(own)._whole_replica() is whole


@pytest.mark.parametrize(
    ("recycled", "flags", "waits"),
    [
        (True, (), True),
        (False, (), False),
        (True, (Flag.HURRIED,), False),
        (True, (Flag.REPLICA_LEAVES,), False),
    ],
)
def test_only_a_recycled_worker_that_nobody_hurries_waits_beyond_a_drain(
    monkeypatch: pytest.MonkeyPatch, recycled: bool, flags: tuple[Flag, ...], waits: bool
) -> None:
    server = server_of(Own(Flag.MANAGED, *flags))
    server._recycled = recycled
    assert server._may_wait() is waits


async def test_a_worker_that_has_served_enough_asks_for_another_once_and_serves_on(
    monkeypatch: pytest.MonkeyPatch, woken: list[tuple[int, int]]
) -> None:
    lines = logged_by(worker, monkeypatch)
    own = Own(Flag.MANAGED)
    server = server_of(own)
    server.server_state.total_requests = 19
    assert (await server.on_tick(2), own.has(Flag.LEAVING), server._recycled) == (False, False, False)
    server.server_state.total_requests = 20
    for _ in range(2):
        assert (await server.on_tick(2), own.has(Flag.LEAVING), server._recycled) == (False, True, True)
    assert [(line["event"], line["requests"]) for line in lines] == [("worker.recycled", 20)]
    assert woken == [(own.ppid, signal.SIGCHLD)]


async def test_under_the_stock_master_a_worker_that_has_served_enough_goes(
    monkeypatch: pytest.MonkeyPatch, woken: list[tuple[int, int]]
) -> None:
    server = server_of(Own())
    server.server_state.total_requests = 20
    assert await server.on_tick(2) is True
    assert woken == []


async def test_a_worker_without_a_master_goes(
    monkeypatch: pytest.MonkeyPatch, woken: list[tuple[int, int]]
) -> None:
    lines = logged_by(worker, monkeypatch)
    own = Own(Flag.MANAGED)
    own.ppid += 1
    assert await server_of(own).on_tick(2) is True
    assert [line["event"] for line in lines] == ["worker.master_gone"]
    own.tell_master(Flag.LEAVING)
    assert own.has(Flag.LEAVING)
    assert woken == []  # another process may have its id by now


async def test_each_tick_tells_how_many_connections_there_are_and_each_second_may_collect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Own(Flag.MANAGED)
    server = server_of(own)
    collected: list[int] = []
    server._collector = cast(Any, SimpleNamespace(tick=collected.append))
    server.server_state.connections.update(cast(Any, {"a", "b", "c"}))
    for counter in (0, 2, 8, 10):
        await server.on_tick(counter)
    assert own.board.mean() == 3
    assert collected == [3, 3]


async def test_a_worker_serves_before_it_says_so_and_asks_for_another_when_it_leaves(
    monkeypatch: pytest.MonkeyPatch, woken: list[tuple[int, int]]
) -> None:
    did: list[Any] = []

    async def startup(self: ChatServer, sockets: Any) -> None:
        did.append(("startup", sockets))

    def acceptor(listener: str, protocol: Any, *, count: Any, board: Board, place: int) -> str:
        did.append((listener, count(), board is own.board, place))
        return f"acceptor of {listener}"

    monkeypatch.setattr(worker, "load_settings", lambda: Settings(_env_file=None))
    monkeypatch.setattr(ChatServer, "startup", startup)
    monkeypatch.setattr(worker, "Acceptor", acceptor)
    own = Own(Flag.MANAGED)
    own.config = Config("nothing", log_config=None)
    own.config.http_protocol_class = asyncio.Protocol
    server = WorkerServer(own)
    settle: Any = lambda: did.append(("settled", own.has(Flag.READY)))  # noqa: E731
    monkeypatch.setattr(server._collector, "settle", settle)
    server.servers = []
    server.server_state.connections.update(cast(Any, {"a"}))
    await server.startup(cast(Any, ["one", "two"]))
    assert did == [("startup", []), ("one", 1, True, 1), ("two", 1, True, 1), ("settled", False)]
    assert [str(one) for one in server.servers] == ["acceptor of one", "acceptor of two"]
    assert own.has(Flag.READY)
    assert woken == [(own.ppid, signal.SIGCHLD)]
    assert (server._replica_leaves(), server._patient()) == (False, False)
    server._recycled = True
    assert server._patient() is True
    assert not own.has(Flag.LEAVING)
    server._on_leaving()
    assert own.has(Flag.LEAVING)
    assert len(woken) == 2


@pytest.mark.parametrize(
    ("started", "clean", "forced", "ends"),
    [
        (True, True, False, "clean"),
        (True, False, False, "left"),
        (True, False, True, "at once"),
        (False, False, False, Arbiter.WORKER_BOOT_ERROR),
    ],
)
async def test_what_a_worker_tells_of_its_end(
    monkeypatch: pytest.MonkeyPatch, started: bool, clean: bool, forced: bool, ends: str | int
) -> None:
    class Ended:
        def __init__(self, worker: ChatWorker) -> None:
            self.started, self.clean, self.force_exit = started, clean, forced

        async def serve(self, sockets: list[Any]) -> None:
            assert sockets == ["socket"]

    exits: list[int] = []
    monkeypatch.setattr(worker, "WorkerServer", Ended)
    monkeypatch.setattr(os, "_exit", exits.append)
    own = Own(Flag.MANAGED)
    own.config, own.wsgi, own.sockets = SimpleNamespace(), "app", [SimpleNamespace(sock="socket")]
    if isinstance(ends, int):
        with pytest.raises(SystemExit) as ended:
            await own._serve()
        assert ended.value.code == ends
    else:
        await own._serve()
    assert own.has(Flag.CLEAN) is (ends == "clean")
    assert exits == ([0] if ends == "at once" else [])


def test_a_worker_logs_as_its_settings_say_and_no_line_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        ours.handlers, ours.propagate = [logging.NullHandler()], False
        ours.setLevel(logging.DEBUG)

    ours = logging.getLogger("uvicorn.error")
    before = ours.level, ours.handlers, ours.propagate
    monkeypatch.setattr(UvicornWorker, "__init__", init)
    try:
        ours.setLevel(logging.WARNING)
        ChatWorker()
        assert (ours.level, ours.handlers, ours.propagate) == (logging.WARNING, [], True)
    finally:
        ours.setLevel(before[0])
        ours.handlers, ours.propagate = before[1], before[2]
