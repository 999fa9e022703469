"""The double of Groq as a process of its own, so that faults hit the service alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import httpx

from tests.support.processes import ROOT
from tests.support.redis import free_port
from tests.support.waiting import eventually


class DoubleProcess:
    def __init__(self, *arguments: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.double", "--port", str(port), "--rate", "0", *arguments],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._client = httpx.Client(base_url=self.url, timeout=30, verify=False)
        eventually(self._ready, within=20)

    def _ready(self) -> bool:
        try:
            return self._client.get("/_double/health").status_code == 200
        except httpx.TransportError:
            return False

    def calls(self, **query: Any) -> list[dict[str, Any]]:
        """Recorded calls; see tests/double/admin.py for the filters."""
        answer = self._client.get("/_double/calls", params={"limit": 20_000, **query}).json()
        found: list[dict[str, Any]] = answer["calls"] if isinstance(answer, dict) else answer
        return found

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get("/_double/health").json()
        return found

    def configure(self, **settings: Any) -> None:
        self._client.post("/_double/settings", json=settings).raise_for_status()

    def close(self) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait(10)
