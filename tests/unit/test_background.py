"""Background work of a worker that has ended."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from service.engine.background import Apart, Background


async def test_what_comes_after_the_end_is_not_begun() -> None:
    background, begun = Background(), []

    async def work() -> None:
        begun.append("work")

    await background.task("before", work())
    await background.close()
    assert background.task("after", work()).cancelled()
    await asyncio.sleep(0)
    assert begun == ["work"]


async def test_the_end_ends_what_runs_once_too() -> None:
    background, ended = Background(), []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    background.loop("loop", lambda: work("loop"))
    background.task("task", work("task"))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await background.close()
    assert sorted(ended) == ["loop", "task"]


async def test_of_work_apart_one_of_a_name_runs_at_a_time_and_none_waits_for_another() -> None:
    background, begun, go_on = Background(), [], asyncio.Event()
    apart = Apart(background, "loop")

    async def work(name: str) -> None:
        begun.append(name)
        await go_on.wait()
        if name == "b":
            raise ValueError("nobody expected it")

    for name in ("a", "a", "b"):
        apart.start(name, partial(work, name))
    await asyncio.sleep(0)
    apart.collect()
    apart.start("a", partial(work, "a"))
    await asyncio.sleep(0)
    assert begun == ["a", "b"]
    go_on.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="nobody expected it"):
        apart.collect()
    apart.start("a", partial(work, "a"))
    await asyncio.sleep(0)
    assert begun == ["a", "b", "a"]
    await background.close()
