"""`python -m tests.load.pairs BEFORE`: what a change costs, against another checkout of the service.

    git worktree add /tmp/before db18bce; python -m tests.load.pairs /tmp/before

Both versions run side by side, each with a Redis of its own, and are asked in turns: the one of this
checkout first in every other round. CPU times are compared pair by pair, so that a machine which is slow
for a minute is slow for both. Only CPU is compared: times want a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import uvloop

from tests.load.cases import Cases, Scale
from tests.load.clients import Tally
from tests.load.generator import Load
from tests.load.processes import running, sample

_LOADS: Final = (Load(50, 45, 150, 6.0), Load(250, 50, 150, 6.0))
_TURNS: Final = 4_000

#: microseconds of the service and of its Redis
Cost = tuple[float, float]


async def _turns(cases: Cases) -> Cost:
    pids, tally = cases.bench.pids, Tally()
    before = [sample(pids[who]) for who in ("service", "redis")]
    await cases.ask_turns(tally, _TURNS)
    cases.found.take(tally)
    service, redis = (sample(pids[who]) - was for who, was in zip(("service", "redis"), before, strict=True))
    return service.cpu / _TURNS * 1e6, redis.cpu / _TURNS * 1e6


def _tokens(load: Load) -> Callable[[Cases], Awaitable[Cost]]:
    async def cost(cases: Cases) -> Cost:
        offered = await cases.load("service", load)
        return offered.microseconds("service"), offered.microseconds("redis")

    return cost


async def _compare(versions: list[Cases], rounds: int) -> None:
    rows: dict[str, Callable[[Cases], Awaitable[Cost]]] = {
        f"{load.streams} x {load.rate} tokens/s, us/token": _tokens(load) for load in _LOADS
    }
    rows["a turn of one token, us/turn"] = _turns
    print("| case | process | before | now | now / before: median, least, greatest of the pairs |")
    print("|---|---|---|---|---|")
    for name, cost in rows.items():
        had: list[list[Cost]] = [[], []]
        for place in range(rounds):
            for which in (0, 1) if place % 2 else (1, 0):
                had[which].append(await cost(versions[which]))
        for column, process in enumerate(("service", "Redis")):
            before, now = ([costs[column] for costs in of] for of in had)
            pairs = sorted(n / b for b, n in zip(before, now, strict=True))
            print(
                f"| {name} | {process} | {statistics.median(before):.1f} | {statistics.median(now):.1f} "
                f"| {statistics.median(pairs):.3f} ({pairs[0]:.3f} to {pairs[-1]:.3f}) |",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load.pairs", description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="a checkout of another version")
    parser.add_argument("--rounds", type=int, default=5)
    wishes = parser.parse_args()
    gc.disable()  # as in tests.load
    with contextlib.ExitStack() as stack:
        versions = []
        for more in ({"code": wishes.before.resolve()}, {}):
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-bench-"))
            bench = stack.enter_context(running(Path(directory), replicas=1, **more))
            versions.append(Cases(bench, Scale()))
        uvloop.run(_compare(versions, wishes.rounds))
    exact = sum(cases.found.exact for cases in versions)
    wrong = sum(len(cases.found.wrong) for cases in versions)
    print(f"\nAnswers compared with the exact text: {exact} right, {wrong} wrong.")
    for name, cases in zip(("before", "now"), versions, strict=True):
        for line, count in Counter(line[:120] for line in cases.found.wrong).most_common(3):
            print(f"{name}: {count} times {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
