"""`make mutants`: plants each fault of faults.toml and says what notices it, and how soon.

    python -m tests.mutants [words]           only the faults whose file or sentence has one of the words
    python -m tests.mutants --again           also those whose outcome is known from a run before
    python -m tests.mutants --faults FILE     faults of another file
    python -m tests.mutants --whole           with all of `make quick`, and not only the faults' own tests
    python -m tests.mutants --histories 100   so many simulated ones; --patience 600: s for each fault
    python -m tests.mutants --simulation      what the simulation alone notices, in the size of CI
    python -m tests.mutants --at-once 1       so many faults beside each other; else one for each core

What is tried in which order, and what counts as noticed, is tries.py's. An outcome holds for as long as
the fault, its file and its tests are what they were (.mutants.json), so that a run which was ended goes on
where it was. Exit status 1 where a fault passes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tests.__main__ import cores
from tests.mutants.catalogue import FILE, Fault, faults
from tests.mutants.known import Known
from tests.mutants.tries import HISTORIES, MOST_SECONDS, Bench, Effort, Outcome, attempt, benches, simulates
from tests.support.running import ROOT

_BY: Final = {
    "quick": "by tests of `make quick`",
    "simulation": "by the simulation",
    "others": "by other tests",
    "": "NOT CAUGHT",
}


def summary(outcomes: list[Outcome]) -> str:
    if not outcomes:
        return "no such fault"
    caught = [one for one in outcomes if one.by]
    by = Counter(one.by for one in caught)
    lines = [f"{len(caught)} of {len(outcomes)} caught"]
    lines += [f"  {by[name]:4} {_BY[name]}" for name in ("quick", "simulation", "others") if by[name]]
    if caught:
        seconds = sorted(one.seconds for one in caught)
        soon = sum(one <= MOST_SECONDS for one in seconds)
        lines.append(
            f"{soon} within {MOST_SECONDS} s; half of them within {statistics.median(seconds):.1f} s, "
            f"all within {seconds[-1]:.0f} s"
        )
    return "\n".join(lines)


def tell(fault: Fault, outcome: Outcome) -> None:
    what = f"{_BY[outcome.by]}: {outcome.what}" if outcome.by else _BY[""]
    sys.stdout.write(f"{outcome.seconds:6.1f} s  {fault.name}\n          {what}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--faults", type=Path, default=FILE)
    parser.add_argument("--simulation", action="store_true")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--histories", type=int, default=HISTORIES)
    parser.add_argument("--patience", type=float, default=3.0 * MOST_SECONDS)
    parser.add_argument("--at-once", type=int, default=cores())
    asked = parser.parse_args(arguments)
    chosen = [
        fault
        for fault in faults(asked.faults)
        if not asked.simulation or simulates(fault)
        if not asked.words or any(word in fault.file or word in fault.seen for word in asked.words)
    ]
    unfit = [fault for fault in chosen if fault.rotten()]
    for fault in unfit:
        sys.stdout.write(f"cannot be planted: {fault.rotten()}\n")
    effort = Effort("simulation" if asked.simulation else "", asked.whole, asked.histories, asked.patience)
    known = Known(ROOT / ".mutants.json")
    found: list[Outcome] = []
    free: SimpleQueue[Bench] = SimpleQueue()

    def one(fault: Fault) -> tuple[Fault, Outcome]:
        before = None if asked.again or asked.simulation else known.get(fault)
        if before is not None:
            return fault, before
        bench = free.get()
        try:
            outcome = attempt(fault, bench, effort)
        finally:
            free.put(bench)
        if not asked.simulation:
            known.put(fault, outcome)
        return fault, outcome

    with benches(asked.at_once) as places, ThreadPoolExecutor(len(places)) as pool:
        for bench in places:
            free.put(bench)
        for fault, outcome in pool.map(one, [fault for fault in chosen if fault not in unfit]):
            tell(fault, outcome)
            found.append(outcome)
    sys.stdout.write(f"\n{summary(found)}\n")
    passed = unfit or not all(outcome.by for outcome in found)
    return 1 if passed and not asked.simulation else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
