"""Where clients run: environments of Python and node that are installed from locks, and programs.

An environment is made once for each version of its lock. Those of Python are below .venv, so that nothing
else looks into them and `make clean` removes them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.clients.matrix.table import Client
from tests.support.node import FOLDER as NODE
from tests.support.node import install as install_node
from tests.support.running import ROOT

PYTHON: Final = ROOT / "tests" / "clients" / "python"
JAVA: Final = ROOT / "tests" / "clients" / "java"
MADE: Final = ROOT / ".venv" / "clients"
CLASSES: Final = MADE / "java"
NEXT: Final = ROOT / "docs" / "examples" / "next"
_UNOWNED: Final = {"node_modules", ".next"}  # what somebody's own run in the examples has left
QUIET: Final = {"NEXT_TELEMETRY_DISABLED": "1"}
_INSTALL_SECONDS: Final = 600
# What has to be there to run a client, by the first word of its script or by its runtime.
_PROGRAMS: Final = {"node": ("node", "npm"), "curl": ("curl",), "java": ("java", "javac")}


def missing(client: Client) -> list[str]:
    """Programs that this client needs and this machine has not."""
    needed = _PROGRAMS.get(client.place if client.runtime == "program" else client.runtime, ())
    return [name for name in needed if shutil.which(name) is None]


def install(client: Client) -> None:
    """What the client runs in. Raises CalledProcessError."""
    if client.runtime == "node":
        install_node(str(shutil.which("npm")), NODE / client.place)
    elif client.runtime == "python" and client.place:
        install_python(client.place, PYTHON / client.place / "requirements.txt")
    elif client.place == "java":
        _made("java", JAVA / "Http.java", ["javac", "-d", str(CLASSES), str(JAVA / "Http.java")])


def command(client: Client) -> list[str]:
    """What runs the client's script; one argument follows."""
    if client.runtime == "node":
        script = f"{client.place}/{client.script}" if client.place else client.script
        return ["node", str(NODE / "play.mjs"), script, "play"]
    own = client.runtime == "python" and client.place
    python = MADE / client.place / "bin" / "python" if own else sys.executable
    return [str(python), str(PYTHON / f"{client.script}.py")]


def version(client: Client) -> str:
    """What the lock names; of a program, what it says of itself. "" where it is missing."""
    if client.runtime == "python":
        lock = PYTHON / client.place if client.place else ROOT / "tests"
        found = re.search(rf"^{client.package}==(\S+)", (lock / "requirements.txt").read_text(), re.M)
        assert found, f"{client.package} is not in the lock of {client.name}"
        return found[1]
    if client.runtime == "node":
        lock = json.loads((NODE / client.place / "package-lock.json").read_text())
        return str(lock["packages"][f"node_modules/{client.package}"]["version"])
    if missing(client):
        return ""
    said = subprocess.run(
        [client.package, "--version"], capture_output=True, text=True, timeout=20, check=True
    )
    found = re.search(r"\d+(\.\d+)+", said.stdout)
    assert found
    return found[0]


def install_next() -> Path:
    """docs/examples/next as somebody has it who has cloned the project, built. Raises CalledProcessError."""
    home = MADE / "next"
    parts = (NEXT, ROOT / "service" / "web" / "client")
    sources = [
        path
        for part in parts
        for path in sorted(part.rglob("*"))
        if path.is_file() and not _UNOWNED & {*path.parts}
    ]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    app = home / NEXT.relative_to(ROOT)
    stamp = home / "built"
    if stamp.exists() and stamp.read_text() == digest:
        return app
    shutil.rmtree(home, ignore_errors=True)
    for path in sources:
        copy = home / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    for command in (["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], ["npm", "run", "build"]):
        subprocess.run(command, cwd=app, timeout=_INSTALL_SECONDS, check=True, env={**os.environ, **QUIET})
    stamp.write_text(digest)
    return app


def install_python(name: str, lock: Path, base: str = sys.executable) -> None:
    """An environment of that name below MADE, of the interpreter `base`. Raises CalledProcessError."""
    folder = MADE / name
    python = folder / "bin" / "python"
    quiet = ["--disable-pip-version-check", "--quiet", "--no-input", "--no-compile"]
    pip = [str(python), "-m", "pip", "install", *quiet, "--no-deps", "--require-hashes", "-r", str(lock)]
    _made(name, lock, [base, "-m", "venv", "--clear", str(folder)], pip)


def _made(name: str, source: Path, *commands: list[str]) -> None:
    """Runs the commands unless they were run for this content of `source`."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    MADE.mkdir(parents=True, exist_ok=True)
    stamp = MADE / f"{name}.installed"
    with source.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once install once
        if stamp.exists() and stamp.read_text() == digest:
            return
        for words in commands:
            subprocess.run(words, timeout=_INSTALL_SECONDS, check=True)
        stamp.write_text(digest)
