"""The code of version 0.1.0, for tests of upgrades: taken from the history of this repository.

Needs a clone with its history: where that is cut off (`git clone --depth`), a test says so and is left out,
in CI too.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.needed import program
from tests.support.running import ROOT

# The last commit of version 0.1.0.
COMMIT = "db40d6f8d8ab00caef7122332b6649857602d55d"


def _git(*words: str, check: bool) -> subprocess.CompletedProcess[bytes]:
    # Whoever runs the tests may be another user than the one who has cloned: git refuses that unless told.
    git = [program("git"), "-c", "safe.directory=*", "-C", str(ROOT)]
    return subprocess.run([*git, *words], capture_output=True, check=check)


def is_commit(name: str) -> bool:
    return _git("cat-file", "-e", f"{name}^{{commit}}", check=False).returncode == 0


def needs_history() -> None:
    if not is_commit(COMMIT):
        pytest.skip(f"needs commit {COMMIT} (version 0.1.0), which the history of this clone does not have")


def old_version(directory: Path) -> Path:
    """Put what it starts with into the directory; gives the directory, for PYTHONPATH."""
    needs_history()
    archive = _git("archive", COMMIT, "service", "deploy", check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(directory, filter="data")
    return directory
