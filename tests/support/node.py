"""JavaScript clients in a process of their own: tests/clients/node/*.mjs, run by node.

A script exports named scenarios; `play` runs one with its parameters and gives what it returned.
The packages are installed from the lock file once and kept beside the scripts.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.needed import program
from tests.support.processes import ROOT

FOLDER = ROOT / "tests" / "clients" / "node"
# A first installation fetches 90 MB.
_INSTALL_SECONDS = 300
_SCENARIO_SECONDS = 50


class Node:
    def __init__(self) -> None:
        self._node = program("node")
        _install(program("npm"))

    async def play(self, script: str, scenario: str, **parameters: Any) -> Any:
        """What the scenario returned. Its errors fail the test with all that it printed."""
        process = await asyncio.create_subprocess_exec(
            self._node, "play.mjs", script, scenario, json.dumps(parameters), cwd=FOLDER,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), _SCENARIO_SECONDS)
        except (TimeoutError, asyncio.CancelledError):
            process.kill()
            await process.wait()
            raise
        assert process.returncode == 0, f"{script} {scenario}, {process.returncode}:\n{err.decode()}"
        return json.loads(out)


def _install(npm: str) -> None:
    digest = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    stamp = FOLDER / "node_modules" / f".installed-{digest[:16]}"
    with Path(FOLDER / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once install once
        if stamp.exists():
            return
        command = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(
            command, cwd=FOLDER, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
        assert done.returncode == 0, f"npm ci failed:\n{done.stderr}"
        stamp.touch()
