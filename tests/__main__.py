"""`make test`: every test, in parts, with the time of each at the end; `make quick`: what notices most.

    in process   unit, contract, integration: what they cover is measured
    coverage     fails below the floor
    others       docs, deploy, the double, the simulation, clients, and whatever is in no other part
    browser      one Chromium for each core; apart, since Playwright's loop lets no other run beside it
    faults       replicas of their own; on redis-server where there is one, as in production
    redis        what depends on the server most, once more on redis-server beside the bundled Valkey
    model        random callers and faults on real processes, for two minutes (tests/model)
    alone        marked `alone`: they measure time, and a neighbour would be measured with it

Parts run one after the other: two at once kept five processes waiting for two cores, and some tests that
measure a second failed. A worker of pytest-xdist has a Redis, a double and ports of its own
(tests/conftest.py). Arguments are passed to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.related import changed, related
from tests.support.running import ROOT

IN_PROCESS: Final = ("tests/unit", "tests/contract", "tests/integration")
BROWSER: Final = "tests/browser"
FAULTS: Final = "tests/fault"
# What scripts, commands and replies do: each server has an implementation of its own.
ON_BOTH: Final = tuple(
    f"tests/integration/test_{name}.py"
    for name in (
        "promises",
        "fence",
        "multiplexed",
        "pacing",
        "held",
        "send_admission",
        "session_snapshot",
        "places",
        "ways_to_redis",
    )
)
# What notices most within a minute: pure parts, dialects, whole engines, and each script by itself.
QUICK: Final = (
    "tests/unit",
    "tests/contract",
    "tests/simulation",
    "tests/integration/test_promises.py",
    "tests/integration/test_fence.py",
    "tests/integration/test_kept.py",
)
REDIS: Final = {"TESTS_REDIS": "redis-server"}
# Integration tests take some seconds a file.
_MOST_RELATED: Final = 12
# Branch coverage of the packages that pyproject.toml names, in %. Raised when it has grown, never lowered.
FLOOR: Final = 92
_FOUND: Final = ".coverage.json"
# With --fail-under here it would print what this process has seen, without its workers (slipcover 1.1).
_MEASURED: Final = ("--json", "--out", _FOUND, "-m", "pytest")
_INTERRUPTED: Final = 2
_NOTHING_COLLECTED: Final = 5


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Part:
    """What pytest, or another module, is called with, and variables of its environment."""

    name: str
    words: Sequence[str]
    variables: dict[str, str] = field(default_factory=dict)
    module: str = "pytest"


def quick() -> list[str]:
    """QUICK, and what tells most of what has changed, unless that is half of the service."""
    found = [test for test in related(changed()) if test not in QUICK]
    return [*QUICK, *(found if len(found) <= _MOST_RELATED else ())]


def beside(workers: int) -> list[str]:
    """Each worker takes a stretch of the tests, so that neighbours share fixtures, and steals when done.

    (Not --dist=loadgroup: with pytest 9.2 its groups are ignored, and of tests with one id it runs one.)
    """
    return ["-m", "not alone", f"-n{workers}", "--dist=worksteal"]


def parts() -> list[Part]:
    at_once = cores()
    elsewhere = [f"--ignore={folder}" for folder in (*IN_PROCESS, BROWSER, FAULTS)]
    real = REDIS if shutil.which("redis-server") else {}
    return [
        Part("in process", [*_MEASURED, *IN_PROCESS, *beside(at_once + 1)], module="slipcover"),
        Part(
            "coverage", ["--merge", _FOUND, "--out", _FOUND, "--fail-under", str(FLOOR)], module="slipcover"
        ),
        Part("redis", [*ON_BOTH, *beside(at_once + 1)], REDIS),
        Part("others", ["tests", *elsewhere, *beside(at_once + 1)]),
        Part("browser", [BROWSER, *beside(at_once)]),
        Part("faults", [FAULTS, *beside(at_once)], real),
        Part("model", ["--seconds", "120"], real, module="tests.model"),
        Part("alone", ["tests", "-m", "alone"]),
    ]


class Run:
    """Parts of a run, what they took and how they ended."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._told: list[str] = []
        self.good = True

    def part(self, part: Part) -> int:
        begin = time.monotonic()
        given = self._arguments if "pytest" in (part.module, *part.words) else ()
        command = [sys.executable, "-m", part.module, *part.words, *given]
        environment = {**os.environ, **part.variables}
        done = subprocess.run(command, cwd=ROOT, check=False, env=environment).returncode
        status = 0 if done == _NOTHING_COLLECTED else done
        outcome = "passed" if status == 0 else "failed"
        self._told.append(f"  {part.name:<12}{time.monotonic() - begin:6.0f} s  {outcome}")
        self.good = self.good and status == 0
        return status

    def summary(self) -> str:
        return "\n".join(["", *self._told, ""])


def main(arguments: list[str]) -> int:
    begin = time.monotonic()
    run = Run(arguments)
    if "--quick" in arguments:
        arguments.remove("--quick")
        run.part(Part("quick", [*quick(), *beside(2 * cores())]))
    else:
        for module in ("tests.support.node", "tests.clients"):
            subprocess.run([sys.executable, "-m", module, "--install"], cwd=ROOT, check=False)
        for part in parts():
            # Where coverage is too low the status is the same, of another module.
            if run.part(part) == _INTERRUPTED and part.module == "pytest":
                break
    sys.stdout.write(f"{run.summary()}  {'all':<12}{time.monotonic() - begin:6.0f} s\n")
    return 0 if run.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
