"""Background work of a worker that has ended."""

from __future__ import annotations

import asyncio

from service.engine.background import Background


async def test_what_comes_after_the_end_is_not_begun() -> None:
    background, begun = Background(), []

    async def work() -> None:
        begun.append("work")

    await background.task("before", work())
    await background.close()
    assert background.task("after", work()).cancelled()
    await asyncio.sleep(0)
    assert begun == ["work"]
