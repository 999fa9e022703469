"""A real nginx with the config of deploy/, pointed at the replicas of a test."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.support.processes import ROOT
from tests.support.redis import free_port
from tests.support.waiting import eventually


class Nginx:
    """deploy/nginx/nginx.conf with other servers, another port and files in the test's folder."""

    def __init__(self, directory: Path, ports: Sequence[int], **edits: str) -> None:
        """`edits` gives arguments of the config other values: burst="5"."""
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        directory.mkdir(parents=True, exist_ok=True)
        source = ROOT / "deploy" / "nginx"
        text = (source / "nginx.conf").read_text()
        servers = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        text, blocks = re.subn(
            r"(upstream chat \{).*?\n(\s*)\}",
            lambda found: f"{found[1]} {servers} keepalive 32; {found[2]}}}",
            text,
            flags=re.S,
        )
        text, listens = re.subn(r"\blisten [^;]+;", f"listen 127.0.0.1:{self.port};", text)
        assert (blocks, listens) == (1, 1), "nginx.conf has one upstream chat block and one listen line"
        for name, value in edits.items():
            text, found = re.subn(rf"\b{name}=[^\s;]+", f"{name}={value}", text)
            assert found, name
        (directory / "nginx.conf").write_text(text)
        for extra in source.iterdir():
            if extra.name != "nginx.conf" and extra.is_file():
                shutil.copy(extra, directory / extra.name)
        # As root nginx makes its workers somebody else, who may not enter the folders of a test.
        user = "user root; " if os.geteuid() == 0 else ""
        with (directory / "access.log").open("wb") as out, (directory / "stderr.log").open("wb") as err:
            self._process = subprocess.Popen(
                [
                    program,
                    "-p",
                    str(directory),
                    "-c",
                    str(directory / "nginx.conf"),
                    "-e",
                    str(directory / "error.log"),
                    "-g",
                    f"daemon off; {user}pid {directory}/nginx.pid;",
                ],
                stdout=out,
                stderr=err,
            )
        self._directory = directory
        eventually(self._answers, within=10)

    @property
    def pid(self) -> int:
        """Of the master."""
        return self._process.pid

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._directory / "stderr.log").read_text()
        try:
            return httpx.get(f"{self.url}/livez", timeout=2, verify=False).status_code in (
                200,
                308,
            )  # with TLS it redirects
        except httpx.TransportError:
            return False

    def lead_to(self, ports: Sequence[int]) -> None:
        """Other replicas from now on, by a reload, as the start script does it."""
        file = self._directory / "nginx.conf"
        servers = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        text, found = re.subn(r"(upstream chat \{)( server [^;]+;)+", rf"\1 {servers}", file.read_text())
        assert found == 1
        file.write_text(text)
        before = self._workers()
        self._process.send_signal(signal.SIGHUP)
        eventually(lambda: self._workers() - before, within=20)

    def _workers(self) -> set[str]:
        return set(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())

    def memory(self) -> int:
        """Bytes that its processes hold in memory of their own."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        held = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (str(self.pid), *children)]
        return sum(int(re.findall(r"^Pss:\s+(\d+)", text, re.M)[0]) * 1024 for text in held)

    def logs(self) -> str:
        """Everything that it has written: the access log, the error log, and what came before both."""
        names = ("access.log", "error.log", "stderr.log")
        return "".join(
            (self._directory / name).read_text() for name in names if (self._directory / name).exists()
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
