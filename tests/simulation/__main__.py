"""Simulate histories until the time is over, or one breaks a rule.

    python -m tests.simulation                       for a minute, from seed 0 on
    python -m tests.simulation --seconds 600 --first 100000
    python -m tests.simulation --histories 1000      so many, however long they take
    python -m tests.simulation --seed 4711 [--logs]  one of them, with what the engine logs

Each core has a process of its own. A broken history is told with its seed and with the fewest events that
break the same rule. Exit status 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, deque
from concurrent.futures import Future, ProcessPoolExecutor
from math import inf
from typing import Final

import structlog

from tests.__main__ import cores
from tests.simulation.plan import Plan, make
from tests.simulation.shrink import shrink
from tests.simulation.world import World, run

_QUIET, _LOGS = 50, 20  # levels: critical, which nothing here is; info
# Histories that a process makes before it is asked for more: half a second of work.
_AT_ONCE: Final = 10


def tell(plan: Plan, broken: str, *, unshrunk: bool) -> None:
    if unshrunk:
        sys.stdout.write(f"seed {plan.seed} breaks a rule\n  {broken}\n")
        return
    fewer, why = shrink(plan, broken, run)
    sys.stdout.write(f"seed {plan.seed} breaks a rule\n  {broken}\n")
    sys.stdout.write(f"shrunk from {len(plan.events)} to {len(fewer.events)} events\n  {why}\n{fewer}\n")


def some(seeds: range, level: int) -> tuple[Counter[str], int | None]:
    """How the turns of these histories ended, and the first seed that broke a rule."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        world = World(make(seed))
        if world.outcome():
            return outcomes, seed
        outcomes += world.oracle.outcomes
    return outcomes, None


def all_of(
    first: int, most: int, seconds: float, level: int, processes: int
) -> tuple[int, Counter[str], int | None]:
    """Histories until there are so many, or the time is over: their number, and as `some`."""
    until = time.perf_counter() + seconds
    outcomes: Counter[str] = Counter()
    begun = count = 0
    running: deque[tuple[range, Future[tuple[Counter[str], int | None]]]] = deque()
    with ProcessPoolExecutor(processes) as pool:
        while True:
            while len(running) < 2 * processes and begun < most and time.perf_counter() < until:
                seeds = range(first + begun, first + min(begun + _AT_ONCE, most))
                running.append((seeds, pool.submit(some, seeds, level)))
                begun += len(seeds)
            if not running:
                return count, outcomes, None
            seeds, result = running.popleft()
            found, broken = result.result()
            if broken is not None:
                pool.shutdown(cancel_futures=True)
                return count, outcomes, broken
            outcomes += found
            count += len(seeds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--histories", type=int, help="so many, however long they take")
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with")
    parser.add_argument("--processes", type=int, default=cores())
    parser.add_argument("--seed", type=int, help="this one history, with its events")
    parser.add_argument("--logs", action="store_true")
    parser.add_argument("--unshrunk", action="store_true", help="tell the seed and its rule only")
    asked = parser.parse_args()
    level = _LOGS if asked.logs else _QUIET
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    if asked.seed is not None:
        plan = make(asked.seed)
        sys.stdout.write(f"{plan}\n")
        broken = run(plan)
        sys.stdout.write(f"{broken or 'no rule is broken'}\n")
        return 1 if broken else 0
    begin = time.perf_counter()
    most, seconds = asked.histories or sys.maxsize, asked.seconds if asked.histories is None else inf
    count, outcomes, seed = all_of(asked.first, most, seconds, level, asked.processes)
    if seed is not None:
        plan = make(seed)
        tell(plan, run(plan), unshrunk=asked.unshrunk)
        return 1
    told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
    took = time.perf_counter() - begin
    sys.stdout.write(
        f"{count} histories in {took:.0f} s, {count / took * 60:.0f} a minute, "
        f"from seed {asked.first} on: no rule is broken\n{told}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
