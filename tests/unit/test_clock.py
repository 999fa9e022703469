"""Redis's clock as a worker reckons it: not ahead of it, and believed as long as it can be true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import TypeVar

import pytest

from service.store.connection import clock as clock_module
from service.store.connection.clock import Clock

T = TypeVar("T")


class FakeRedis:
    """A server whose clock is `ahead` of ours, and which takes `slow` seconds to say so."""

    cluster = False

    def __init__(self) -> None:
        self.redis = self
        self.ahead = 1_000.0
        self.slow = 0.0

    async def time(self) -> tuple[int, int]:
        await asyncio.sleep(self.slow)
        now = time.monotonic() + self.ahead
        await asyncio.sleep(self.slow)
        return int(now), int(now % 1 * 1e6)

    async def run(self, operation: str, call: Awaitable[T]) -> T:
        return await call


@pytest.fixture
def fake() -> FakeRedis:
    return FakeRedis()


async def test_it_is_unknown_at_first_and_then_just_behind(fake: FakeRedis) -> None:
    clock = Clock(fake)  # type: ignore[arg-type]  # all that it calls
    assert clock.after(5) == 0
    await clock.look()
    off = clock.after(5) / 1000 - (time.monotonic() + 1_000 + 5)
    assert -0.05 < off <= 0


async def test_of_an_answer_that_took_long_it_is_not_ahead_either(
    fake: FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as it may be known: the time was read at the end of the call at the latest."""
    times = iter([10.0, 10.015])
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: next(times, 20.0)))

    async def told() -> tuple[int, int]:
        return 1_010, 0

    monkeypatch.setattr(fake, "time", told)
    clock = Clock(fake)  # type: ignore[arg-type]  # all that it calls
    await clock.look()
    assert clock.after(5) == 1_024_985  # and 1_025_000 if it was read at once


async def test_a_slow_answer_changes_nothing_that_may_still_be_true(fake: FakeRedis) -> None:
    clock = Clock(fake)  # type: ignore[arg-type]  # all that it calls
    await clock.look()
    fake.slow = 0.05
    fake.ahead += 0.01
    await clock.look()
    off = clock.after(0) / 1000 - (time.monotonic() + 1_000)
    assert -0.05 < off <= 0


@pytest.mark.parametrize("jump", [-30.0, 30.0])
async def test_a_clock_that_was_set_is_noticed_by_slow_answers_too(fake: FakeRedis, jump: float) -> None:
    clock = Clock(fake)  # type: ignore[arg-type]  # all that it calls
    await clock.look()
    fake.slow = 0.05
    fake.ahead += jump
    await clock.look()
    off = clock.after(0) / 1000 - (time.monotonic() + fake.ahead)
    assert abs(off) < 0.5
