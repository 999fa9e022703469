"""`make test`: every test, in parts, with the time of each at the end; `make quick`: three folders.

    together   tests that wait more than they compute, two for each core at once
    spaced     tests with replicas or node processes of their own, one for each core at once
    browser    one Chromium for each core; apart, since Playwright's loop lets no other run beside it
    alone      marked `alone`: they measure time, and a neighbour would be measured with it
    again      what failed beside others, without them; named at the end, for it is a bug of the test

A worker of pytest-xdist has a Redis, a double and ports of its own (tests/conftest.py). What is
in no other part is in `together`, so no folder is forgotten. Arguments are passed to pytest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.support.running import ROOT

SPACED: Final = ("tests/fault", "tests/clients")
BROWSER: Final = "tests/browser"
# More than this many failures are no disturbance by neighbours.
MOST_AGAIN: Final = 12
_FAILED: Final = 1
_INTERRUPTED: Final = 2
_NOTHING_COLLECTED: Final = 5
_LAST_FAILED: Final = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def beside(workers: int) -> list[str]:
    """Each worker takes a stretch of the tests, so that neighbours share fixtures, and steals when done.

    (Not --dist=loadgroup: with pytest 9.2 its groups are ignored, and of tests with one id it runs one.)
    """
    return ["-m", "not alone", f"-n{workers}", "--dist=worksteal"]


def parts() -> dict[str, list[str]]:
    """What pytest is called with, by part."""
    elsewhere = [f"--ignore={folder}" for folder in (*SPACED, BROWSER)]
    return {
        "together": ["tests", *elsewhere, *beside(2 * cores())],
        "spaced": [*SPACED, *beside(cores())],
        "browser": [BROWSER, *beside(cores())],
        "alone": ["tests", "-m", "alone"],
    }


def quick() -> dict[str, list[str]]:
    return {"quick": ["tests/unit", "tests/contract", "tests/simulation", *beside(2 * cores())]}


class Run:
    """Parts of a run, what they took and how they ended."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._told: list[str] = []
        self.statuses: dict[str, int] = {}

    def part(self, name: str, chosen: Sequence[str]) -> int:
        begin = time.monotonic()
        command = [sys.executable, "-m", "pytest", *chosen, *self._arguments]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        self.statuses[name] = 0 if status == _NOTHING_COLLECTED else status
        outcome = "passed" if self.statuses[name] == 0 else "failed"
        self._told.append(f"  {name:<10}{time.monotonic() - begin:6.0f} s  {outcome}")
        return status

    def again(self) -> bool:
        """Run what failed beside others once more without them. True when all of it passes."""
        failed = sorted(json.loads(_LAST_FAILED.read_text())) if _LAST_FAILED.exists() else []
        if any(status not in (0, _FAILED) for status in self.statuses.values()):
            return False
        if not 0 < len(failed) <= MOST_AGAIN or self.statuses.get("alone"):
            return False
        passed = self.part("again", ["--last-failed"]) == 0
        if passed:
            self._told += ["  failed beside others only:", *(f"    {name}" for name in failed)]
        return passed

    def summary(self) -> str:
        return "\n".join(["", *self._told, ""])


def main(arguments: list[str]) -> int:
    chosen = parts()
    if "--quick" in arguments:
        arguments.remove("--quick")
        chosen = quick()
    else:
        subprocess.run([sys.executable, "-m", "tests.support.node"], cwd=ROOT, check=False)
    _LAST_FAILED.unlink(missing_ok=True)
    run = Run(arguments)
    for name, words in chosen.items():
        if run.part(name, words) == _INTERRUPTED:
            break
    good = not any(run.statuses.values()) or run.again()
    sys.stdout.write(run.summary())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
