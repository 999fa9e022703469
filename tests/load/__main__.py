"""`python -m tests.load`: run the benchmark, print its table, keep it as JSON and Markdown.

Takes less than 15 minutes on two cores, and two with --quick. Exit code 1 when a text was not
exact; a missed target is a figure, not a failure.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import uvloop

from tests.load import held, report
from tests.load.cases import QUICK, Cases, Findings, Scale
from tests.load.generator import Load
from tests.load.processes import running

Case = Callable[[Cases], Awaitable[None]]


async def _fast(cases: Cases) -> None:
    load = Load(5, 500, 1000, cases.scale.seconds)
    await cases.per_token("5 x 500 tokens/s (Groq's speed)", load, 1.5, with_redis=2.0)


async def _chats(cases: Cases) -> None:
    await cases.per_token("50 x 45 tokens/s", Load(50, 45, 150, cases.scale.seconds), 3.0, of_nginx=2.8)


async def _steady(cases: Cases) -> None:
    await cases.per_token("20 x 100 tokens/s", Load(20, 100, 300, cases.scale.seconds), 3.0)


CASES: dict[str, Case] = {
    "fast": _fast,
    "steady": _steady,
    "chats": _chats,
    "responses": Cases.responses,
    "remote": Cases.readers_elsewhere,
    "many": Cases.fan_in,
    "first": Cases.first_token,
    "whole": Cases.whole_answers,
    "turns": Cases.turns,
    "idle": held.idle_readers,
    "history": held.long_history,
    "memory": held.memory_in_redis,
    "overload": Cases.overload,
    "obvious": Cases.obvious,
}


async def _run(cases: Cases, names: list[str]) -> None:
    for name in names:
        print(f"... {name}", file=sys.stderr, flush=True)
        await CASES[name](cases)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a look, in two minutes")
    parser.add_argument("--case", action="append", choices=CASES, help="only this one; may be repeated")
    parser.add_argument("--turns", type=int, help="turns of one token (20,000); a million take half an hour")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="where the files go")
    wishes = parser.parse_args()
    gc.disable()  # its pauses, of 0.3 s at 500 streams, would be measured as lateness
    started = time.monotonic()
    found: Findings
    with tempfile.TemporaryDirectory(prefix="chat-bench-") as directory, running(Path(directory)) as bench:
        scale = QUICK if wishes.quick else Scale()
        cases = Cases(bench, replace(scale, turns=wishes.turns) if wishes.turns else scale)
        uvloop.run(_run(cases, wishes.case or list(CASES)))
        found = cases.found
    about = report.surroundings(started)
    report.write(found, about, wishes.out)
    print(report.markdown(found, about))
    for wrong in found.wrong[:10]:
        print(f"not exact: {wrong}", file=sys.stderr)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
