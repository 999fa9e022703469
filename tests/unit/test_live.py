"""A turn while it runs: what an interruption ends, and what it leaves alone."""

from __future__ import annotations

import asyncio

import pytest

from service.engine.live import Interrupted, Live
from service.store.turn_records import Turn, TurnRef


def live() -> Live:
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
    return Live(turn, ("turn", "log"), None)


async def test_an_interruption_ends_what_the_block_awaits_and_the_task_goes_on() -> None:
    turn = live()
    asyncio.get_running_loop().call_soon(turn.interrupt, "stop")
    with pytest.raises(Interrupted), turn.interruptible():
        await asyncio.Event().wait()
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert (turn.signal, task.cancelling()) == ("stop", 0)


async def test_a_second_interruption_leaves_the_end_of_the_first_alone() -> None:
    turn = live()
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            turn.interrupt("fenced")
            await asyncio.sleep(0)
            ended.set()

    asyncio.get_running_loop().call_soon(turn.interrupt, "stop")
    with pytest.raises(Interrupted), turn.interruptible():
        await work()
    assert ended.is_set()
    assert turn.signal == "fenced"


async def test_what_comes_after_the_block_is_not_interrupted() -> None:
    turn = live()
    with turn.interruptible():
        await asyncio.sleep(0)
    turn.interrupt("stop")
    await asyncio.sleep(0)
    assert turn.signal == "stop"


async def test_a_task_that_is_cancelled_ends_although_its_turn_is_interrupted_too() -> None:
    turn = live()
    waiting = asyncio.Event()

    async def run() -> None:
        with turn.interruptible():
            waiting.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await waiting.wait()
    turn.interrupt("drain")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
