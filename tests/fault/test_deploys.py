"""P6: a deploy cuts nothing. Rolling restarts, reloads and recycling under constant load."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.double import expected_text
from tests.fault.conftest import Launch
from tests.support.nginx import Nginx
from tests.support.processes import Replica
from tests.support.readers import client, follow, start_turn
from tests.support.sse import text_of
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.fault


@asynccontextmanager
async def load(url: str, users: int, *, kept: bool = True) -> AsyncIterator[Counter[str]]:
    """Constant text/plain sends through a load balancer, each answer checked to the byte.

    Without `kept` each on a connection of its own: nginx before 1.27.4 resets idle ones when it is reloaded.
    """
    outcomes: Counter[str] = Counter()
    numbers = itertools.count()
    stop = asyncio.Event()
    headers = {} if kept else {"Connection": "close"}

    async def user(http: httpx.AsyncClient) -> None:
        while not stop.is_set():
            number = next(numbers)
            tokens = random.choice((20, 60, 120))
            body = {"user_query": f"[[tokens={tokens} rate=60 seed={number}]]"}
            try:
                answer = await http.post(f"{url}/chat", json=body, headers=headers)
            except httpx.TransportError as error:
                outcomes[f"{type(error).__name__} {error}"] += 1
                continue
            exact = answer.text == expected_text(tokens, number)
            outcomes["exact" if answer.status_code == 200 and exact else f"status {answer.status_code}"] += 1

    async with client() as http:
        users_running = [asyncio.create_task(user(http)) for _ in range(users)]
        try:
            yield outcomes
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*users_running), 60)


def more_than(outcomes: Counter[str], answers: int) -> bool:
    return outcomes["exact"] > answers


@pytest.fixture
def three(launch: Launch) -> list[Replica]:
    return [launch(workers=2, drain_delay_seconds=0.5, lease_seconds=10) for _ in range(3)]


@pytest.mark.timeout(240)
async def test_a_rolling_restart_behind_nginx_fails_nothing(three: list[Replica], tmp_path: Path) -> None:
    nginx = Nginx(tmp_path / "nginx", [replica.port for replica in three])
    try:
        async with load(nginx.url, 20) as outcomes:
            for replica in three:
                before = outcomes["exact"]
                await eventually_async(partial(more_than, outcomes, before + 20), within=60)
                replica.signal(signal.SIGTERM)
                assert await asyncio.to_thread(replica.wait, 60) == 0
                await asyncio.to_thread(replica.start)
        assert set(outcomes) == {"exact"}, outcomes
        assert outcomes["exact"] > 100
    finally:
        nginx.close()


@pytest.mark.timeout(240)
async def test_new_replicas_beside_the_old_ones_fail_nothing(launch: Launch, tmp_path: Path) -> None:
    """What `make rolling` does, with processes in the place of containers."""
    settings = {"workers": 1, "drain_delay_seconds": 0.5, "lease_seconds": 10}
    old = [launch(**settings) for _ in range(2)]
    nginx = Nginx(tmp_path / "nginx", [replica.port for replica in old])
    try:
        async with load(nginx.url, 10, kept=False) as outcomes:
            await eventually_async(partial(more_than, outcomes, 20), within=60)
            new = await asyncio.to_thread(lambda: [launch(**settings) for _ in range(2)])
            await asyncio.to_thread(nginx.lead_to, [replica.port for replica in (*old, *new)])
            for replica in old:
                before = outcomes["exact"]
                await eventually_async(partial(more_than, outcomes, before + 20), within=60)
                replica.signal(signal.SIGTERM)
                assert await asyncio.to_thread(replica.wait, 60) == 0
            await asyncio.to_thread(nginx.lead_to, [replica.port for replica in new])
            before = outcomes["exact"]
            await eventually_async(partial(more_than, outcomes, before + 20), within=60)
        assert set(outcomes) == {"exact"}, outcomes
    finally:
        nginx.close()


@pytest.mark.timeout(120)
async def test_a_worker_killed_before_the_first_byte_is_not_noticed_behind_nginx(
    three: list[Replica], tmp_path: Path, upstream: DoubleProcess
) -> None:
    nginx = Nginx(tmp_path / "nginx", [replica.port for replica in three])
    query = "[[tokens=30 first_delay=6 seed=%d]]"
    try:
        async with client() as http:
            asking = [
                asyncio.create_task(http.post(f"{nginx.url}/chat", json={"user_query": query % n}))
                for n in range(12)
            ]
            await eventually_async(lambda: len(upstream.calls()) == 12, within=10)
            for pid in three[0].workers():
                os.kill(pid, signal.SIGKILL)
            answers = await asyncio.wait_for(asyncio.gather(*asking), 60)
            assert [answer.text for answer in answers] == [expected_text(30, n) for n in range(12)]
    finally:
        nginx.close()


@pytest.mark.timeout(120)
async def test_reloads_and_recycling_cut_nothing(launch: Launch) -> None:
    replica = launch(workers=2, max_requests=40, lease_seconds=10)
    async with load(replica.url, 10) as outcomes:
        for _ in range(2):
            before = outcomes["exact"]
            await eventually_async(partial(more_than, outcomes, before + 30), within=60)
            replica.signal(signal.SIGHUP)
        before = outcomes["exact"]
        await eventually_async(lambda: outcomes["exact"] > before + 60, within=60)
    assert set(outcomes) == {"exact"}, outcomes


@pytest.mark.timeout(120)
async def test_a_drain_refuses_sends_finishes_what_runs_and_releases_the_rest(launch: Launch) -> None:
    # Without a Gunicorn master nobody ends the leases of a process that is gone: it has to release them.
    # Of one worker: others hear of it up to 0.2 s later, and begin turns until then.
    leaving = launch(command="run", workers=1, drain_delay_seconds=3, drain_seconds=4, lease_seconds=300)
    staying = launch(workers=1, lease_seconds=300)
    async with client() as http:
        short = await start_turn(http, [leaving.url], "a", {"content": "[[tokens=100 rate=50]]"}, "a")
        long = await start_turn(http, [leaving.url], "b", {"content": "[[tokens=500 rate=50 seed=1]]"}, "b")
        reading = [
            asyncio.create_task(follow(http, [staying.url], short)),
            asyncio.create_task(follow(http, [staying.url], long)),
        ]
        reads = asyncio.Event()

        async def stay() -> str:
            async with http.stream("GET", f"{leaving.url}{long}/events") as answer:
                reads.set()
                return (await answer.aread()).decode()

        local = asyncio.create_task(stay())
        await asyncio.wait_for(reads.wait(), 5)
        leaving.signal(signal.SIGTERM)

        def drains() -> bool:  # on a busy machine it may be unready for its store
            answer = httpx.get(f"{leaving.url}/readyz", timeout=5, verify=False)
            return answer.status_code == 503 and answer.json()["checks"]["drain"] == "draining"

        await asyncio.to_thread(eventually, drains, 3)
        refused = await http.post(f"{leaving.url}/chat", json={"user_query": "hi"})
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert "retry-after" in refused.headers
        assert await asyncio.to_thread(leaving.wait, 20) == 0
        farewell = await asyncio.wait_for(local, 5)
        assert farewell.rstrip().splitlines()[-1].startswith("retry: ")
        finished, released = await asyncio.wait_for(asyncio.gather(*reading), 60)
        assert text_of(finished) == expected_text(100, 0)
        assert text_of(released) == expected_text(500, 1)
        attempts = [
            [event.data["attempt"] for event in events if event.event == "attempt.started"]
            for events in (finished, released)
        ]
        assert attempts == [[1], [1, 2]]
