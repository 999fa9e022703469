"""A handoff: who waits goes on at once where that is possible, and in asyncio's way where it is not."""

from __future__ import annotations

import asyncio
from contextvars import copy_context

import pytest

from service.eventloop.inline_future import InlineFuture


class Waiting:
    """A task that awaits a handoff; `said` is what has happened, in order."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.handoff: InlineFuture[str] = InlineFuture()
        self.task = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        self.said.append("waits")
        try:
            self.said.append(await self.handoff)
        except ValueError:
            self.said.append("failed")

    def bring(self, result: str) -> None:
        self.said.append("before")
        self.handoff.set_result(result)
        self.said.append("after")


async def test_a_result_that_a_callback_brings_is_used_before_the_callback_ends() -> None:
    waiting = Waiting()
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(waiting.bring, "result")
    await waiting.task
    assert waiting.said == ["waits", "before", "result", "after"]


async def test_a_result_that_a_task_brings_is_used_when_that_task_rests() -> None:
    waiting = Waiting()
    await asyncio.sleep(0)
    waiting.bring("result")
    assert waiting.said == ["waits", "before", "after"]
    await waiting.task
    assert waiting.said[3:] == ["result"]


async def test_a_failure_is_handed_over_like_a_result() -> None:
    waiting = Waiting()
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(waiting.handoff.set_exception, ValueError())
    await waiting.task
    assert waiting.said == ["waits", "failed"]


async def test_a_wait_that_runs_out_is_a_timeout() -> None:
    handoff: InlineFuture[None] = InlineFuture()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await handoff
    assert handoff.cancelled()


async def test_others_may_look_on() -> None:
    waiting = Waiting()
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting.handoff.add_done_callback(lambda handoff: seen.set_result(handoff.result()))
    await asyncio.sleep(0)
    waiting.bring("result")
    assert await seen == "result"
    await waiting.task
    assert waiting.said[-1] == "result"


async def test_a_result_that_is_there_already_is_not_waited_for() -> None:
    waiting = Waiting()
    waiting.bring("result")
    await waiting.task
    assert waiting.said == ["before", "after", "waits", "result"]


async def test_who_comes_after_the_result_is_called_all_the_same() -> None:
    future: InlineFuture[int] = InlineFuture()
    future.set_result(1)
    called: list[int] = []
    future.add_done_callback(lambda done: called.append(done.result()), context=copy_context())
    await asyncio.sleep(0)
    assert called == [1]
