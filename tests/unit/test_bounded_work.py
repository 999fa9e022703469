"""Work of a worker beside turns: how much of it at once, in which order, and what it shows of itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.engine import process_stats, titles
from service.engine.live_turns import LiveTurns
from service.engine.process_stats import ProcessStats
from service.engine.titles import Titles
from service.store.turn_records import Turn, TurnRef


def turn(number: int, state: str = "running", principal: str = "p") -> Turn:
    return Turn(TurnRef(principal, "s", f"t_{number}"), state, 1, 1, "m", "m_1", 2, 1, created=-number)


class Found:
    """A store that has these turns, and stops that note what they are asked for."""

    def __init__(self, *turns: Turn) -> None:
        self._turns = {turn.ref: turn for turn in turns}
        self.leases = SimpleNamespace(unsettled=self._unsettled)
        self.turns = SimpleNamespace(outlines=self._outlines)
        self.stopped: list[str] = []

    async def _unsettled(self, most: int) -> list[TurnRef]:
        return list(self._turns)

    async def _outlines(self, refs: list[TurnRef]) -> list[Turn]:
        return [self._turns[ref] for ref in refs]

    async def carry_out(self, ref: TurnRef) -> bool:
        self.stopped.append(ref.turn_id)
        return ref.turn_id != "t_9"

    def live(self) -> LiveTurns:
        return LiveTurns(self, self)  # type: ignore[arg-type]  # all that it calls


async def test_of_what_runs_those_are_found_that_are_asked_for_the_oldest_first() -> None:
    turns = (turn(1), turn(2, principal="q"), turn(3, "completed"), turn(4, "queued"))
    live = Found(*turns).live()

    async def found(**asked: str) -> list[str]:
        return [one.ref.turn_id for one in await live.find(**asked)]

    assert await found() == ["t_4", "t_2", "t_1"]
    assert await found(principal="p") == ["t_4", "t_1"]
    assert await found(turn_id="t_2") == ["t_2"]
    assert await found(principal="p", turn_id="t_2") == []


async def test_what_waits_is_stopped_before_what_it_waits_for() -> None:
    turns = [*(turn(n) for n in range(1, 21)), turn(30, "queued"), turn(31, "queued"), turn(9)]
    store = Found(*turns)
    stopped = await store.live().stop(turns)
    assert set(store.stopped[:2]) == {"t_30", "t_31"}
    assert len(store.stopped) == len(turns)
    assert "t_9" not in stopped


async def test_so_many_titles_are_looked_for_at_once_and_only_after_whole_answers() -> None:
    begun = 0

    def task(name: str, work: Any) -> asyncio.Future[None]:
        nonlocal begun
        begun += 1
        work.close()
        return asyncio.get_running_loop().create_future()

    background: Any = SimpleNamespace(task=task)
    nothing: Any = None
    model: Any = SimpleNamespace(id="m")
    looking = Titles(model, nothing, nothing, nothing, nothing, nothing, nothing, background)

    def ended(outcome: str, *text: str) -> Any:
        answer = SimpleNamespace(text=text)
        return SimpleNamespace(answer=answer, outcome=outcome, turn=turn(1))

    for live in (
        ended("stopped", "words"),
        ended("failed", "words"),
        ended("", "words"),
        ended("completed", " "),
    ):
        looking.after(live)
    assert begun == 0
    for _ in range(20):
        looking.after(ended("completed", "words"))
    assert begun == titles._AT_ONCE


async def test_a_worker_shows_its_memory_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def once(seconds: float) -> float:
        raise asyncio.CancelledError

    monkeypatch.setattr(process_stats, "aligned_sleep", once)
    store: Any = SimpleNamespace(settings=SimpleNamespace(redis_url=None))
    with pytest.raises(asyncio.CancelledError):
        await ProcessStats(store).run()
    if process_stats._STATM.exists():
        assert (REGISTRY.get_sample_value("chat_process_resident_bytes") or 0) > 10 * 2**20
