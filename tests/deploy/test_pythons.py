"""Python 3.11 to 3.14: unit tests under each that this machine has, wheels of all packages for the others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.matrix.environments import MADE, install_python
from tests.support.needed import lacking
from tests.support.running import ROOT

# pyproject.toml says from which on; the newest is the newest of which all packages have wheels.
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
OWN = ".".join(map(str, sys.version_info[:2]))
LOCK = ROOT / "deploy" / "requirements-local.txt"


def interpreter(version: str) -> str | None:
    """One with which environments can be made: on PATH, or of pyenv."""
    places = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    for place in filter(None, places):
        probe = [str(place), "-c", "import ensurepip, venv"]
        if subprocess.run(probe, capture_output=True, timeout=20, check=False).returncode == 0:
            return str(place)
    return None


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", [version for version in VERSIONS if version != OWN])
def test_it_runs_with_this_python_or_installs_from_wheels(version: str, tmp_path: Path) -> None:
    base = interpreter(version)
    if base is None:
        # What the lock's markers say is asked of this interpreter, not of that version.
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check"]
        wanted = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", str(tmp_path)]
        run([*pip, *wanted, "--python-version", version, "-r", str(LOCK)])
        return
    name = f"python{version}"
    try:
        install_python(name, ROOT / "tests" / "requirements.txt", base)
    except subprocess.CalledProcessError:
        lacking(f"needs what the lock names for {base}, which cannot be installed here")
    python = str(MADE / name / "bin" / "python")
    run(
        [python, "-m", "pytest", "tests/unit", "-q", "-x", "-p", "no:cacheprovider", f"--basetemp={tmp_path}"]
    )


def run(words: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
