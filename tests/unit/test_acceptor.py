"""Accepting from a socket that all workers share: stepping back, running out of descriptors, the end."""

from __future__ import annotations

import asyncio
import errno
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.serving import balanced_accept
from service.serving.balanced_accept import Acceptor, Board
from tests.support.logged import logged_by


class Listener:
    """A listening socket whose `accept` does what it is told to; the last for ever."""

    def __init__(self, *outcomes: Exception | str) -> None:
        self.outcomes = list(outcomes)
        self.number = 5

    def accept(self) -> tuple[str, None]:
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome, None

    def fileno(self) -> int:
        return self.number

    def setblocking(self, wanted: bool) -> None:
        assert wanted is False

    def close(self) -> None:
        self.number = -1


class Opening:
    """A connection that is being made, for ever."""

    def add_done_callback(self, callback: Any) -> None: ...


class Loop:
    """An event loop as an Acceptor uses one: what is looked at, what is due, what was taken in."""

    def __init__(self) -> None:
        self.readers: dict[int, Any] = {}
        self.due: list[tuple[float, Any]] = []
        self.cancelled = 0
        self.taken: list[str] = []

    def add_reader(self, number: int, callback: Any) -> None:
        self.readers[number] = callback

    def remove_reader(self, number: int) -> None:
        self.readers.pop(number, None)

    def call_later(self, seconds: float, callback: Any) -> Any:
        self.due.append((seconds, callback))
        return SimpleNamespace(cancel=self.cancel)

    def cancel(self) -> None:
        self.cancelled += 1

    def connect_accepted_socket(self, make_protocol: Any, connection: str) -> str:
        return connection

    def create_task(self, connection: str) -> Any:
        self.taken.append(connection)
        return Opening()


class Desk:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *outcomes: Exception | str) -> None:
        self.loop = Loop()
        monkeypatch.setattr(balanced_accept, "asyncio", SimpleNamespace(get_running_loop=lambda: self.loop))
        self.lines = logged_by(balanced_accept, monkeypatch)
        self.listener = Listener(*outcomes)
        self.board = Board()
        self.connections = 0
        self.acceptor = Acceptor(
            cast(Any, self.listener),
            asyncio.Protocol,
            count=lambda: self.connections,
            board=self.board,
            place=1,
        )


def test_a_worker_takes_one_connection_at_a_time_and_counts_those_that_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(monkeypatch, "a", "b", "c", "d", BlockingIOError())
    assert desk.board.mean() == 0
    for taken in (["a"], ["a", "b"], ["a", "b", "c"]):
        desk.loop.readers[5]()
        assert desk.loop.taken == taken
    assert desk.board.mean() == 2  # as many as there were when it looked last


def test_five_hundred_workers_have_a_place_each() -> None:
    board = Board()
    for place in range(512):
        board.write(place, place)
    assert board.mean() == 511 / 2


def test_one_that_stepped_back_takes_what_nobody_else_wanted_and_looks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(monkeypatch, "a", BlockingIOError())
    desk.board.write(2, 0)
    desk.connections = 9
    desk.loop.readers[5]()
    assert (desk.loop.taken, desk.loop.readers) == ([], {})
    [(seconds, forward)] = desk.loop.due
    assert seconds == 0.002
    forward()
    assert (desk.loop.taken, list(desk.loop.readers)) == (["a"], [5])


@pytest.mark.parametrize("error", [BlockingIOError(), ConnectionAbortedError()], ids=["taken", "gone"])
def test_a_connection_that_is_there_no_more_is_nothing(
    monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    desk = Desk(monkeypatch, error)
    desk.loop.readers[5]()
    assert (desk.loop.taken, desk.loop.due, desk.lines, list(desk.loop.readers)) == ([], [], [], [5])


def test_without_a_descriptor_a_worker_waits_half_a_second_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(monkeypatch, OSError(errno.EMFILE, "Too many open files"), "a", BlockingIOError())
    desk.loop.readers[5]()
    assert desk.loop.readers == {}
    [(seconds, forward)] = desk.loop.due
    assert seconds == 0.5
    assert [(line["event"], line["reason"]) for line in desk.lines] == [
        ("accept.failed", "[Errno 24] Too many open files")
    ]
    forward()
    assert desk.loop.taken == ["a"]


def test_at_its_end_it_takes_all_that_is_queued_and_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, "a", "b", BlockingIOError())
    desk.board.write(2, 4)
    desk.acceptor._step_back(0.002)
    desk.acceptor.close()
    assert desk.loop.taken == ["a", "b"]
    assert (desk.listener.number, desk.loop.readers, desk.loop.cancelled) == (-1, {}, 1)
    assert desk.board.mean() == 4  # it accepts no more, and is none of the workers
    desk.acceptor.close()
    assert desk.loop.cancelled == 1


async def test_what_begins_when_it_closes_is_waited_for() -> None:
    made: list[asyncio.BaseTransport] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)
            transport.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Acceptor(listener, Protocol, count=lambda: 0, board=Board(), place=1)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        acceptor.close()
        assert made == []
        await acceptor.wait_closed()
        assert len(made) == 3
        assert acceptor._opening == set()
        for client in clients:
            client.close()
