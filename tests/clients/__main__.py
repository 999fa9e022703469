"""`make clients`: asks every client of tests/clients/matrix/table.py, and writes what they showed.

    python -m tests.clients [--write] [words]   clients whose name has one of the words, or all
    python -m tests.clients --install           only what `make test` needs of it

Installs what the clients need from locks, then runs tests/clients/test_matrix.py, test_tool_sessions.py and
test_responses_outcomes.py for them, and for all or for the word `next` the app of docs/examples/next.
What the machine lacks a program for is said, in the table too.
`--write` puts the table into docs/clients.md.
Exit status 1 where a client does not do as expected.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.clients.matrix import environments, page
from tests.clients.matrix.table import CLIENTS, Client
from tests.support.running import ROOT


def main(arguments: list[str]) -> int:
    flags = {word for word in arguments if word.startswith("--")}
    words = [word.lower() for word in arguments if word not in flags]
    chosen = [client for client in CLIENTS if not words or any(word in client.id.lower() for word in words)]
    if "--install" in flags:
        failed = [client for client in CLIENTS if client.core and not _installed(client)]
        return 1 if failed else 0
    ready = [client for client in chosen if not environments.missing(client)]
    for client in chosen:
        if client not in ready:
            _say(f"{client.name}: {page.not_run(client)}")
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        apps = [] if words and "next" not in words else ["tests/browser/test_next.py"]
        status = _run([client for client in ready if _installed(client)], apps, results)
        seen = _seen(results)
    for client in chosen:
        _say(page.row(client, _cells(client, seen)))
    if "--write" in flags and not words:
        page.write(page.table({client.id: _cells(client, seen) for client in CLIENTS}))
    return status


def _run(clients: list[Client], apps: list[str], results: Path) -> int:
    names = json.dumps([client.id for client in clients])
    environment = {**os.environ, "CLIENTS": names, "CLIENTS_RESULTS": str(results)}
    files = ("test_matrix", "test_tool_sessions", "test_responses_outcomes")
    paths = [*(f"tests/clients/{name}.py" for name in files), *apps]
    command = [sys.executable, "-m", "pytest", *paths, "-q", "-p", "no:randomly"]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _seen(results: Path) -> dict[str, dict[str, str]]:
    lines = results.read_text().splitlines() if results.exists() else []
    return dict(json.loads(line) for line in lines)


def _cells(client: Client, seen: dict[str, dict[str, str]]) -> dict[str, str]:
    if client.id in seen:
        return seen[client.id]
    why = page.not_run(client) if environments.missing(client) else "failed"
    return dict.fromkeys(page.cells(client), why)


def _installed(client: Client) -> bool:
    try:
        if not environments.missing(client):
            environments.install(client)
    except (AssertionError, subprocess.SubprocessError) as error:
        _say(f"{client.name}: not installed: {error}")
        return False
    return True


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
