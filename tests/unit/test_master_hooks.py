"""Hooks of Gunicorn's master: a worker that has ended, and the directory in which workers count."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.config.environment import METRICS_DIR, environment
from service.config.settings import Settings
from service.serving import master
from service.serving.worker import Flag
from service.store import expire_leases
from service.telemetry import worker_deaths
from service.telemetry.logs import worker_name
from tests.support.logged import logged_by
from tests.unit.test_master import Desk, Worker


def test_a_worker_is_managed_by_our_master_alone() -> None:
    ours, plain = Worker(1), Worker(2)
    master.forked(ours, Desk(1))
    master.forked(plain, SimpleNamespace())
    assert (ours.has(Flag.MANAGED), plain.has(Flag.MANAGED)) == (True, False)


@pytest.mark.parametrize(("flags", "deaths"), [([Flag.CLEAN], 0), ([], 1)], ids=["clean", "killed"])
def test_a_worker_that_did_not_end_as_it_should_is_a_death(
    monkeypatch: pytest.MonkeyPatch, flags: list[Flag], deaths: int
) -> None:
    forks: list[int] = []

    def fork() -> int:
        forks.append(1)
        return 7

    monkeypatch.setattr(os, "fork", fork)
    worker = Worker(3, *flags)
    before = worker_deaths.count()
    master.child_exited(Settings(_env_file=None), Desk(1), worker)
    assert worker.erased == [3]
    assert (worker_deaths.count() - before, len(forks)) == (deaths, deaths)


class Left(Exception):
    """The fork has ended."""


@pytest.mark.parametrize("fails", [False, True])
def test_the_leases_of_a_dead_worker_lapse_in_a_fork_that_holds_nothing_of_the_master(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    did: list[Any] = []

    def leave(status: int) -> None:
        raise Left(status)

    def expire(settings: Settings, name: str) -> int:
        did.append(("expire", name, METRICS_DIR in environment()))
        if fails:
            raise OSError("no store")
        return 2

    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(signal, "signal", lambda number, handler: did.append((number, handler)))
    monkeypatch.setattr(signal, "alarm", lambda seconds: did.append(("alarm", seconds)))
    monkeypatch.setattr(expire_leases, "expire_leases", expire)
    monkeypatch.setenv(METRICS_DIR, "/nowhere")
    lines = logged_by(master, monkeypatch)
    desk = Desk(1)
    desk.LISTENERS = [SimpleNamespace(close=lambda: did.append("close"))]
    worker = Worker(3)
    with pytest.raises(Left, match=r"^0$"):
        master.child_exited(Settings(_env_file=None), desk, worker)
    assert did == [
        (signal.SIGALRM, signal.SIG_DFL),
        ("alarm", 5),
        "close",
        ("expire", worker_name(worker.pid), False),
    ]
    told = [(line["event"], line["pid"], line.get("leases_lapsed")) for line in lines]
    assert told == [
        ("worker.aftermath_failed", worker.pid, None) if fails else ("worker.died", worker.pid, 2)
    ]


# -- the directory of the counts


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What /dev/shm is: may it be written to, and how many bytes are free."""

    def is_so(*, writable: bool, free: int) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: writable)
        monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))

    return is_so


def test_counts_are_kept_in_memory_where_there_is_room_for_all_workers(
    monkeypatch: pytest.MonkeyPatch, shared: Callable[..., None]
) -> None:
    lines = logged_by(master, monkeypatch)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/tmp-of-ours")
    need = 3 * 2 * 1024 * 1024
    shared(writable=True, free=need)
    assert master.memory_dir(3) == "/dev/shm"
    shared(writable=False, free=need)
    assert master.memory_dir(3) == "/tmp-of-ours"
    assert lines == []
    shared(writable=True, free=need - 4096)
    assert master.memory_dir(3) == "/tmp-of-ours"
    assert [(line["event"], line["free_bytes"], line["need_bytes"], line["used"]) for line in lines] == [
        ("metrics.no_room", need - 4096, need, "/tmp-of-ours")
    ]


def test_a_master_removes_what_nobody_holds_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held: list[int] = []
    monkeypatch.setattr(master, "_held", held)
    left, other = tmp_path / "chat-metrics-left", tmp_path / "others"
    left.mkdir()
    other.mkdir()
    first = master.make_metrics_dir(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([first, other])
    second = master.make_metrics_dir(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([first, second, other])
    os.close(held.pop(0))  # the first master and its workers have ended
    third = master.make_metrics_dir(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([second, third, other])
    for descriptor in held:
        os.close(descriptor)


def test_a_directory_that_another_master_took_before_its_lock_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(master, "_held", held := list[int]())
    lock, taken = master._locked, list[Path]()

    def slow(directory: Path) -> int:
        descriptor = lock(directory)
        if not taken:
            taken.append(directory)
            shutil.rmtree(directory)
        return descriptor

    monkeypatch.setattr(master, "_locked", slow)
    made = master.make_metrics_dir(tmp_path)
    assert made != taken[0]
    assert list(tmp_path.iterdir()) == [made]
    assert len(held) == 1
    os.close(held[0])


def test_a_start_makes_a_directory_beside_that_of_the_master_before_and_an_end_removes_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(master, "_held", held := list[int]())
    warned: list[Settings] = []
    monkeypatch.setattr(master, "warn_of", warned.append)
    before = tmp_path / "metrics" / "chat-metrics-before"
    monkeypatch.setenv(METRICS_DIR, str(before))
    settings = Settings(_env_file=None)
    master.starting(settings)
    made = Path(environment()[METRICS_DIR])
    assert made.parent == before.parent
    assert made.name.startswith("chat-metrics-")
    assert made.is_dir()
    assert warned == [settings]
    master.exiting()
    assert not made.exists()
    monkeypatch.setenv(METRICS_DIR, str(before.parent))  # somebody else's
    master.exiting()
    assert before.parent.is_dir()
    os.close(held[0])
