"""Admission: so many places, a short line in order, and nobody who waits longer than a second."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from service.engine.admission import Admission
from service.errors import ServiceError


class Turns:
    """What runs, as the engine would count it."""

    def __init__(self, limit: int) -> None:
        self.running = 0
        self.admission = Admission(limit)

    async def begin(self) -> None:
        async with self.admission.place():
            self.running += 1
            self.admission.began()

    def end(self) -> None:
        self.running -= 1
        self.admission.ended()


async def refused(turns: Turns) -> None:
    with pytest.raises(ServiceError) as caught:
        await turns.begin()
    assert (caught.value.code, caught.value.status, caught.value.retry_after) == ("overloaded", 503, 1)


async def test_a_send_waits_for_a_place_and_gets_it_when_a_turn_ends() -> None:
    turns = Turns(2)
    await turns.begin()
    await turns.begin()
    waiting = asyncio.create_task(turns.begin())
    await asyncio.sleep(0)
    assert not waiting.done()
    turns.end()
    await waiting
    assert turns.running == 2


async def test_whoever_waits_longest_is_next() -> None:
    turns = Turns(60)
    for _ in range(60):
        await turns.begin()
    order: list[int] = []

    async def wait(number: int) -> None:
        await turns.begin()
        order.append(number)

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    for number in range(3):
        turns.end()
        await waiting[number]
    assert order == [0, 1, 2]


async def test_the_line_is_short_and_nobody_stands_in_it_for_more_than_a_second() -> None:
    turns = Turns(40)
    for _ in range(40):
        await turns.begin()
    begin = asyncio.get_running_loop().time()
    waiting = [asyncio.create_task(refused(turns)) for _ in range(2)]
    await asyncio.sleep(0)
    await refused(turns)
    assert asyncio.get_running_loop().time() - begin < 0.5
    await asyncio.gather(*waiting)
    assert asyncio.get_running_loop().time() - begin < 3


async def test_who_leaves_the_line_gives_the_place_on() -> None:
    turns = Turns(40)
    for _ in range(40):
        await turns.begin()
    gone, stays = asyncio.create_task(turns.begin()), asyncio.create_task(turns.begin())
    await asyncio.sleep(0)
    turns.end()  # the place is the first one's, who leaves at the same moment
    gone.cancel()
    await stays
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert turns.running == 40


async def test_a_begin_that_fails_gives_its_place_back() -> None:
    turns = Turns(1)
    with pytest.raises(ValueError, match="busy"):
        async with turns.admission.place():
            raise ValueError("busy")
    await turns.begin()
    assert turns.running == 1


async def test_a_late_event_loop_takes_no_new_send_until_it_has_caught_up() -> None:
    turns = Turns(10)
    turns.admission.note_lag(0.6)
    await turns.begin()  # late, but not yet for a second
    turns.admission.late_since = asyncio.get_running_loop().time() - 1
    turns.admission.note_lag(0.6)
    await refused(turns)
    turns.admission.note_lag(0.01)
    await turns.begin()
    assert turns.running == 2


async def test_who_waits_for_a_place_of_a_begin_that_fails_gets_it() -> None:
    turns, failing = Turns(1), asyncio.Event()

    async def fail() -> None:
        with contextlib.suppress(ValueError):
            async with turns.admission.place():
                await failing.wait()
                raise ValueError

    first = asyncio.create_task(fail())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(turns.begin())
    await asyncio.sleep(0)
    failing.set()
    await asyncio.wait_for(asyncio.gather(first, waiting), 0.9)
    assert turns.running == 1
