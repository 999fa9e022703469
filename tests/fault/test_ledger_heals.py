"""P7: places and reservations die with their worker, and what was used is booked once, to the token."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from typing import Any

import httpx
import pytest
import redis

from tests.fault.conftest import Launch
from tests.support.processes import Replica
from tests.support.readers import TERMINAL, client, follow, start_turn
from tests.support.redis import RedisServer
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.fault

LEASE_SECONDS = 2
RUNNING = "chat:{none.anonymous}:running"
RESERVED = "chat:{none.anonymous}:reserved"
BOUNDS: dict[str, Any] = {
    "lease_seconds": LEASE_SECONDS,
    "max_running_turns_per_principal": 50,
    "retry_budget_seconds": 30,
    "budget_tokens_per_day": 5_000_000,
    "budget_tokens_per_month": 9_000_000,
}


def logged(replicas: list[Replica]) -> dict[str, dict[str, Any]]:
    """`turn.ended` lines by turn; a sweep may write the line of a dead worker once more."""
    found = {}
    for replica in replicas:
        for line in replica.log().rpartition("\n")[0].splitlines():
            if '"turn.ended"' in line:
                entry = json.loads(line)
                found[entry["turn"]] = entry
    return found


async def begin(http: httpx.AsyncClient, urls: list[str], numbers: range, content: str) -> list[str]:
    return list(
        await asyncio.gather(
            *(start_turn(http, urls, f"s{n}", {"content": f"{content} n{n}."}, f"k{n}") for n in numbers)
        )
    )


async def booked_is_logged(
    http: httpx.AsyncClient, replicas: list[Replica], turns: int, store: redis.Redis
) -> None:
    """When nothing is left to settle: the ledger, the log lines and the budgets say the same."""
    await eventually_async(lambda: store.hlen(RESERVED) == 0 and store.zcard(RUNNING) == 0, within=20)
    await eventually_async(lambda: len(logged(replicas)) == turns, within=10)
    usage = (await http.get(f"{replicas[0].url}/v1/usage?days=2")).json()
    lines = logged(replicas).values()
    for name, field in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        assert sum(row[name] for row in usage["data"]) == sum(line[field] for line in lines), name
    assert sum(row["turns"] for row in usage["data"]) == turns
    assert usage["budgets"]["day"]["reserved"] == 0
    if len({row["date"] for row in usage["data"]}) == 1:  # not around midnight
        assert usage["budgets"]["day"]["used"] == sum(row["total_tokens"] for row in usage["data"])


@pytest.mark.timeout(180)
async def test_killed_workers_leak_no_place_and_no_token(launch: Launch, redis_process: RedisServer) -> None:
    replicas = [launch(**BOUNDS), launch(**BOUNDS)]
    urls = [replica.url for replica in replicas]
    store = redis_process.client()
    async with client() as http:
        paths = await begin(http, urls, range(50), "[[tokens=300 rate=30]]")
        assert store.zcard(RUNNING) == 50
        full = await http.post(f"{urls[0]}/chat", json={"user_query": "one more"})
        assert (full.status_code, full.json()["code"]) == (429, "concurrency_limited")

        # Everything dies at once: places lapse within the lease, by Redis's clock.
        for replica in replicas:
            replica.kill()
        seconds, micros = store.time()
        now = seconds * 1000 + micros / 1000
        assert store.zrange(RUNNING, -1, -1, withscores=True)[0][1] <= now + LEASE_SECONDS * 1000
        assert store.hlen(RESERVED) == 50
        await eventually_async(lambda: lapsed(store), within=LEASE_SECONDS + 1)

        # It comes back: the turns are taken over with their places, and workers go on dying.
        for replica in replicas:
            replica.start()
        more = asyncio.create_task(begin(http, urls, range(50, 90), "[[tokens=40 rate=40]]"))
        for _ in range(5):
            await asyncio.sleep(0.6)  # spread over the run, not waiting for anything
            victim = random.choice([pid for replica in replicas for pid in replica.workers()])
            with contextlib.suppress(ProcessLookupError):  # it may have just ended
                os.kill(victim, signal.SIGKILL)
        paths += await asyncio.wait_for(more, 60)
        ends = await asyncio.wait_for(asyncio.gather(*(follow(http, urls, path) for path in paths)), 60)
        assert {events[-1].event for events in ends} <= set(TERMINAL)
        await booked_is_logged(http, replicas, 90, store)
        assert (await http.post(f"{urls[0]}/chat", json={"user_query": "[[tokens=2]]"})).status_code == 200
    store.close()


def lapsed(store: redis.Redis) -> bool:
    seconds, micros = store.time()
    return store.zcount(RUNNING, seconds * 1000 + micros / 1000, "+inf") == 0
