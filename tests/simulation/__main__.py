"""Simulate histories until the time is over, or one breaks a rule.

    python -m tests.simulation                       for a minute, from seed 0 on
    python -m tests.simulation --seconds 600 --first 100000
    python -m tests.simulation --histories 1000      so many, however long they take
    python -m tests.simulation --seed 4711 [--logs]  one of them, with what the engine logs

A broken history is told with its seed and with the fewest events that break the same rule. Exit status 1.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter

import structlog

from tests.simulation.plan import Plan, make
from tests.simulation.shrink import shrink
from tests.simulation.world import World, run

_QUIET, _LOGS = 50, 20  # levels: critical, which nothing here is; info


def tell(plan: Plan, broken: str, *, unshrunk: bool) -> None:
    if unshrunk:
        sys.stdout.write(f"seed {plan.seed} breaks a rule\n  {broken}\n")
        return
    fewer, why = shrink(plan, broken, run)
    sys.stdout.write(f"seed {plan.seed} breaks a rule\n  {broken}\n")
    sys.stdout.write(f"shrunk from {len(plan.events)} to {len(fewer.events)} events\n  {why}\n{fewer}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--histories", type=int)
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with")
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
    outcomes: Counter[str] = Counter()
    count = 0
    for seed in itertools.count(asked.first):
        over = time.perf_counter() - begin > asked.seconds
        if over if asked.histories is None else count == asked.histories:
            break
        plan = make(seed)
        world = World(plan)
        broken = world.outcome()
        if broken:
            tell(plan, broken, unshrunk=asked.unshrunk)
            return 1
        outcomes += world.oracle.outcomes
        count += 1
    told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
    seconds = time.perf_counter() - begin
    sys.stdout.write(
        f"{count} histories in {seconds:.0f} s, from seed {asked.first} on: no rule is broken\n{told}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
