"""What a passed deadline ends, and what it leaves alone; and what a worker that leaves tells its engine."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from service.engine import recovery
from service.engine.drain import Drain
from service.engine.recovery import Recovery
from service.eventloop.leaving import Leaving


class Turn:
    def __init__(
        self, in_seconds: float | None, failing: float | None = None, signal: str | None = None
    ) -> None:
        now = asyncio.get_running_loop().time()
        self.deadline = None if in_seconds is None else (now + in_seconds, "idle_timeout")
        self.failing_since = failing
        self.signal = signal
        self.ended_by = ""

    def interrupt(self, signal: str) -> None:
        self.ended_by = signal


async def test_an_attempt_is_ended_that_is_too_slow_and_none_that_redis_makes_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late, soon, free = Turn(-1.0), Turn(60.0), Turn(None)
    held, stopping = Turn(-1.0, failing=1.0), Turn(-1.0, signal="stop")
    turns = [late, soon, free, held, stopping]
    ticks = 0

    async def tick(seconds: float) -> float:
        nonlocal ticks
        ticks += 1
        if ticks > 1:
            raise asyncio.CancelledError
        return 0.01

    monkeypatch.setattr(recovery, "aligned_sleep", tick)
    lags: list[float] = []
    running: Any = SimpleNamespace(lives=lambda: turns)
    admission: Any = SimpleNamespace(note_lag=lags.append)
    nothing: Any = None
    with pytest.raises(asyncio.CancelledError):
        await Recovery(nothing, nothing, running, nothing, nothing, admission)._tick()
    assert [one.ended_by for one in turns] == ["idle_timeout", "", "", "", ""]
    assert lags == [0.01]


@pytest.mark.parametrize("refusing", [True, False], ids=["the replica goes", "its worker is replaced"])
async def test_who_leaves_refuses_what_is_new_only_where_the_whole_replica_goes(refusing: bool) -> None:
    told: list[Any] = []

    async def idle() -> None:
        told.append("idle")

    async def release() -> None:
        told.append("released")

    leaving = Leaving()
    leaving.refusing, leaving.deadline = refusing, asyncio.get_running_loop().time() + 60
    leaving.set()
    engine: Any = SimpleNamespace(
        drain=lambda *, refuse: told.append(refuse), running=[], idle=idle, release=release
    )
    await Drain(engine, leaving).watch()
    assert told == [refusing, "idle", "released"]
