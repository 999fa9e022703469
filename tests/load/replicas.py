"""`python -m tests.load.replicas`: what CHAT_REDIS_WAIT_REPLICAS=1 costs, in latency and CPU, as a table.

A master, a replica, one worker, the model and the clients on one machine: the round trip to the replica is
that of the loopback, so what a network adds to it is added to each figure of time. Takes two minutes.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from tests.load import wire
from tests.load.cases import Cases, Scale
from tests.load.clients import Client, Tally, connect
from tests.load.generator import Load, quantile_of
from tests.load.processes import running

_LOADS: Final = (Load(20, 100, 300, 6.0), Load(250, 50, 150, 6.0))
_PROBES: Final = 300
_ROUNDS: Final = 3
_PAUSE_SECONDS: Final = 0.02  # between two first tokens


async def _first_tokens(cases: Cases) -> list[tuple[str, float]]:
    """With nothing else to do: what the round trips alone take."""
    tally = Tally()
    for _ in range(_PROBES):
        request = wire.chat_request(cases.bench.key, wire.wish(1, 0))
        client = await connect(partial(Client, request, 1, 0, tally), cases.bench.service)
        await client.done.wait()
        client.close()
        await asyncio.sleep(_PAUSE_SECONDS)
    cases.found.take(tally)
    times = tally.first_after
    return [
        (f"first token, {name}, ms", quantile_of(times, at) * 1e3)
        for name, at in (("p50", 0.5), ("p99", 0.99))
    ]


async def _under_load(cases: Cases, load: Load) -> list[tuple[str, float]]:
    rounds = [await cases.load("service", load) for _ in range(_ROUNDS)]
    late = [value for offered in rounds for value in offered.tally.lateness]
    case = f"{load.streams} x {load.rate} tokens/s"
    rows = [
        (f"{case}: {of}, µs/token", statistics.median(offered.microseconds(of) for offered in rounds))
        for of in ("service", "redis", "follower")
    ]
    return [
        *rows,
        *(
            (f"{case}: lateness, {name}, ms", quantile_of(late, at) * 1e3)
            for name, at in (("p50", 0.5), ("p99", 0.99))
        ),
    ]


async def _rows(cases: Cases) -> list[tuple[str, float]]:
    return [*await _first_tokens(cases), *[row for load in _LOADS for row in await _under_load(cases, load)]]


def main() -> int:
    gc.disable()  # as in tests.load
    columns, wrong = [], []
    for wait in (0, 1):
        print(f"... {wait}", file=sys.stderr, flush=True)
        with (
            tempfile.TemporaryDirectory(prefix="chat-bench-") as directory,
            running(Path(directory), replicas=1, follower=True, redis_wait_replicas=wait) as bench,
        ):
            cases = Cases(bench, Scale())
            columns.append(uvloop.run(_rows(cases)))
            wrong += cases.found.wrong
    print("| figure | without | CHAT_REDIS_WAIT_REPLICAS=1 |\n|---|---|---|")
    for (name, without), (_, waited) in zip(*columns, strict=True):
        print(f"| {name} | {without:.3g} | {waited:.3g} |")
    print(f"\nAnswers that were not exact: {len(wrong)}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
