"""`make test`: every test, in parts, with the time of each at the end; `make quick`: two folders.

    together   tests that wait more than they compute, two for each core at once
    spaced     tests with replicas or node processes of their own, one for each core at once
    browser    one Chromium for each core; apart, since Playwright's loop lets no other run beside it
    alone      marked `alone`: they measure time, and a neighbour would be measured with it

A worker of pytest-xdist has a Redis, a double and ports of its own (tests/conftest.py). What is
in no other part is in `together`, so no folder is forgotten. Arguments are passed to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Final

SPACED: Final = ("tests/fault", "tests/clients")
BROWSER: Final = "tests/browser"
_NOTHING_COLLECTED: Final = 5
_INTERRUPTED: Final = 2


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def beside(workers: int) -> list[str]:
    """Tests marked xdist_group("x") go to one worker: they share what is dear to start."""
    return [f"-n{workers}", "--dist=loadgroup"]


def parts() -> dict[str, list[str]]:
    """What pytest is called with, by part."""
    elsewhere = [f"--ignore={folder}" for folder in (*SPACED, BROWSER)]
    return {
        "together": ["tests", *elsewhere, "-m", "not alone", *beside(2 * cores())],
        "spaced": [*SPACED, "-m", "not alone", *beside(cores())],
        "browser": [BROWSER, "-m", "not alone", *beside(cores())],
        "alone": ["tests", "-m", "alone"],
    }


def quick() -> dict[str, list[str]]:
    return {"quick": ["tests/unit", "tests/contract", "-m", "not alone", *beside(2 * cores())]}


def main(arguments: list[str]) -> int:
    told = []
    failed = False
    chosen_parts = parts()
    if "--quick" in arguments:
        arguments.remove("--quick")
        chosen_parts = quick()
    else:
        subprocess.run([sys.executable, "-m", "tests.support.node"], check=True)  # installs the JavaScript
    for name, chosen in chosen_parts.items():
        begin = time.monotonic()
        status = subprocess.run([sys.executable, "-m", "pytest", *chosen, *arguments], check=False).returncode
        passed = status in (0, _NOTHING_COLLECTED)
        failed |= not passed
        told.append(f"  {name:<10}{time.monotonic() - begin:6.0f} s  {'passed' if passed else 'failed'}")
        if status == _INTERRUPTED:
            break
    sys.stdout.write("\n".join(["", *told, ""]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
