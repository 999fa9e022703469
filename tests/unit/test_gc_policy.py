"""When a worker looks for cycles, by what is freed and what is not."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator

import pytest

from service.serving.gc_policy import GcPolicy


class Knot:
    """Refers to itself: only the garbage gc_policy can free it."""

    def __init__(self) -> None:
        self.itself = self


def left_behind(number: int) -> weakref.ref[Knot]:
    """So many knots that nothing else refers to; the first of them."""
    first = weakref.ref(Knot())
    for _ in range(number):
        Knot()
    return first


@pytest.fixture
def collecting() -> Iterator[GcPolicy]:
    """A gc_policy that has settled, in a process that goes on without it."""
    thresholds = gc.get_threshold()
    found = GcPolicy()
    found.settle()
    try:
        yield found
    finally:
        gc.set_threshold(*thresholds)
        gc.collect()  # what was there before stays frozen (tests/conftest.py): this looks at the test's own


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float, used: float) -> None:
    """From now on the clocks are so much further: all time, and this thread's processor time."""
    now, thread = time.monotonic, time.thread_time
    monkeypatch.setattr(time, "monotonic", lambda: now() + seconds)
    monkeypatch.setattr(time, "thread_time", lambda: thread() + used)


def test_a_quiet_worker_frees_what_has_piled_up(
    collecting: GcPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    knot = left_behind(30_000)
    pass_time(monkeypatch, seconds=3600.0, used=1.0)
    collecting.tick(connections=0)
    assert knot() is None


def test_a_busy_worker_is_not_stopped_for_it(collecting: GcPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    knot = left_behind(30_000)
    pass_time(monkeypatch, seconds=10.0, used=1_000.0)
    collecting.tick(connections=0)
    assert knot() is not None


def test_a_few_objects_are_not_worth_a_look(collecting: GcPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    knot = left_behind(10)
    pass_time(monkeypatch, seconds=3600.0, used=1.0)
    collecting.tick(connections=0)
    assert knot() is not None


def test_what_open_connections_have_in_use_is_not_looked_at(
    collecting: GcPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5,000 idle readers are 940,000 objects and half a second of standstill, for nothing."""
    in_use = [Knot() for _ in range(30_000)]
    knot = left_behind(1)
    pass_time(monkeypatch, seconds=3600.0, used=1.0)
    collecting.tick(connections=len(in_use) // 200)
    assert knot() is not None
    left_behind(70_000)
    pass_time(monkeypatch, seconds=3600.0, used=1.0)
    collecting.tick(connections=len(in_use) // 200)
    assert knot() is None


def test_looks_take_a_thousandth_of_the_time(collecting: GcPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(30_000)
    pass_time(monkeypatch, seconds=3600.0, used=0.0)
    collecting.tick(connections=0)
    early = left_behind(30_000)
    pass_time(monkeypatch, seconds=0.5, used=0.0)
    collecting.tick(connections=0)
    assert early() is not None
    pass_time(monkeypatch, seconds=3600.0, used=0.0)
    collecting.tick(connections=0)
    assert early() is None


def test_a_worker_that_is_always_busy_looks_in_the_end(collecting: GcPolicy) -> None:
    assert left_behind(1_100_000)() is None
