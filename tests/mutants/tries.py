"""Trying a planted fault: a copy of the project, the fault in it, and tests until the first one fails.

First the fault's own tests that `make quick` has, then the simulation in CI's size where the fault is of
what it runs, then the fault's other tests. Each step stops at the first failure, and all of them at the
end of their time. Invariants: the work tree stays as it is; a copy is whole again after each try.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.__main__ import QUICK
from tests.mutants.catalogue import Fault
from tests.related import related
from tests.support.running import ROOT

#: an author waits so long for `make quick`: what is noticed later counts as noticed late
MOST_SECONDS: Final = 60
_PYTEST: Final = ("-m", "pytest", "-x", "-q", "-n0", "-p", "no:randomly", "-p", "no:cacheprovider")
# Libraries are imported before pytest can rewrite them (starter.py); there are no tests in them.
_REWRITTEN: Final = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
_TIMEOUT: Final = ("--timeout=30", *_REWRITTEN)
# Of pytest: tests failed, interrupted, not to be used. Neither success, nor out of time, nor our own error.
_NOTICED: Final = (1, 2, 4)
#: histories of tests/simulation/test_simulation.py, 20 parts of 25
HISTORIES: Final = 500
_SIMULATION: Final = ("-m", "tests.simulation", "--unshrunk", "--histories")
_SIMULATED: Final = ("service/engine/", "service/store/", "service/upstream/chunks.py")
_BROKEN: Final = re.compile(r"^(seed \d+) breaks a rule\n +([^:\n]+)", re.M)
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.M)
# Compiled code is known by its source's size and its time in s: each planted text has a time of its own.
_times = itertools.count(1_000_000_000)


@dataclass(frozen=True)
class Outcome:
    """`by`: quick, simulation, others, '' for none. `what`: the test, or the seed and its rule."""

    by: str
    what: str
    seconds: float


@dataclass(frozen=True)
class Effort:
    """`only`: one kind of step. `whole`: also what `make quick` has beside the fault's own tests.

    `patience`: s after which a fault has passed: it may make tests wait, and the machine may have other work.
    """

    only: str = ""
    whole: bool = False
    histories: int = HISTORIES
    patience: float = 3.0 * MOST_SECONDS


def simulates(fault: Fault) -> bool:
    """Of the simulation nobody expects that it notices all: it knows no routes and no dialects."""
    return fault.file.startswith(_SIMULATED)


def is_quick(test: str, fault: Fault) -> bool:
    """Does `make quick` run it where the fault's file has changed?"""
    parts = (*QUICK, *related([fault.file]))
    return any(test == part or test.startswith(part + "/") for part in parts)


@contextmanager
def benches(count: int) -> Iterator[list[Bench]]:
    with tempfile.TemporaryDirectory(prefix="chat-mutants-") as folder:
        first = Path(folder, "0")
        command = ["git", "ls-files", "-co", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (first / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, first / name)
        roots = [first, *(Path(shutil.copytree(first, Path(folder, str(n)))) for n in range(1, count))]
        found = [Bench(root) for root in roots]
        try:
            yield found
        finally:
            for bench in found:
                bench.close()


def attempt(fault: Fault, bench: Bench, effort: Effort) -> Outcome:
    own = [test for test in fault.tests if is_quick(test, fault)]
    steps: list[tuple[str, Sequence[str]]] = []
    if own:
        steps.append(("quick", [*_PYTEST, *_TIMEOUT, *own]))
    if simulates(fault):
        steps.append(("simulation", [*_SIMULATION, str(effort.histories)]))
    if effort.whole:
        parts = (*related([fault.file]), *QUICK)
        rest = [part for part in parts if part not in own and part != "tests/simulation"]
        # Each planted fault makes its own entry rot: that is not what is asked.
        rest += ["--deselect=tests/unit/test_planted_faults.py"]
        steps.append(("quick", [*_PYTEST, *_TIMEOUT, *rest]))
    others = [test for test in fault.tests if not is_quick(test, fault)]
    if others:
        steps.append(("others", [*_PYTEST, *_TIMEOUT, *others]))
    path = bench.root / fault.file
    before, stat = path.read_text(), path.stat()
    path.write_text(fault.planted(before))
    os.utime(path, (stamp := next(_times), stamp))
    begin = time.monotonic()
    try:
        for by, words in steps:
            left = effort.patience - (time.monotonic() - begin)
            if effort.only in ("", by) and left > 0 and (what := bench.noticed(by, words, left)):
                return Outcome(by, what, time.monotonic() - begin)
        return Outcome("", "", time.monotonic() - begin)
    finally:
        path.write_text(before)
        os.utime(path, (stat.st_atime, stat.st_mtime))


class Bench:
    """A copy of the project in which one fault after the other is tried."""

    def __init__(self, root: Path) -> None:
        self.root = root
        command = [sys.executable, "-m", "tests.mutants.starter", str(root)]
        self._starter = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._out = root.with_name(f"{root.name}.out")

    def run(self, words: Sequence[str], seconds: float) -> tuple[int, str]:
        """The exit status of a step and what it has printed."""
        assert self._starter.stdin
        assert self._starter.stdout
        step = {"words": list(words), "out": str(self._out), "seconds": seconds}
        self._starter.stdin.write(json.dumps(step).encode() + b"\n")
        self._starter.stdin.flush()
        status: int = json.loads(self._starter.stdout.readline())["status"]
        return status, self._out.read_text(errors="replace")

    def noticed(self, by: str, words: Sequence[str], seconds: float) -> str:
        """What has noticed the fault; '' for nothing."""
        status, printed = self.run(words, seconds)
        if status not in _NOTICED:
            return ""
        found = (_BROKEN if by == "simulation" else _FAILED).search(printed)
        # Where nothing is named not even the import went well.
        return ": ".join(found.groups()) if found else printed.strip().rpartition("\n")[2][:200]

    def close(self) -> None:
        self._starter.communicate()
