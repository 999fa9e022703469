"""Gunicorn's master with workers that are only flags: who is started, told to go, waited for."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from gunicorn.app.base import Application
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from service.config.settings import Settings, SettingsError
from service.serving import master
from service.serving.master import ChatApplication, ChatArbiter
from service.serving.worker import Flag
from tests.support.logged import logged_by

# No process has so large an id.
_PIDS = 1_000_000_000

READY, LEAVING, HURRIED = Flag.READY, Flag.LEAVING, Flag.HURRIED


class Worker:
    """What the master knows of one."""

    def __init__(self, age: int, *flags: Flag) -> None:
        self.age = age
        self.pid = _PIDS + age
        self.flags = set(flags)
        self.told = False
        self.board = SimpleNamespace(erase=lambda age: self.erased.append(age))
        self.erased: list[int] = []

    def has(self, flag: Flag) -> bool:
        return flag in self.flags

    def mark(self, flag: Flag) -> None:
        self.flags.add(flag)


class Cfg(dict[str, Any]):
    """Of Gunicorn's settings those that the master sets."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def set(self, name: str, value: Any) -> None:
        self[name] = value


class Desk(ChatArbiter):
    """An arbiter without processes: what it starts and whom it signals."""

    def __init__(self, count: int, *workers: Worker) -> None:
        self.app = SimpleNamespace(exporter=None, grace=75)
        self.cfg = Cfg(graceful_timeout=75)
        self._num_workers = count
        self.WORKERS = {worker.pid: worker for worker in workers}
        self.LISTENERS = [SimpleNamespace(getsockname=lambda: ("0.0.0.0", 8000), sock="socket")]
        self.spawned = 0

    def spawn_worker(self) -> None:
        self.spawned += 1


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(age of a worker, signal) of all that was sent."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(
        Arbiter, "kill_worker", lambda self, pid, sig: sent.append((pid - 1_000_000_000, sig))
    )
    return sent


def test_what_leaves_is_replaced_at_once_and_told_to_go_once_when_its_replacement_serves(
    signals: list[tuple[int, int]],
) -> None:
    leaving, staying = Worker(1, READY, LEAVING), Worker(2, READY)
    desk = Desk(2, leaving, staying)
    desk.manage_workers()
    assert (desk.spawned, signals) == (1, [])
    fresh = Worker(3)
    desk.WORKERS[fresh.pid] = fresh
    desk.manage_workers()
    assert (desk.spawned, signals) == (1, [])  # it boots
    fresh.mark(READY)
    desk.manage_workers()
    desk.manage_workers()
    assert (desk.spawned, signals) == (1, [(1, signal.SIGTERM)])


def test_of_too_many_that_serve_the_oldest_go(signals: list[tuple[int, int]]) -> None:
    workers = [Worker(age, READY) for age in (3, 1, 2)]
    desk = Desk(1, *workers)
    desk.manage_workers()
    assert signals == [(1, signal.SIGTERM), (2, signal.SIGTERM)]
    assert [worker.has(LEAVING) for worker in workers] == [False, True, True]
    assert desk.spawned == 0


def test_as_many_wait_for_their_answers_as_there_are_workers_and_of_more_the_oldest_hurry(
    signals: list[tuple[int, int]],
) -> None:
    waiting = [Worker(age, READY, LEAVING) for age in (1, 2, 3)]
    for worker in waiting:
        worker.told = True
    desk = Desk(2, *waiting, Worker(4, READY), Worker(5, READY))
    desk.manage_workers()
    assert [worker.has(HURRIED) for worker in waiting] == [True, False, False]
    assert signals == []


def test_the_service_is_ready_once_when_all_workers_serve(
    monkeypatch: pytest.MonkeyPatch, signals: list[tuple[int, int]]
) -> None:
    lines = logged_by(master, monkeypatch)
    late = Worker(2)
    desk = Desk(2, Worker(1, READY), late)
    desk.manage_workers()
    assert lines == []
    late.mark(READY)
    desk.manage_workers()
    desk.manage_workers()
    assert [(line["event"], line["url"], line["workers"]) for line in lines] == [
        ("service.ready", "http://localhost:8000", 2)
    ]


def test_the_exporter_of_metrics_is_kept_and_holds_no_socket_of_the_api(
    signals: list[tuple[int, int]],
) -> None:
    kept: list[Any] = []
    desk = Desk(1, Worker(1, READY))
    desk.app.exporter = SimpleNamespace(keep=lambda *sockets: kept.append(sockets))
    desk.manage_workers()
    assert kept == [("socket",)]


def test_only_a_worker_that_is_asked_to_go_leaves_and_a_replica_that_ends_tells_all(
    monkeypatch: pytest.MonkeyPatch, signals: list[tuple[int, int]]
) -> None:
    asked, killed = Worker(1, READY), Worker(2, READY)
    desk = Desk(2, asked, killed)
    desk.kill_worker(asked.pid, signal.SIGTERM)
    desk.kill_worker(killed.pid, signal.SIGQUIT)
    desk.kill_worker(5, signal.SIGTERM)  # one that is reaped already
    assert (asked.has(LEAVING), killed.has(LEAVING)) == (True, False)
    assert len(signals) == 3
    ended: list[bool] = []
    monkeypatch.setattr(
        Arbiter,
        "stop",
        lambda self, graceful: ended.append(all(one.has(Flag.REPLICA_LEAVES) for one in (asked, killed))),
    )
    desk.stop()
    assert ended == [True]


def test_a_reload_waits_for_no_worker_and_a_stop_after_it_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(1)
    seen: list[int] = []

    def setup(self: Arbiter, app: Any) -> None:
        self.cfg.set("graceful_timeout", 75)  # the file is read again

    def reload(self: Arbiter) -> None:
        self.setup(self.app)
        seen.append(self.cfg.graceful_timeout)

    monkeypatch.setattr(Arbiter, "setup", setup)
    monkeypatch.setattr(Arbiter, "reload", reload)
    desk.reload()
    assert seen == [0]
    assert desk.cfg.graceful_timeout == 75
    desk.setup(desk.app)
    assert desk.cfg.graceful_timeout == 75


@pytest.mark.parametrize(
    ("others", "ends"),
    [([READY], False), ([READY, LEAVING], True), ([], True)],
    ids=["serves", "goes", "boots"],
)
def test_workers_that_cannot_boot_end_the_master_only_while_none_serves(
    monkeypatch: pytest.MonkeyPatch, signals: list[tuple[int, int]], others: list[Flag], ends: bool
) -> None:
    lines = logged_by(master, monkeypatch)
    desk = Desk(2, Worker(1, *others))
    halts = [HaltServer("Worker failed to boot.", 3)]

    def reap(self: Arbiter) -> None:
        if halts:
            raise halts.pop()

    monkeypatch.setattr(Arbiter, "reap_workers", reap)
    if ends:
        with pytest.raises(HaltServer):
            desk.reap_workers()
        assert lines == []
        return
    before = time.monotonic()
    desk.reap_workers()
    assert [(line["event"], line["reason"], line["retry_seconds"]) for line in lines] == [
        ("worker.boot_failed", "Worker failed to boot.", 5)
    ]
    assert before + 5 <= desk._not_before <= time.monotonic() + 5
    desk.manage_workers()
    assert desk.spawned == 0  # a boot costs a second of the processor
    desk._not_before = time.monotonic()
    desk.manage_workers()
    assert desk.spawned == 1


# -- the settings that a reload reads


class Exporter:
    def __init__(self) -> None:
        self.did: list[Any] = []

    def renew(self, settings: Settings) -> None:
        self.did.append(settings)

    def end(self) -> None:
        self.did.append("end")


def application(exporter: Exporter) -> ChatApplication:
    found = ChatApplication.__new__(ChatApplication)
    found.exporter, found.cfg = cast(Any, exporter), Cfg(bind=["127.0.0.1:8000"])
    return found


def test_a_reload_takes_new_settings_but_no_other_address(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = logged_by(master, monkeypatch)
    exporter = Exporter()
    app = application(exporter)
    new = Settings(_env_file=None)
    monkeypatch.setattr(master, "load_settings", lambda: new)
    addresses = [["127.0.0.1:8000"], ["127.0.0.1:9000"]]
    monkeypatch.setattr(Application, "reload", lambda self: self.cfg.set("bind", addresses.pop(0)))
    app.reload()
    assert (app.cfg.bind, lines, exporter.did) == (["127.0.0.1:8000"], [], [new])
    app.reload()
    assert (app.cfg.bind, exporter.did) == (["127.0.0.1:8000"], [new, new])
    assert [(line["event"], line["address"]) for line in lines] == [("reload.address_kept", "127.0.0.1:8000")]


def test_a_reload_with_wrong_settings_keeps_what_there_was(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = logged_by(master, monkeypatch)
    exporter = Exporter()
    app = application(exporter)

    def wrong() -> Settings:
        raise SettingsError("CHAT_WORKERS: is no number.")

    monkeypatch.setattr(master, "load_settings", wrong)
    app.reload()
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("reload.settings_kept", "CHAT_WORKERS: is no number.")
    ]
    assert exporter.did == []


def test_the_exporter_ends_with_the_master_however_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = Exporter()

    class Broken:
        def __init__(self, app: Any) -> None: ...

        def run(self) -> None:
            raise RuntimeError("no such user")

    monkeypatch.setattr(master, "ChatArbiter", Broken)
    with pytest.raises(SystemExit, match=r"^chat: no such user$"):
        application(exporter).run()
    assert exporter.did == ["end"]
