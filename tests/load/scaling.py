"""`python -m tests.load.scaling`: what a token costs with more workers, replicas, shards; memory.

Each row has 60 streams of 50 tokens/s for every worker, so that each has the same to do. CPU time is that of
all workers, and of all Redis servers, per token; throughput per core is its inverse. Takes three minutes.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from tests.load import wire
from tests.load.clients import Client, Tally
from tests.load.generator import Load, Offered, offer
from tests.load.processes import Bench, running, sample

_STREAMS: Final = 60
_RATE: Final = 50
_TOKENS: Final = 150
_SECONDS: Final = 6.0
_ROUNDS: Final = 3
_MEMORY_STREAMS: Final = 250


@dataclass(frozen=True)
class Shape:
    name: str
    workers: int = 1  # of each replica
    replicas: int = 1
    shards: int = 0  # of a Cluster; 0 is one Redis


_SHAPES: Final = (
    Shape("1 worker"),
    Shape("2 workers", workers=2),
    Shape("4 workers", workers=4),
    Shape("2 replicas of a worker", replicas=2),
    Shape("1 worker, a Cluster of 3 shards", shards=3),
)


@dataclass
class Cost:
    """Medians of the rounds, us per token."""

    service: float
    redis: float
    wrong: int


def _ask(bench: Bench, tokens: int, rate: int, tally: Tally) -> Client:
    return Client(wire.chat_request(bench.key, wire.wish(tokens, rate)), tokens, rate, tally)


async def _cost(bench: Bench, shape: Shape) -> Cost:
    workers = [pid for replica in bench.replicas for pid in replica.workers()]
    assert len(workers) == shape.workers * shape.replicas
    pids = {f"worker {number}": pid for number, pid in enumerate(workers)}
    pids |= {name: pid for name, pid in bench.pids.items() if name.startswith("redis")}
    load = Load(_STREAMS * shape.workers, _RATE, _TOKENS, _SECONDS)
    service, redis, wrong = [], [], 0
    for _ in range(_ROUNDS):
        offered = await asyncio.gather(
            *(
                offer(load, replica.port, lambda *asked: _ask(bench, *asked), pids)
                for replica in bench.replicas
            )
        )
        tokens = sum(one.tokens for one in offered)
        service.append(_cpu(offered[0], "worker") / tokens * 1e6)
        redis.append(_cpu(offered[0], "redis") / tokens * 1e6)
        wrong += sum(len(one.tally.wrong) for one in offered)
    return Cost(statistics.median(service), statistics.median(redis), wrong)


def _cpu(offered: Offered, kind: str) -> float:
    return sum(used.cpu for name, used in offered.used.items() if name.startswith(kind))


async def _memory(bench: Bench) -> tuple[float, float]:
    """MiB of a worker that has served nothing, and KiB more per stream that flows through it."""
    pid = bench.pids["service"]
    fresh = sample(pid).resident
    load = Load(_MEMORY_STREAMS, _RATE, _TOKENS, 2.0)
    under_load = asyncio.create_task(offer(load, bench.service, lambda *asked: _ask(bench, *asked), {}))
    await asyncio.sleep(load.length + 1.0)  # all of them flow
    flowing = sample(pid).resident
    await under_load
    return fresh / 1024, (flowing - fresh) / _MEMORY_STREAMS


def main() -> int:
    gc.disable()  # as in tests.load
    print("| | service, µs/token | Redis for it, µs/token | throughput per core | answers not exact |")
    print("|---|---|---|---|---|")
    first: Cost | None = None
    wrong = 0
    memory = (0.0, 0.0)
    for shape in _SHAPES:
        with (
            tempfile.TemporaryDirectory(prefix="chat-bench-") as directory,
            running(Path(directory), shape.replicas, shards=shape.shards, workers=shape.workers) as bench,
        ):
            if first is None:
                memory = uvloop.run(_memory(bench))
            cost = uvloop.run(_cost(bench, shape))
        first = first or cost
        wrong += cost.wrong
        print(
            f"| {shape.name} | {cost.service:.3g} | {cost.redis:.3g} "
            f"| {first.service / cost.service * 100:.0f} % | {cost.wrong} |",
            flush=True,
        )
    print(
        f"\nA worker at its start: {memory[0]:.0f} MiB; "
        f"each of {_MEMORY_STREAMS} streams: {memory[1]:.1f} KiB more."
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
