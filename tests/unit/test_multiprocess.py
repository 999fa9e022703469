"""Counts of several processes: added up, kept when one dies, never doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.telemetry import multiprocess, worker_deaths
from service.telemetry.multiprocess import Exposition
from tests.support.running import ROOT, clean_environment
from tests.support.scrape import Scrape

WORKER = """
import os, sys
from service.telemetry import metrics
for line in sys.stdin:
    name, _, argument = line.strip().partition(" ")
    if name == "fork" and os.fork() == 0:
        metrics.stops.inc()
        os._exit(0)
    elif name == "fork":
        os.wait()
    elif name == "run":
        metrics.turns_running.set(float(argument))
    else:
        metrics.stops.inc(float(argument))
        metrics.stop_duration.observe(0.003)
    print("done", flush=True)
"""


class Worker:
    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(PROMETHEUS_MULTIPROC_DIR=str(directory)),
            cwd=ROOT,
        )

    def do(self, what: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    started: list[Worker] = []

    def start() -> Worker:
        started.append(Worker(tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Scrape]:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    # Of its own: other tests of this process have workers die.
    monkeypatch.setattr(worker_deaths, "_PAGE", memoryview(bytearray(8)).cast("Q"))
    return lambda: Scrape(Exposition().text().decode())


def test_without_any_process_there_are_no_workers_and_no_deaths(read: Callable[[], Scrape]) -> None:
    assert (read().value("chat_workers"), read().value("chat_worker_deaths_total")) == (0, 0)


def test_processes_are_added_up(worker: Callable[[], Worker], read: Callable[[], Scrape]) -> None:
    first, second = worker(), worker()
    first.do("stop 3")
    second.do("stop 4")
    first.do("run 2")
    second.do("run 1")
    seen = read()
    assert seen.value("chat_stops_total") == 7
    assert seen.value("chat_stop_duration_seconds_count") == 2
    assert seen.value("chat_stop_duration_seconds_bucket", le="0.005") == 2
    assert seen.value("chat_turns_running") == 3


def test_the_dead_leave_their_counts_and_take_their_gauges_along(
    worker: Callable[[], Worker], read: Callable[[], Scrape]
) -> None:
    first, second = worker(), worker()
    for each in (first, second):
        each.do("stop 5")
        each.do("run 1")
    first.kill()
    seen = read()
    assert (seen.value("chat_stops_total"), seen.value("chat_turns_running")) == (10, 1)
    third = worker()
    third.do("stop 1")
    seen = read()
    assert (seen.value("chat_stops_total"), seen.value("chat_turns_running")) == (11, 1)


def test_many_deaths_leave_no_more_files_than_processes_at_once(
    worker: Callable[[], Worker], read: Callable[[], Scrape], tmp_path: Path
) -> None:
    for _ in range(5):
        pair = worker(), worker()
        for each in pair:
            each.do("stop 1")  # which has its place by then
        for each in pair:
            each.kill()
    assert read().value("chat_stops_total") == 10
    assert sorted(file.name for file in tmp_path.glob("counter_*")) == ["counter_0.db", "counter_1.db"]


def test_a_fork_counts_in_a_place_of_its_own(
    worker: Callable[[], Worker], read: Callable[[], Scrape], tmp_path: Path
) -> None:
    parent = worker()
    parent.do("stop 2")
    parent.do("fork")
    parent.do("stop 2")
    assert read().value("chat_stops_total") == 5
    assert sorted(file.name for file in tmp_path.glob("counter_*")) == ["counter_0.db", "counter_1.db"]


def test_series_with_known_labels_begin_at_zero(read: Callable[[], Scrape], tmp_path: Path) -> None:
    program = "from service.telemetry import metrics; metrics.prepare('1', ['m'])"
    environment = clean_environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True, timeout=30)
    seen = read()
    for outcome in ("completed", "stopped", "failed"):
        assert seen.value("chat_turns_ended_total", outcome=outcome) == 0
    assert seen.value("chat_turns_started_total") == 0
    assert seen.labels("chat_model_tokens_total", "model") == {"m"}


def test_a_scrape_has_all_that_was_counted_before_it_came(
    read: Callable[[], Scrape], worker: Callable[[], Worker]
) -> None:
    one = worker()
    exposition = Exposition()
    for count in range(1, 6):
        one.do("stop 1")
        assert Scrape(exposition.text().decode()).value("chat_stops_total") == count
    assert os.getpid() != one.process.pid


def test_scrapes_that_come_together_share_one_text(
    read: Callable[[], Scrape], worker: Callable[[], Worker]
) -> None:
    worker().do("stop 1")
    exposition = Exposition()
    came = time.monotonic()
    first = exposition.text(came)
    assert exposition.text(came) is first
    assert exposition.text() is not first


def test_scrapes_however_fast_take_a_tenth_of_a_thread(
    read: Callable[[], Scrape], monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = []

    def slowly(registry: CollectorRegistry) -> bytes:
        begun = time.monotonic()
        time.sleep(0.02)
        spent.append(time.monotonic() - begun)
        return b""

    monkeypatch.setattr("service.telemetry.multiprocess.generate_latest", slowly)
    exposition = Exposition()
    begun = time.monotonic()
    for _ in range(4):
        exposition.text()
    assert len(spent) == 4
    rests = [min(multiprocess._LONGEST_REST_SECONDS, 9 * one) for one in spent[:-1]]
    assert time.monotonic() - begun >= sum(spent) + sum(rests)
