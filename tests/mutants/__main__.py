"""`make mutants`: plants each fault of faults.toml and says which tests notice, and how soon.

    python -m tests.mutants [words]     only the faults whose file or sentence has one of the words
    python -m tests.mutants --simulation [words]    what a minute of tests/simulation notices of them

Each fault is planted in a copy of the project, so that the work tree stays as it is, and its tests
run there until the first one fails. Exit status 1 where a fault passes. A fault that no test
notices within its time counts as not caught. Of the simulation nobody expects that it notices all: it
knows no routes, and is asked about the engine, the store and the provider's stream only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tests.__main__ import cores
from tests.mutants.catalogue import Fault, faults
from tests.support.running import ROOT

# The tests of a fault take seconds; a fault may also make them wait until their own timeouts.
_SECONDS: Final = 180
_PYTEST: Final = ("-m", "pytest", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--timeout=30")
# Of pytest: tests failed, interrupted, its own error, not to be used. Neither success nor out of time.
_NOTICED: Final = (1, 2, 3, 4)
_SIMULATION: Final = ("-m", "tests.simulation", "--seconds", "60")
_SIMULATED: Final = ("service/engine/", "service/store/", "service/upstream/chunks.py")
_BROKEN: Final = re.compile(r"^(seed \d+) breaks a rule\n +([^:\n]+)", re.M)
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.M)


@contextmanager
def copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="chat-mutants-") as folder:
        root = Path(folder)
        command = ["git", "ls-files", "-co", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        yield root


def try_fault(fault: Fault, root: Path, *, simulated: bool) -> tuple[str, float]:
    """The test, or the seed, that notices the fault ('' for none), and the seconds until then."""
    path = root / fault.file
    before = path.read_text()
    path.write_text(fault.planted(before))
    begin = time.monotonic()
    # PYTHONDONTWRITEBYTECODE: two faults within a second of one size would share compiled code.
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    # SIGINT first: then pytest stops the servers that it has started.
    bounded = ["timeout", "--signal=INT", "--kill-after=20", str(_SECONDS), sys.executable]
    command = [*bounded, *_SIMULATION] if simulated else [*bounded, *_PYTEST, *fault.tests]
    try:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        found = (_BROKEN if simulated else _FAILED).search(done.stdout)
        named = ": ".join(found.groups()) if found else "it could not run"
        caught = named if done.returncode in _NOTICED else ""
    finally:
        path.write_text(before)
    return caught, time.monotonic() - begin


def main(words: list[str]) -> int:
    simulated = "--simulation" in words
    words = [word for word in words if word != "--simulation"]
    chosen = [
        fault
        for fault in faults()
        if not simulated or fault.file.startswith(_SIMULATED)
        if not words or any(word in fault.file or word in fault.seen for word in words)
    ]
    passed = []
    copies: SimpleQueue[Path] = SimpleQueue()

    def one(fault: Fault) -> tuple[Fault, str, float]:
        root = copies.get()
        try:
            return fault, *try_fault(fault, root, simulated=simulated)
        finally:
            copies.put(root)

    workers = cores()
    with ThreadPoolExecutor(workers) as pool, copy() as first:
        copies.put(first)
        for number in range(1, workers):
            another = first / f".copy-{number}"
            copies.put(Path(shutil.copytree(first, another, ignore=shutil.ignore_patterns(".copy-*"))))
        for fault, caught, seconds in pool.map(one, chosen):
            sys.stdout.write(f"{seconds:6.1f} s  {fault.name}\n          {caught or 'NOT CAUGHT'}\n")
            sys.stdout.flush()
            if not caught:
                passed.append(fault)
    sys.stdout.write(f"\n{len(chosen) - len(passed)} of {len(chosen)} caught\n")
    return 1 if passed and not simulated else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
