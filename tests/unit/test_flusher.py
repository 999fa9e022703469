"""When a turn's deltas are written: the first at once, what follows by windows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from service import events
from service.config.settings import Settings
from service.engine.background import Background
from service.engine.flusher import Flusher
from service.engine.live import Interrupted, Live
from service.errors import StoreMoving, StoreRefusesWrites, StoreUnavailable
from service.store.log import FENCED, GONE, LOST, OK, STOP, Append, Log
from service.store.turn_records import Turn, TurnRef
from tests.support.waiting import eventually_async


class HeldLog:
    """A log whose answers come when the test says so."""

    def __init__(self) -> None:
        self.written: list[list[bytes]] = []
        self._answers: list[tuple[Callable[[list[Any] | None], None], int]] = []

    def start_append(self, appends: Sequence[Append], answered: Callable[[list[Any] | None], None]) -> bool:
        self.written += [list(append.payloads) for append in appends]
        self._answers.append((answered, len(appends)))
        return True

    def answer(self, code: int = OK) -> None:
        answered, count = self._answers.pop(0)
        answered([code] * count)


class Gate:
    def __init__(self) -> None:
        self.paused = False
        self.resumed = asyncio.Event()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.resumed.set()


def flushing(window: float) -> tuple[HeldLog, Flusher, Live]:
    log = HeldLog()
    flusher = Flusher(Settings(flush_window_seconds=window), cast(Log, log), Background())
    turn = Turn(
        ref=TurnRef("p", "s", "t_1"),
        state="running",
        epoch=1,
        attempt=0,
        model="m",
        user="m_1",
        pos=1,
        last=1,
        created=0,
    )
    return log, flusher, Live(turn, ("turn", "log"), None)


async def test_a_first_token_that_overtakes_the_note_of_its_attempt_is_written_when_that_has_landed() -> None:
    log, flusher, live = flushing(window=1)  # s: nothing here may wait for it
    live.add_event(events.ATTEMPT, {"attempt": 1, "model": "m"})
    flusher.put(live, urgent=True)
    live.add_text("Hel")
    flusher.put(live, urgent=True)
    assert len(log.written) == 1
    live.add_text("lo")
    flusher.put(live)
    log.answer()
    assert log.written[1:] == [[events.delta("Hello")]]


async def test_what_follows_a_first_token_is_left_to_the_kernel_until_that_is_in_the_log() -> None:
    log, flusher, live = flushing(window=0.02)
    gate = live.gate = Gate()
    live.add_text("Hello")
    flusher.put(live, urgent=True)
    assert (gate.paused, gate.resumed.is_set()) == (True, False)
    log.answer()
    assert gate.resumed.is_set()


async def test_what_comes_within_a_turns_first_window_is_read_as_it_comes_and_written_together() -> None:
    log, flusher, live = flushing(window=0.02)
    gate = live.gate = Gate()
    live.add_text("Hello")
    flusher.put(live, urgent=True)
    log.answer()
    gate.paused = False
    live.add_text(" you")
    flusher.put(live)
    live.add_text(" there")
    flusher.put(live)
    assert (gate.paused, len(log.written)) == (False, 1)
    await eventually_async(lambda: len(log.written) > 1)
    assert log.written == [[events.delta("Hello")], [events.delta(" you there")]]
    assert gate.paused  # until the window ends that has begun with this


async def test_a_turn_that_has_ended_within_its_first_window_writes_nothing_more() -> None:
    log, flusher, live = flushing(window=0.002)
    live.gate = Gate()
    live.add_text("Hello")
    flusher.put(live, urgent=True)
    log.answer()
    live.add_text(" you")
    flusher.put(live)
    live.ending = True
    await eventually_async(lambda: not flusher._opening)
    for _ in range(5):
        await asyncio.sleep(0)
    assert log.written == [[events.delta("Hello")]]
    assert live.unwritten() == [events.delta(" you")]


async def test_a_turns_first_window_is_short_and_an_answers_end_waits_for_none() -> None:
    log, flusher, live = flushing(window=1)
    gate = live.gate = Gate()
    live.add_text("Hello")
    flusher.put(live, urgent=True)
    assert gate.paused
    async with asyncio.timeout(5):
        await gate.resumed.wait()
    log.answer()
    live.add_text(" you")
    flusher.put_last(live)
    assert len(log.written) == 1
    await eventually_async(lambda: len(log.written) > 1)
    assert log.written[1:] == [[events.delta(" you")]]


async def test_what_a_turn_still_has_when_it_ends_is_left_to_its_seal() -> None:
    log, flusher, live = flushing(window=0.001)
    live.add_text("Hello")
    flusher.put_last(live)
    live.ending = True
    flusher.put(live)
    flusher.put(live, urgent=True)
    for _ in range(5):
        await asyncio.sleep(0)
    assert log.written == []
    assert live.unwritten() == [events.delta("Hello")]


def test_windows_of_few_turns_are_short_while_the_worker_has_time() -> None:
    async def windows() -> list[float]:
        _, flusher, _ = flushing(window=0.04)
        found = []
        for turns in (1, 5, 16, 100):
            flusher._gated = {flushing(window=0.04)[2] for _ in range(turns)}
            found.append(round(flusher._window_now() * 1e3, 2))
        flusher._busy = True
        return [*found, flusher._window_now() * 1e3]

    assert asyncio.run(windows()) == [8, 8, 20, 40, 40]


async def test_where_the_loop_is_late_up_to_three_groups_end_together() -> None:
    _, flusher, _ = flushing(window=1)  # s, a tenth of it for each group
    gates = []
    for _ in range(80):
        live = flushing(window=1)[2]
        live.gate = gate = Gate()
        gates.append(gate)
        live.add_text("Hello")
        flusher.put(live)
    first_three = [turns for group in list(flusher._groups)[:3] for turns in group]
    assert flusher._timer is not None
    flusher._timer.cancel()
    flusher._due -= 1.45  # more than three groups' time behind
    flusher._end_groups()
    ended = {gate for gate in gates if gate.resumed.is_set()}
    assert ended == {live.gate for live in first_three}
    assert 24 <= len(ended) < 80


class AwayLog:
    """A store that cannot be reached."""

    def start_append(self, appends: Sequence[Append], answered: Callable[[list[Any] | None], None]) -> bool:
        return False

    def by_server(self, items: Sequence[Any], key: object) -> dict[str, Sequence[Any]]:
        return {"": items}

    def __init__(self, error: StoreUnavailable | None = None) -> None:
        self.error = error or StoreUnavailable()
        self.tries = 0

    async def append(self, appends: Sequence[Append]) -> list[Any]:
        self.tries += 1
        raise self.error


async def test_what_is_held_while_the_store_is_away_is_given_up_in_the_end() -> None:
    _, _, live = flushing(window=0)
    background = Background()
    settings = Settings(store_hold_seconds=0.001)
    flusher = Flusher(settings, cast(Log, AwayLog()), background)
    live.add_text("one")
    flusher.put(live, urgent=True)
    await eventually_async(lambda: live.signal == "store", within=20)
    assert live.has_pending
    await background.close()


async def test_what_is_held_while_its_slot_is_moved_is_held_for_as_long_as_a_turn_may_take() -> None:
    _, _, live = flushing(window=0)
    background = Background()
    away = AwayLog(StoreMoving())
    flusher = Flusher(Settings(store_hold_seconds=0.001), cast(Log, away), background)
    live.add_text("one")
    flusher.put(live, urgent=True)
    await eventually_async(lambda: away.tries > 3, within=20)
    assert live.signal is None
    await background.close()


async def test_an_append_that_is_given_up_holds_up_no_release() -> None:
    _, _, live = flushing(window=0)
    background, away = Background(), AwayLog()
    asked = asyncio.Event()

    async def never(appends: Sequence[Append]) -> list[Any]:
        asked.set()
        await asyncio.Event().wait()
        return []

    away.append = never  # type: ignore[method-assign]
    flusher = Flusher(Settings(), cast(Log, away), background)
    live.add_text("one")
    flusher.put(live, urgent=True)
    async with asyncio.timeout(5):
        await asked.wait()
        assert live.in_flight
        await background.close()
        await live.landed()


async def test_of_a_turn_that_another_has_taken_nothing_more_is_asked_for() -> None:
    for code, signal in ((FENCED, "fenced"), (GONE, "gone"), (LOST, "lost"), (STOP, "stop")):
        log, flusher, live = flushing(window=0)
        live.add_text("one")
        flusher.put(live, urgent=True)
        log.answer(code)
        assert live.signal == signal


async def test_a_turn_that_is_told_to_stop_with_the_note_of_its_attempt_makes_no_call() -> None:
    log, flusher, live = flushing(window=0)
    calls = []

    async def attempt() -> None:
        with live.interruptible():
            live.add_event(events.ATTEMPT, {})
            flusher.put(live, urgent=True)
            await live.flushed()
            calls.append("made")

    task = asyncio.create_task(attempt())
    await asyncio.sleep(0)  # until it waits
    asyncio.get_running_loop().call_soon(log.answer, STOP)  # as a connection does
    with pytest.raises(Interrupted):
        await task
    assert calls == []


async def test_what_a_store_refuses_to_write_is_held_for_who_was_shown_something() -> None:
    for shown in (True, False):
        _, _, live = flushing(window=0)
        live.turn.shown = shown
        background, now = Background(), asyncio.get_running_loop().time()
        flusher = Flusher(Settings(store_hold_seconds=15), cast(Log, AwayLog()), background)
        live.add_event(events.ATTEMPT, {})
        live.failing_since = now - 2
        flusher._settle(live, StoreRefusesWrites("full"), now)
        assert live.signal == (None if shown else "store")
        await background.close()
