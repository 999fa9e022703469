"""A Cluster of which one shard stands still while slots are being moved, and what each reader made of it.

A round: turns in all dialects, and native readers that resume (tests/fault/store_loss.py judges them); the
slots of three of the sessions are being moved from before their sends until seconds later, and another node
is stopped for 10 s, which is longer than a lease and shorter than answers are held for.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from tests.fault.store_loss import RATE, TOKENS, Round, Tally
from tests.support.cluster import Cluster
from tests.support.processes import Replica
from tests.support.readers import client
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

MOVED = 3
STALL_SECONDS = 10
# Of the stall: the slots arrive in the middle of it.
MOVING_SECONDS = 5


async def stall_and_move(directory: Path, rounds: int, turns: int) -> Tally:
    tally = Tally()
    for number in range(rounds):
        await _once(directory / f"round{number}", f"c{number}", turns, tally)
    return tally


async def _once(directory: Path, name: str, turns: int, tally: Tally) -> None:
    cluster, upstream = Cluster(directory / "cluster", 4), DoubleProcess()
    values: dict[str, Any] = {"redis_url": cluster.url, "GROQ_BASE_URL": upstream.url, "workers": 2}
    replicas: list[Replica] = []
    try:
        replicas += [Replica(directory / f"service{one}", **values) for one in range(2)]
        keys = [f"chat:{{none.anonymous/{name}-{number}}}" for number in range(turns)]
        # Their slots go from one of the first two nodes to the other one; a node of the others stands still.
        moved = [key for key in keys if cluster.holder(key) in cluster.nodes[:2]][:MOVED]
        async with client() as http:
            one = Round(http, [replica.url for replica in replicas], name, tally)
            for key in moved:
                cluster.open_slot(key)
            running = [asyncio.create_task(one.turn(turn)) for turn in range(turns)]
            await eventually_async(lambda: len(upstream.calls()) == turns - len(moved), within=30)
            await asyncio.sleep(TOKENS / RATE / 3)  # a third of each answer has been shown
            stalled = random.choice(cluster.nodes[2:])
            stalled.stall()
            await asyncio.sleep(MOVING_SECONDS)
            for key in moved:
                cluster.finish_slot(key)
            await asyncio.sleep(STALL_SECONDS - MOVING_SECONDS)
            stalled.go_on()
            await asyncio.wait_for(asyncio.gather(*running), 90)
            await one.check(turns)
    finally:
        for replica in replicas:
            replica.close()
        upstream.close()
        cluster.close()
