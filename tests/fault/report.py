"""`python -m tests.fault.report`: the promises under fault, as figures for docs/reliability.md.

Bigger runs than the tests of this folder, with the same parts; every text is checked to the
byte. Writes the table between the markers of docs/reliability.md with `--write`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.double import expected_text
from tests.fault.cluster_loss import MOVED, STALL_SECONDS, stall_and_move
from tests.fault.ledger import ENDINGS, Book
from tests.fault.ledger import SETTINGS as LEDGER
from tests.fault.store_loss import lose_writes
from tests.fault.test_deploys import load
from tests.fault.test_pacing_under_load import LIMITS, ask_together, paced
from tests.fault.upgrade import upgrade_under_load
from tests.support.nginx import Nginx
from tests.support.processes import ROOT, Replica
from tests.support.readers import client, follow, start_turn
from tests.support.redis import RedisServer
from tests.support.sse import Frame, text_of
from tests.support.upstream import DoubleProcess

START, END = "<!-- figures -->", "<!-- /figures -->"
TURNS = 1_000
AT_ONCE = 100
KILLS = 20


class Stand:
    """A Redis, a double and three replicas of two workers, fresh for each run."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.redis = RedisServer(directory / "redis")
        self.upstream = DoubleProcess()
        values: dict[str, Any] = {
            "redis_url": self.redis.url,
            "GROQ_BASE_URL": self.upstream.url,
            "workers": 2,
            "max_attempts": 20,
            "drain_delay_seconds": 0.5,
        }
        self.replicas = [Replica(directory / f"replica{n}", **{**values, **settings}) for n in range(3)]
        self.urls = [replica.url for replica in self.replicas]

    def close(self) -> None:
        for replica in self.replicas:
            replica.close()
        self.upstream.close()
        self.redis.close()


def milliseconds(values: list[float]) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {statistics.median(ordered) * 1000:.0f} ms, p99 {high * 1000:.0f} ms"


async def many(stand: Stand, turns: int, tokens: int, rate: int, cut: float) -> list[list[Frame]]:
    """Turns of sessions of their own, at most AT_ONCE at a time, read by readers that are cut."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(http: httpx.AsyncClient, number: int) -> list[Frame]:
        async with gate:
            body = {"content": f"[[tokens={tokens} rate={rate} seed={number}]] n{number}."}
            path = await start_turn(http, stand.urls, f"s{number}", body, f"k{number}")
            return await follow(http, stand.urls, path, cut=cut)

    async with client() as http:
        return await asyncio.gather(*(one(http, number) for number in range(turns)))


def wrong(logs: list[list[Frame]], tokens: int) -> int:
    return sum(
        events[-1].event != "turn.completed" or text_of(events) != expected_text(tokens, number)
        for number, events in enumerate(logs)
    )


async def cut_readers(directory: Path) -> tuple[str, str]:
    stand = Stand(directory)
    try:
        logs = await many(stand, TURNS, 60, 100, cut=0.1)
        calls = len(stand.upstream.calls())
        return (
            f"{TURNS} turns, {AT_ONCE} at once, readers cut at random and resumed at random replicas (3 x 2)",
            f"{wrong(logs, 60)} wrong texts; {calls} upstream calls",
        )
    finally:
        stand.close()


async def killed_workers(directory: Path) -> tuple[str, str]:
    stand = Stand(directory)
    kills: list[float] = []

    async def killer() -> None:
        for _ in range(KILLS):
            await asyncio.sleep(1)  # a kill per second is the load
            victim = random.choice([pid for replica in stand.replicas for pid in replica.workers()])
            os.kill(victim, signal.SIGKILL)
            kills.append(time.time())

    try:
        killing = asyncio.create_task(killer())
        logs = await many(stand, 250, 300, 60, cut=0.01)
        await killing
        attempts = [sum(event.event == "attempt.started" for event in events) for events in logs]
        calls = len(stand.upstream.calls())
        delays = []
        for replica in stand.replicas:
            for line in replica.log().splitlines():
                if '"turn.taken_over"' in line:
                    at = datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
                    delays.append(min(at - kill for kill in kills if kill < at))
        return (
            f"kill -9 of a random worker, {KILLS} times under {AT_ONCE} running turns",
            f"{wrong(logs, 300)} of {len(logs)} turns wrong or not completed; {len(delays)} takeovers, "
            f"{milliseconds(delays)} after the kill; {max(0, calls - sum(attempts))} calls not in a log",
        )
    finally:
        stand.close()


async def lost_hosts(directory: Path) -> tuple[str, str]:
    stand = Stand(directory, lease_seconds=5)
    try:
        running = asyncio.create_task(many(stand, 60, 400, 50, cut=0.0))
        await asyncio.sleep(3)  # into the answers
        stand.replicas[0].kill()
        stand.urls.remove(stand.replicas[0].url)
        killed = time.time()
        logs = await running
        delays = []
        for replica in stand.replicas[1:]:
            for line in replica.log().splitlines():
                if '"turn.taken_over"' in line:
                    delays.append(datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp() - killed)
        return (
            "a whole replica killed (nobody lapses its leases; CHAT_LEASE_SECONDS=5)",
            f"{wrong(logs, 400)} of 60 turns wrong; {len(delays)} takeovers, {milliseconds(delays)}",
        )
    finally:
        stand.close()


async def stops(directory: Path) -> tuple[str, str]:
    stand = Stand(directory)
    took: list[float] = []
    exact = 0
    try:
        async with client() as http:

            async def one(number: int) -> bool:
                body = {"content": f"[[tokens=3000 rate=50 seed={number}]]"}
                path = await start_turn(http, stand.urls, f"s{number}", body, f"k{number}")
                await asyncio.sleep(random.uniform(0.2, 1.5))  # stops fall anywhere into an answer
                begin = time.perf_counter()
                turn = (await http.post(f"{random.choice(stand.urls)}{path}/stop")).json()
                took.append(time.perf_counter() - begin)
                events = await follow(http, stand.urls, path)
                return bool(turn["state"] == "stopped" and text_of(events) == turn["text"])

            for _ in range(5):
                exact += sum(await asyncio.gather(*(one(random.getrandbits(40)) for _ in range(40))))
        return "200 stops while streaming, at random replicas", (
            f"{200 - exact} wrong; call to sealed answer {milliseconds(took)}"
        )
    finally:
        stand.close()


async def same_key(directory: Path) -> tuple[str, str]:
    stand = Stand(directory)
    try:
        async with client() as http:

            async def send(number: int) -> str:
                answer = await http.post(
                    f"{stand.urls[number % 3]}/chat",
                    json={"user_query": "[[tokens=80 rate=100]]"},
                    headers={"Idempotency-Key": "same"},
                )
                return answer.text

            texts = await asyncio.gather(*(send(n) for n in range(50)))
        return "the same Idempotency-Key, 50 times at once at all replicas", (
            f"{len(stand.upstream.calls())} upstream call, {texts.count(expected_text(80, 0))} equal answers"
        )
    finally:
        stand.close()


async def rolling_restart(directory: Path) -> tuple[str, str]:
    stand = Stand(directory)
    nginx = Nginx(directory / "nginx", [replica.port for replica in stand.replicas])
    try:
        async with load(nginx.url, 40) as outcomes:
            for replica in stand.replicas * 2:
                await asyncio.sleep(2)  # of load between two restarts
                replica.signal(signal.SIGTERM)
                await asyncio.to_thread(replica.wait, 60)
                await asyncio.to_thread(replica.start)
        failed = sum(outcomes.values()) - outcomes["exact"]
        return "two rolling restarts of 3 replicas behind nginx, 40 users on text/plain", (
            f"{failed} of {sum(outcomes.values())} requests failed or cut"
        )
    finally:
        nginx.close()
        stand.close()


async def stalled_redis(directory: Path) -> tuple[str, str]:
    stand = Stand(directory)
    try:
        running = asyncio.create_task(many(stand, 100, 400, 50, cut=0.0))
        await asyncio.sleep(3)  # into the answers
        stand.redis.stall()
        await asyncio.sleep(3)  # the outage
        stand.redis.go_on()
        logs = await running
        again = sum(event.event == "attempt.started" for events in logs for event in events) - len(logs)
        return "Redis stopped for 3 s (SIGSTOP) under 100 running turns", (
            f"{wrong(logs, 400)} wrong, {again} attempts begun again"
        )
    finally:
        stand.close()


async def restarted_redis(directory: Path) -> tuple[str, str]:
    stand = Stand(directory)
    stand.redis.client().config_set("appendfsync", "always")
    try:
        running = asyncio.create_task(many(stand, 100, 400, 50, cut=0.0))
        await asyncio.sleep(3)  # into the answers
        stand.redis.restart()
        logs = await running
        return "Redis killed with -9 and started again from its append-only file (fsync always)", (
            f"{wrong(logs, 400)} of 100 turns wrong"
        )
    finally:
        stand.close()


async def shared_limits(directory: Path) -> tuple[str, str]:
    flood, singles, seconds = 120, 80, 60
    found = []
    for name, limits in LIMITS.items():
        stand = Stand(directory / name, **paced(directory))
        try:
            stand.upstream.configure(limits={"*": limits})
            seen = await ask_together(stand.urls[:2], stand.upstream, seconds, flood, singles)
        finally:
            stand.close()
        each = sorted(seen.singles())
        found.append(
            f"{limits}: {seen.refused} of {seen.calls} calls refused, {seen.used(limits, seconds):.0%} of "
            f"what the limit allows used; turns of a single client: {each[0]} to {each[-1]}, "
            f"of the flood: {seen.done['flood']}"
        )
    return (
        f"Groq's limits, {flood} clients of one principal beside {singles} of one each, {seconds} s, "
        "2 replicas",
        "; ".join(found),
    )


async def ledger(directory: Path) -> tuple[str, str]:
    stand = Stand(directory, **LEDGER)
    try:
        async with client() as http:
            told = await Book(http, stand.replicas, stand.upstream).run(TURNS)
    finally:
        stand.close()
    for line in told.wrong[:20]:
        print(line, flush=True)  # noqa: T201  # the command's output
    parts = {"double": told.double, "turns": told.turns, "ledger": told.ledger}
    sums = "; ".join(f"{who} {of['prompt_tokens']} + {of['completion_tokens']}" for who, of in parts.items())
    return f"{TURNS} turns, each of {len(ENDINGS)} endings, prompt + completion tokens", (
        f"{told.calls} calls: {sums}; {len(told.wrong)} of {TURNS} turns billed wrong"
    )


async def store_loss(directory: Path) -> tuple[str, str]:
    rounds, turns = 20, 20
    found = await lose_writes(directory, rounds, turns)
    for line in found.wrong[:20]:
        print(line, flush=True)  # noqa: T201  # the command's output
    return (
        f"{rounds} failovers under Sentinel with unsynced writes, a worker killed in every other, "
        f"{turns} turns each in all dialects",
        f"{len(found.wrong)} told a wrong text as right; readers: {dict(found.readers)}; "
        f"turns: {dict(found.turns)}",
    )


async def store_loss_with_replicas(directory: Path) -> tuple[str, str]:
    rounds, turns = 20, 20
    found = await lose_writes(directory, rounds, turns, redis_wait_replicas=1)
    for line in (found.wrong + found.affected)[:20]:
        print(line, flush=True)  # noqa: T201  # the command's output
    return (
        "the same with CHAT_REDIS_WAIT_REPLICAS=1 and two replicas",
        f"{len(found.wrong)} told a wrong text as right; {len(found.affected)} turns or readers affected by "
        f"the loss of the master; readers: {dict(found.readers)}; turns: {dict(found.turns)}",
    )


async def store_loss_on_a_cluster(directory: Path) -> tuple[str, str]:
    rounds, turns = 5, 20
    found = await stall_and_move(directory, rounds, turns)
    for line in (found.wrong + found.affected)[:20]:
        print(line, flush=True)  # noqa: T201  # the command's output
    return (
        f"a Cluster of four: a shard stopped for {STALL_SECONDS} s while {MOVED} slots are being moved, "
        f"{rounds} times under {turns} turns in all dialects",
        f"{len(found.wrong)} told a wrong text as right; {len(found.affected)} noticed more than a pause; "
        f"readers: {dict(found.readers)}; turns: {dict(found.turns)}",
    )


async def upgrade(directory: Path) -> tuple[str, str]:
    seconds, users = 180, 12
    talk = await upgrade_under_load(directory, seconds, users)
    for line in (talk.wrong + talk.failed)[:20]:
        print(line, flush=True)  # noqa: T201  # the command's output
    return (
        f"a replica of 0.1.0 and one of this version on one Redis, {seconds} s, {users} users; workers and "
        "whole replicas of both killed and restarted",
        f"{len(talk.wrong)} wrong texts or histories, {len(talk.failed)} failed; {dict(talk.did)}; "
        f"takeovers: {talk.takeovers}",
    )


RUNS = (
    cut_readers,
    killed_workers,
    lost_hosts,
    stops,
    same_key,
    rolling_restart,
    stalled_redis,
    restarted_redis,
    shared_limits,
    ledger,
    store_loss,
    store_loss_with_replicas,
    store_loss_on_a_cluster,
    upgrade,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    parser.add_argument("--only", help="run only the runs whose name contains this")
    wishes = parser.parse_args()
    rows = []
    for run in RUNS:
        if wishes.only and wishes.only not in run.__name__:
            continue
        with tempfile.TemporaryDirectory() as directory:
            what, seen = asyncio.run(run(Path(directory)))
        rows.append(f"| {what} | {seen} |")
        print(rows[-1], flush=True)  # noqa: T201  # the command's output
    if wishes.write:
        page = ROOT / "docs" / "reliability.md"
        before, _, rest = page.read_text().partition(START)
        table = "\n".join(["| fault | seen |", "|---|---|", *rows])
        page.write_text(f"{before}{START}\n{table}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
