"""`make test`: every test, in parts, with the time of each at the end; `make quick`: what notices most.

    in process   unit, contract, integration: what they cover is measured
    coverage     fails below the floor
    others       docs, deploy, the double, the simulation, clients, and whatever is in no other part
    browser      a Chromium for each worker; apart, since Playwright's loop lets no other run beside it
    faults       replicas of their own; on redis-server where there is one, as in production
    redis        what depends on the server most, once more on redis-server beside the bundled Valkey
    model        random callers and faults on real processes, for two minutes (tests/model)
    alone        marked `alone`: they measure time, and a neighbour would be measured with it

The model, which mostly waits, runs beside `browser`; the other parts have the machine for themselves: beside
each other they take some minutes less, and each time a test has waited in vain for what comes in real time.
About half of a test is waiting, so there is one worker more than the machine has cores, but for `browser`.
A worker of pytest-xdist has a Redis, a double and ports of its own (tests/conftest.py). Arguments are
passed to pytest.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Final

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
    "tests/integration/test_changes.py",
    "tests/integration/test_store_calls.py",
    "tests/integration/test_store_records.py",
)
REDIS: Final = {"TESTS_REDIS": "redis-server"}
# Made-up requests to all of the API: each worker of pytest makes all of them, and has a replica.
_COSTLY: Final = "tests/contract/test_made_up_requests.py"
# Integration tests take some seconds a file.
_MOST_RELATED: Final = 12
# Branch coverage of the packages that pyproject.toml names, in %. Raised when it has grown, never lowered.
FLOOR: Final = 92
_FOUND: Final = ".coverage.json"
# With --fail-under here it would print what this process has seen, without its workers (slipcover 1.1).
_MEASURED: Final = ("--json", "--out", _FOUND, "-m", "pytest")
# For a test beside the unit tests of other Pythons: three times what a test has by itself (pyproject.toml).
_LONG: Final = ("--timeout=180",)
_LOOK_SECONDS: Final = 0.2
_INTERRUPTED: Final = 2
_NOTHING_COLLECTED: Final = 5


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class Part:
    """What pytest, or another module, is called with, and variables of its environment."""

    name: str
    words: Sequence[str]
    variables: dict[str, str] = field(default_factory=dict)
    module: str = "pytest"


def quick() -> list[str]:
    """QUICK, and what tells most of what has changed, unless that is half of the service."""
    touched = changed()
    found = [test for test in related(touched) if test not in QUICK]
    left = [] if any(path.startswith("service/api/") for path in touched) else [f"--ignore={_COSTLY}"]
    return [*QUICK, *left, *(found if len(found) <= _MOST_RELATED else ())]


def beside(workers: int) -> list[str]:
    """Each worker takes a stretch of the tests, so that neighbours share fixtures, and steals when done.

    (Not --dist=loadgroup: with pytest 9.2 its groups are ignored, and of tests with one id it runs one.)
    """
    return ["-m", "not alone", f"-n{workers}", "--dist=worksteal"]


def alone() -> list[str]:
    """The modules that have such tests: to collect all of them takes ten seconds."""
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in found if "mark.alone" in path.read_text()]


def parts() -> list[list[Part]]:
    """Those of one list run beside each other."""
    more = cores() + 1
    elsewhere = [f"--ignore={place}" for place in (*IN_PROCESS, BROWSER, FAULTS)]
    real = REDIS if shutil.which("redis-server") else {}
    floor = ["--merge", _FOUND, "--out", _FOUND, "--fail-under", str(FLOOR)]
    return [
        [
            Part("in process", [*_MEASURED, *IN_PROCESS, *beside(more)], module="slipcover"),
        ],
        [Part("coverage", floor, module="slipcover")],
        [Part("faults", [FAULTS, *beside(more)], real)],
        [
            Part("browser", [BROWSER, *beside(cores())]),
            Part("model", ["--seconds", "120"], real, module="tests.model"),
        ],
        [Part("others", ["tests", *elsewhere, *_LONG, *beside(more)])],
        [Part("redis", [*ON_BOTH, *beside(more)], REDIS)],
        [Part("alone", [*alone(), "-m", "alone"])],
    ]


class Run:
    """Parts of a run, what they took and how they ended."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._told: list[str] = []
        self.good = True
        self.interrupted = False

    def together(self, parts: Sequence[Part]) -> None:
        """Run parts beside each other; what all but the first print is shown when they have ended."""
        begin = time.monotonic()
        with ExitStack() as stack:
            printed = [None, *(stack.enter_context(tempfile.TemporaryFile()) for _ in parts[1:])]
            running = {
                part: stack.enter_context(self._start(part, out))
                for part, out in zip(parts, printed, strict=True)
            }
            while running:
                time.sleep(_LOOK_SECONDS)  # between two looks, until each part has ended
                for part, process in list(running.items()):
                    pid, status, used = os.wait4(process.pid, os.WNOHANG)
                    if pid:
                        process.returncode = os.waitstatus_to_exitcode(status)
                        del running[part]
                        self._ended(part, process.returncode, time.monotonic() - begin, used)
            for out in filter(None, printed):
                out.seek(0)
                sys.stdout.write(out.read().decode(errors="replace"))

    def _start(self, part: Part, out: IO[bytes] | None) -> subprocess.Popen[bytes]:
        given = self._arguments if "pytest" in (part.module, *part.words) else ()
        command = [sys.executable, "-m", part.module, *part.words, *given]
        environment = {**os.environ, **part.variables}
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)

    def _ended(self, part: Part, status: int, seconds: float, used: resource.struct_rusage) -> None:
        """`used`: by the part and by what it has started and waited for."""
        passed = status in (0, _NOTHING_COLLECTED)
        cpu = used.ru_utime + used.ru_stime
        told = "passed" if passed else "failed"
        self._told.append(f"  {part.name:<12}{seconds:6.0f} s  {told}  {cpu:6.0f} s of CPU")
        self.good = self.good and passed
        # Where coverage is too low the status is the same, of another module.
        self.interrupted = self.interrupted or (status == _INTERRUPTED and part.module == "pytest")

    def summary(self) -> str:
        return "\n".join(["", *self._told, ""])


def main(arguments: list[str]) -> int:
    begin = time.monotonic()
    run = Run(arguments)
    if "--quick" in arguments:
        arguments.remove("--quick")
        run.together([Part("quick", [*quick(), *beside(2 * cores())])])
    else:
        for module in ("tests.support.node", "tests.clients"):
            subprocess.run([sys.executable, "-m", module, "--install"], cwd=ROOT, check=False)
        for some in parts():
            run.together(some)
            if run.interrupted:
                break
    sys.stdout.write(f"{run.summary()}  {'all':<12}{time.monotonic() - begin:6.0f} s\n")
    return 0 if run.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
