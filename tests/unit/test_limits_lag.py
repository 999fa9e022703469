"""The measure of a standing event loop sees what stands."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.lag import watching


@pytest.mark.alone
async def test_a_blocked_loop_is_seen_and_a_waiting_one_is_not() -> None:
    async with watching() as lag:
        await asyncio.sleep(0.1)
    assert lag.worst < 0.05
    async with watching() as lag:
        await asyncio.sleep(0.02)
        time.sleep(0.2)  # noqa: ASYNC251 - what has to be seen
        await asyncio.sleep(0.02)
    assert 0.15 < lag.worst < 0.3
