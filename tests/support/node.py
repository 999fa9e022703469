"""JavaScript clients in a process of their own: tests/clients/node/*.mjs, run by node.

A script exports named scenarios; `play` runs one with its parameters and gives what it returned.
The packages are installed from the lock file once and kept beside the scripts.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.needed import lacking, program
from tests.support.processes import ROOT

FOLDER = ROOT / "tests" / "clients" / "node"
# A first installation fetches 90 MB.
_INSTALL_SECONDS = 300
# At a load of 30 some took more than 50 s; beside other parts they have what those leave (tests/__main__.py).
_SCENARIO_SECONDS = 150
# What package.json says too; Debian 12 brings 18.
OLDEST = 20


class Node:
    def __init__(self) -> None:
        self._node = program("node")
        older_than_needed(self._node)
        install(program("npm"))

    async def play(self, script: str, scenario: str, **parameters: Any) -> Any:
        """What the scenario returned. Its errors fail the test with all that it printed."""
        process = await asyncio.create_subprocess_exec(
            self._node,
            "play.mjs",
            script,
            scenario,
            json.dumps(parameters),
            cwd=FOLDER,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), _SCENARIO_SECONDS)
        except (TimeoutError, asyncio.CancelledError):
            process.kill()
            await process.wait()
            raise
        assert process.returncode == 0, f"{script} {scenario}, {process.returncode}:\n{err.decode()}"
        return json.loads(out)


def older_than_needed(node: str) -> None:
    """Skip, with CI=true fail, where node is too old for the packages."""
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True)
    if int(version.stdout.strip().lstrip("v").partition(".")[0]) < OLDEST:
        lacking(f"node is {version.stdout.strip()}, and the clients' packages need {OLDEST} or newer")


def install(npm: str, folder: Path = FOLDER) -> None:
    """What package-lock.json names, once; a first time takes longer than a test may."""
    digest = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / f".installed-{digest[:16]}"
    with Path(folder / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once install once
        if stamp.exists():
            return
        command = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
        assert done.returncode == 0, f"npm ci failed:\n{done.stderr}"
        stamp.touch()


def linked(project: Path) -> None:
    """Give a project the packages that are installed here, and ours by its name."""
    modules = project / "node_modules"
    modules.mkdir()
    for package in (FOLDER / "node_modules").iterdir():
        (modules / package.name).symlink_to(package)
    (modules / "chat-service-client").symlink_to(ROOT / "service" / "web" / "client")


if __name__ == "__main__":  # tests/__main__.py, before the tests: outside of any test's time
    npm = shutil.which("npm")
    if npm:
        install(npm)
