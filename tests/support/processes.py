"""Real replicas for tests: `python -m service serve` with settings of the test's own.

A `Replica` is one Gunicorn master with its workers; its log is kept for the message of a
failing test. Nothing here knows what a test is about.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import httpx

from tests.support.forked_service import ForkedProcess
from tests.support.redis import free_port
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
Process = subprocess.Popen[bytes] | ForkedProcess


class Replica:
    def __init__(
        self,
        directory: Path,
        command: str = "serve",
        port: int | None = None,
        code: Path = ROOT,  # where the package `service` is; another version's is in another place
        **settings: object,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = command
        self.code = code
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.log_path = directory / f"replica-{self.port}.log"
        self.settings = settings
        self.process: Process | None = None
        try:
            self.start()
        except BaseException:
            self.kill()  # whoever asked for it has nothing to close
            raise

    def start(self) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("CHAT_", "GROQ_"))
        }
        environment |= {
            "CHAT_PORT": str(self.port),
            "CHAT_HOST": "127.0.0.1",
            "CHAT_DATA_DIR": str(self.directory),
            "CHAT_LOG_FORMAT": "json",
            "PYTHONPATH": str(self.code),
        }
        for name, value in self.settings.items():
            environment[name if name.startswith("GROQ_") else f"CHAT_{name.upper()}"] = str(value)
        with self.log_path.open("ab") as log:
            self.process = self._begin(environment, log)
        eventually(self.ready, within=30)

    def _begin(self, environment: dict[str, str], log: IO[bytes]) -> Process:
        words = ["service", self.command]
        if self.code == ROOT:
            return ForkedProcess(words, self.directory, environment, log)
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=self.directory,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def ready(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"the replica has ended:\n{self.log()[-4000:]}"
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, verify=False).status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Process ids of the workers (the process itself where there is no master)."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = []
        for child in map(int, children):
            if self._serves(child):
                found.append(child)
        return found if self.command == "serve" else [self.process.pid]

    def _serves(self, pid: int) -> bool:
        try:
            exporter = Path(f"/proc/{pid}/comm").read_text() == "chat-metrics\n"
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it has just ended
            return False
        return not exporter and b"service" in command and b"service.demo" not in command

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        assert self.process
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Everything at once, as when the host is lost."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
