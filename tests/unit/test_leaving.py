"""How a process leaves: what happens at which second, with a clock that a test's sleeps move."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from uvicorn.config import Config
from uvicorn.server import Server

from service.config.settings import Settings
from service.eventloop.leaving import Leaving
from service.serving import http_server
from service.serving.http_protocol import BoundedHttp
from service.serving.http_server import ChatServer
from tests.support.logged import logged_by

BEGIN = 1_000.0
# No test here has more to do: what takes longer has no end.
MOST = 1_000
# A tick of the server and the moments between: what is due at a second has happened by then.
LATE = 0.11


class Clock:
    """The time of the loop as the server's module sees it; `at` is what happens from outside."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = BEGIN
        self.turns = 0  # of the loop, without any time
        self._due: list[tuple[float, Callable[[], object]]] = []
        loop = SimpleNamespace(time=lambda: self.now)
        seen = SimpleNamespace(
            get_running_loop=lambda: loop, sleep=self._sleep, wait=self._wait, create_task=asyncio.create_task
        )
        monkeypatch.setattr(http_server, "asyncio", seen)

    @property
    def gone(self) -> float:
        return self.now - BEGIN

    def at(self, second: float, action: Callable[[], object]) -> None:
        self._due.append((BEGIN + second, action))

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.turns += seconds == 0
        assert self.gone < MOST, "it never ends"
        for moment in [due for due in self._due if due[0] <= self.now]:
            self._due.remove(moment)
            moment[1]()
        await asyncio.sleep(0)

    async def _wait(self, tasks: Any, timeout: float) -> None:
        for _ in range(5):  # what is ready goes first
            await asyncio.sleep(0)
        if not all(task.done() for task in tasks):
            await self._sleep(timeout)


class Connection(BoundedHttp):
    def __init__(self, desk: Desk, *, busy: bool = False) -> None:
        self.desk = desk
        self.cycle = cast(Any, SimpleNamespace(response_complete=not busy))
        self.closed: float | None = None
        desk.server.server_state.connections.add(self)

    def answered(self) -> None:
        self.cycle.response_complete = True

    def shutdown(self) -> None:
        self.closed = self.desk.clock.gone
        self.desk.server.server_state.connections.discard(self)


class Desk:
    """A server that serves nobody, with what it does and when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        self.clock = Clock(monkeypatch)
        self.lines = logged_by(http_server, monkeypatch)
        self.whole = True
        self.patient = False
        self.left: list[float] = []
        self.set_at: float | None = None
        self.listener_closed: list[float] = []
        values = {"drain_delay_seconds": 5, "drain_seconds": 60, "turn_timeout_seconds": 600, **more}
        self.server = ChatServer(
            Config("nothing", log_config=None),
            Settings(_env_file=None, **values),
            replica_leaves=lambda: self.whole,
            on_leaving=lambda: self.left.append(self.clock.gone),
            patient=lambda: self.patient,
        )
        self.server.config.encoded_headers = [(b"x-kept", b"1")]
        self.server.lifespan = cast(Any, SimpleNamespace(state={}, error_occurred=False))
        self.server.servers = [
            cast(Any, SimpleNamespace(close=lambda: self.listener_closed.append(self.clock.gone)))
        ]
        self.leaving = self.server.leaving = Leaving()
        told = self.leaving.set

        def note() -> None:
            self.set_at = self.clock.gone if self.set_at is None else self.set_at
            told()

        monkeypatch.setattr(self.leaving, "set", note)

    @property
    def deadline(self) -> float:
        return self.leaving.deadline - BEGIN


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


def soon(second: float) -> Any:
    """This second, or a tick later."""
    return pytest.approx(second + LATE / 2, abs=LATE)


async def test_a_replica_refuses_at_once_and_listens_for_the_delay(desk: Desk) -> None:
    idle, busy = Connection(desk), Connection(desk, busy=True)
    desk.clock.at(20, busy.answered)
    await desk.server._leave()
    assert (desk.set_at, desk.leaving.refusing) == (0, True)
    assert desk.deadline == 5 + 60
    assert desk.listener_closed == [soon(5)]
    assert idle.closed == soon(5 + 2 + 2)
    assert busy.closed == soon(20 + 2)
    assert [(line["event"], line["replica_leaves"], line["connections"]) for line in desk.lines] == [
        ("server.leaving", True, 2)
    ]


async def test_what_the_kernel_has_queued_is_accepted_before_the_listener_closes(desk: Desk) -> None:
    turns: list[int] = []
    desk.server.servers = [cast(Any, SimpleNamespace(close=lambda: turns.append(desk.clock.turns)))]
    await desk.server._leave()
    assert turns == [3]


async def test_from_the_first_step_on_responses_ask_their_clients_to_close(desk: Desk) -> None:
    seen: list[Any] = []
    desk.clock.at(1, lambda: seen.append(dict(desk.server.server_state.default_headers)))
    await desk.server._leave()
    assert (seen[0][b"connection"], seen[0][b"x-kept"]) == (b"close", b"1")


async def test_without_connections_a_process_waits_for_nothing_but_the_delay(desk: Desk) -> None:
    await desk.server._leave()
    assert desk.clock.gone == soon(5)


async def test_a_worker_alone_closes_its_listener_first_and_refuses_nothing(desk: Desk) -> None:
    desk.whole = False
    idle = Connection(desk)
    await desk.server._leave()
    assert desk.listener_closed == [0]
    assert (desk.set_at, desk.leaving.refusing) == (soon(2), False)
    assert idle.closed == soon(4)
    assert desk.deadline == 2 + 60


async def test_a_worker_that_leaves_alone_turns_away_what_is_new_when_the_replica_goes_too(
    desk: Desk,
) -> None:
    desk.whole = False
    Connection(desk)
    desk.clock.at(1, lambda: setattr(desk, "whole", True))
    await desk.server._leave()
    assert (desk.set_at, desk.leaving.refusing) == (soon(1), True)


async def test_an_answer_is_waited_for_until_the_deadline_and_no_longer(desk: Desk) -> None:
    busy = Connection(desk, busy=True)
    await desk.server._leave()
    assert desk.clock.gone == soon(65)
    assert busy.closed is None


async def test_a_kept_connection_may_bring_another_request_within_its_two_seconds(desk: Desk) -> None:
    kept = Connection(desk, busy=True)
    desk.clock.at(20, kept.answered)
    desk.clock.at(21, lambda: setattr(kept.cycle, "response_complete", False))
    desk.clock.at(30, kept.answered)
    await desk.server._leave()
    assert kept.closed == soon(32)


async def test_who_is_told_to_end_at_once_waits_for_nobody(desk: Desk) -> None:
    Connection(desk, busy=True)
    desk.clock.at(1, lambda: desk.server.handle_quit(signal.SIGQUIT, None))
    await desk.server._leave()
    assert desk.clock.gone == soon(1)


async def test_a_recycled_worker_has_as_long_as_a_turn(desk: Desk) -> None:
    desk.whole, desk.patient = False, True
    await desk.server._leave()
    assert desk.deadline == 2 + 600


async def test_once_something_presses_a_recycled_worker_has_as_long_as_a_drain(desk: Desk) -> None:
    desk.patient = desk.server._waits = True
    desk.leaving.deadline = BEGIN + 602
    desk.clock.at(100, lambda: setattr(desk, "patient", False))
    await desk.server._heartbeat()
    assert desk.deadline == 100 + 60
    assert [(line["event"], line["seconds"]) for line in desk.lines] == [("server.pressed", 60)]


async def test_a_press_near_the_end_gives_no_more_time(desk: Desk) -> None:
    desk.server._waits = True
    desk.leaving.deadline = BEGIN + 10
    beating = asyncio.create_task(desk.server._heartbeat())
    await asyncio.sleep(0)
    assert desk.deadline == 10
    beating.cancel()


async def test_the_heartbeat_goes_on_for_eight_seconds_beyond_the_deadline(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[float] = []

    async def beat(counter: int) -> bool:
        beats.append(desk.clock.gone)
        return False

    monkeypatch.setattr(desk.server, "on_tick", beat)
    desk.leaving.deadline = BEGIN + 3
    await desk.server._heartbeat()
    assert beats == list(range(11))


async def test_requests_beyond_the_deadline_are_cut_and_awaited(desk: Desk) -> None:
    ends: list[float] = []

    async def request() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ends.append(desk.clock.gone)
            raise

    tasks = [asyncio.create_task(request()) for _ in range(2)]
    desk.server.server_state.tasks.update(tasks)
    desk.leaving.deadline = BEGIN + 4
    await desk.server._wait_tasks_to_complete()
    assert ends == [soon(4), soon(4)]
    assert [(line["event"], line["requests"]) for line in desk.lines] == [("server.requests_cut", 2)]


async def test_requests_that_end_in_time_are_not_cut(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def done(self: Server) -> None: ...

    monkeypatch.setattr(Server, "_wait_tasks_to_complete", done)
    desk.leaving.deadline = BEGIN + 4
    await desk.server._wait_tasks_to_complete()
    assert (desk.clock.gone, desk.lines) == (soon(0), [])


@pytest.mark.parametrize(
    ("forced", "broken", "clean"), [(False, False, True), (True, False, False), (False, True, False)]
)
async def test_an_end_is_clean_where_the_application_has_ended_as_it_should(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, forced: bool, broken: bool, clean: bool
) -> None:
    async def shutdown(self: Server, sockets: Any) -> None:
        desk.server.force_exit = forced
        desk.server.lifespan.error_occurred = broken

    monkeypatch.setattr(Server, "shutdown", shutdown)
    assert desk.server.clean is False
    await desk.server.shutdown()
    assert desk.server.clean is clean
    assert desk.left == [0]  # a replacement is wanted from the first moment on
    beating = [task for task in asyncio.all_tasks() if task.get_name() == "drain-heartbeat"]
    await asyncio.gather(*beating, return_exceptions=True)
    assert all(task.cancelled() for task in beating)


async def test_the_application_sees_that_it_leaves(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ready: list[bool] = []

    async def startup(self: ChatServer, sockets: Any) -> None:
        ready.append(self.lifespan.state["leaving"] is self.leaving)

    monkeypatch.setattr(Server, "startup", startup)
    desk.server._on_ready = lambda: ready.append(True)
    await desk.server.startup()
    assert ready == [True, True]


async def test_what_clients_do_not_take_is_looked_at_each_second(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    Connection(desk)
    monkeypatch.setattr(http_server, "bound_unsent", lambda connections: looks.append(len(connections)))
    assert [await desk.server.on_tick(counter) for counter in (0, 2, 8, 10, 12)] == [False] * 5
    assert looks == [1, 1]


def test_a_signal_ends_the_server_and_is_not_raised_again(desk: Desk) -> None:
    raised: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: raised.append(number))
        for number in (signal.SIGTERM, signal.SIGQUIT)
    }
    try:
        ours = signal.getsignal(signal.SIGQUIT)
        with desk.server.capture_signals():
            signal.raise_signal(signal.SIGTERM)
            assert (desk.server.should_exit, desk.server.force_exit) == (True, False)
            signal.raise_signal(signal.SIGQUIT)
            assert (desk.server.should_exit, desk.server.force_exit) == (True, True)
        assert raised == []
        assert signal.getsignal(signal.SIGQUIT) is ours
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_third_interrupt_ends_the_process(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    for _ in range(2):
        desk.server.handle_exit(signal.SIGINT, None)
    assert exits == []
    desk.server.handle_exit(signal.SIGTERM, None)
    assert exits == []
    desk.server.handle_exit(signal.SIGINT, None)
    assert exits == [130]
