"""Loops that sleep until moments of their process: together, and not together with another process."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import pytest

from service.eventloop import aligned_sleep as module
from service.eventloop.aligned_sleep import aligned_sleep


class Clock:
    """A loop's time that sleeps move, each a little too far."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: float, pid: int, late: float = 0.0) -> None:
        self.now = now
        self.late = late
        loop = SimpleNamespace(time=lambda: self.now)
        seen = SimpleNamespace(get_running_loop=lambda: loop, sleep=self.sleep)
        monkeypatch.setattr(module, "asyncio", seen)
        monkeypatch.setattr(os, "getpid", lambda: pid)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + self.late
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("now", "pid", "seconds", "until"),
    [
        (100.0, 0, 1.0, 101.0),  # at a moment of its own it waits for the next one
        (100.25, 0, 1.0, 101.0),
        (100.25, 0, 0.2, 100.4),
        (100.0, 1, 1.0, 100.971),  # 29 ms before the moments of process 0
        (100.0, 3, 1.0, 100.913),
        (100.0, 100, 1.0, 101.0),  # and spread over a tenth of a second
    ],
)
async def test_a_sleep_ends_at_the_next_moment_of_the_process(
    monkeypatch: pytest.MonkeyPatch, now: float, pid: int, seconds: float, until: float
) -> None:
    clock = Clock(monkeypatch, now, pid)
    assert await aligned_sleep(seconds) == pytest.approx(0, abs=1e-6)
    assert clock.now == pytest.approx(until)


async def test_it_tells_how_late_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, 100.25, 0, late=0.125)
    assert await aligned_sleep(1.0) == pytest.approx(0.125)
    Clock(monkeypatch, 100.25, 0, late=-0.125)  # a timer that fires early is none that is late
    assert await aligned_sleep(1.0) == 0
