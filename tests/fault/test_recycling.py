"""CHAT_MAX_REQUESTS with the real application: answers that are longer than a drain."""

from __future__ import annotations

import asyncio

import pytest

from tests.double import expected_text
from tests.fault.conftest import Launch
from tests.support.processes import Replica
from tests.support.readers import client, follow, start_turn
from tests.support.sse import text_of
from tests.support.waiting import eventually, eventually_async

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]


async def recycle(replica: Replica, times: int) -> None:
    """Ask until so many workers have left in all, and another serves."""

    async def left() -> bool:
        async with client() as http:
            await http.get(f"{replica.url}/livez")
        return replica.log().count("server.leaving") == times

    await eventually_async(left, within=30)


async def test_a_text_that_takes_longer_than_a_drain_is_whole(launch: Launch) -> None:
    replica = launch(workers=1, max_requests=20, drain_seconds=1)
    (first,) = replica.workers()
    async with client() as http:
        body = {"user_query": "[[tokens=400 rate=50]]"}
        asking = asyncio.create_task(http.post(f"{replica.url}/chat", json=body))
        await recycle(replica, 1)
        answer = await asyncio.wait_for(asking, 60)
    assert (answer.status_code, answer.text) == (200, expected_text(400))
    await asyncio.to_thread(eventually, lambda: first not in replica.workers(), 20)
    assert "drain.deadline" not in replica.log()


async def test_what_is_left_when_something_presses_is_handed_over(launch: Launch) -> None:
    replica = launch(workers=1, max_requests=10, drain_seconds=1, lease_seconds=30)
    async with client() as http:
        urls = [replica.url]
        turn = await start_turn(http, urls, "a", {"content": "[[tokens=1200 rate=40 seed=1]]"}, "a")
        reading = asyncio.create_task(follow(http, urls, turn))
        await recycle(replica, 2)  # more than there are workers
        text = text_of(await asyncio.wait_for(reading, 120))
    assert text == expected_text(1200, 1)
    assert replica.log().count("turn.released") == 1
