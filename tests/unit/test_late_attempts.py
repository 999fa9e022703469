"""Which attempts are ended as too slow: those that a model keeps waiting, and no others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.engine import recovery
from service.engine.recovery import Recovery


class Attempt:
    def __init__(
        self, late_by: float | None, *, failing_since: float | None = None, signal: str | None = None
    ) -> None:
        now = asyncio.get_running_loop().time()
        self.deadline = None if late_by is None else (now - late_by, "idle_timeout")
        self.failing_since = failing_since
        self.signal = signal
        self.told: list[str] = []

    def interrupt(self, signal: str) -> None:
        self.told.append(signal)


async def test_silence_that_the_store_causes_is_not_the_model_s(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = [
        Attempt(60),
        Attempt(-60),
        Attempt(None),
        Attempt(60, failing_since=1.0),
        Attempt(60, signal="stop"),
    ]
    ticks = iter([0.0])

    async def sleep(seconds: float) -> float:
        try:
            return next(ticks)
        except StopIteration:
            raise asyncio.CancelledError from None

    monkeypatch.setattr(recovery, "aligned_sleep", sleep)
    running = SimpleNamespace(lives=lambda: attempts)
    admission = SimpleNamespace(note_lag=lambda late: None)
    none: Any = None
    with pytest.raises(asyncio.CancelledError):
        await Recovery(none, none, cast(Any, running), none, none, cast(Any, admission))._tick()
    assert [attempt.told for attempt in attempts] == [["idle_timeout"], [], [], [], []]
