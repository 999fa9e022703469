"""Every command of the documentation is run, in the order in which a reader would type it.

A page is one shell session against a service on a port and a folder of its own: port 8000 is
replaced in what is typed, and put back into what is printed. What a page says that it prints is
compared word for word, except that `...` stands for anything, one id for any other, and one
time for any other. Conventions: pages.py.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.docs.pages import Block, pages, shell_blocks
from tests.support.old_version import is_commit, needs_history
from tests.support.redis import free_port
from tests.support.running import ROOT, clean_environment
from tests.support.waiting import eventually

# A machine that runs other suites beside this one is slow; idle, no block takes 10 s.
_BLOCK_SECONDS = 90.0
_READY_SECONDS = 60.0
_END = "--the-block-has-ended--"

_NORMAL = (
    (re.compile(r"\b([a-z])_[0-9a-hjkmnp-tv-z]{26}\b"), r"\1_ID"),
    (re.compile(r"\b1[5-9]\d{11}\b"), "MS"),  # milliseconds since 1970, 2017 to 2033
    (re.compile(r"\b(date: ).*", re.I), r"\1DATE"),
    (re.compile(r"\bretry: \d+"), "retry: N"),
    (re.compile(r"\bworker=\d+"), "worker=PID"),
)


def runnable(page: Path) -> list[Block]:
    return [block for block in shell_blocks(page) if "norun" not in block.marks]


class Terminal:
    """A bash session with what belongs to it: a port, a folder, services in the background."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.log = directory / "service.log"
        environment = clean_environment(
            CHAT_PORT=str(self.port),
            CHAT_HOST="127.0.0.1",
            CHAT_DATA_DIR=str(directory / "data"),
            CHAT_LOG_FORMAT="console",
            TMPDIR=str(directory),
        )
        self._environment = environment
        self._servers: list[subprocess.Popen[bytes]] = []
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def typed(self, text: str) -> str:
        return re.sub(r"(?<=localhost:)8000\b|(?<=127\.0\.0\.1:)8000\b|(?<=tcp:)8000\b", str(self.port), text)

    def run(self, block: Block) -> tuple[int, str]:
        """The status of the block's last command, and what was printed."""
        assert self._shell.stdin
        assert self._shell.stdout
        quoted = "'" + self.typed(block.text).replace("'", "'\\''") + "'"
        command = f"eval {quoted} </dev/null\nprintf '\\n%s %s\\n' {_END} $?\n"
        self._shell.stdin.write(command.encode())
        self._shell.stdin.flush()
        printed = b""
        deadline = time.monotonic() + _BLOCK_SECONDS
        pattern = re.compile(rb"\n" + _END.encode() + rb" (\d+)\n")
        with selectors.DefaultSelector() as selector:
            selector.register(self._shell.stdout, selectors.EVENT_READ)
            while not (end := pattern.search(printed)):
                heard = selector.select(max(0.0, deadline - time.monotonic()))
                assert heard, f"{block.place} hangs after:\n{printed.decode(errors='replace')}"
                data = os.read(self._shell.stdout.fileno(), 65536)
                assert data, f"{block.place} ended the shell after:\n{printed.decode()}"
                printed += data
        text = printed[: end.start()].decode(errors="replace").replace(str(self.port), "8000")
        return int(end[1]), text

    def serve(self, command: str) -> None:
        """Start a service as in a terminal of its own; returns when it is ready."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", self.typed(command)],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._servers.append(process)
        eventually(self._ready, within=_READY_SECONDS, what=f"the service of `{command}` is ready")

    def _ready(self) -> bool:
        assert self._servers[-1].poll() is None, self.log.read_text(errors="replace")[-4000:]
        try:
            return (
                httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2, verify=False).status_code == 200
            )
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """End what was started here, and nothing else."""
        for process in (self._shell, *self._servers):
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        for process in (self._shell, *self._servers):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        for end in (self._shell.stdin, self._shell.stdout):
            if end is not None:
                end.close()


def normal(text: str) -> str:
    for pattern, replacement in _NORMAL:
        text = pattern.sub(replacement, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def prints(expected: str, printed: str) -> bool:
    """Is this what the page promises, `...` being anything?"""
    parts = [re.escape(part) for part in normal(expected).split("...")]
    return re.fullmatch(".*?".join(parts), normal(printed), re.DOTALL) is not None


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in pages() if runnable(page)], ids=_id)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    todo = runnable(page)
    for tool in ("curl", "lsof", "jq"):
        if any(re.search(rf"\b{tool}\b", block.text) for block in todo) and not shutil.which(tool):
            assert not os.environ.get("CI"), f"{page.name} needs {tool}"
            # A reader without the tool cannot run the page either; in CI that is a failure.
            pytest.skip(f"{page.name} needs {tool}, which this machine lacks")
    terminal = Terminal(tmp_path)
    try:
        if not any("server" in block.marks for block in todo):
            terminal.serve(f"exec {sys.executable} -m service run")
        for block in todo:
            if "server" in block.marks:
                terminal.serve(block.text)
                continue
            status, printed = terminal.run(block)
            assert status == block.exit, f"{block.place} ended with {status}:\n{printed}"
            if block.printed is not None:
                assert prints(block.printed, printed), f"{block.place} printed:\n{printed}"
    finally:
        terminal.close()


def test_what_is_not_run_says_why() -> None:
    for page in pages():
        for block in shell_blocks(page):
            assert all(re.fullmatch(r"norun|server|exit=\d+", mark) for mark in block.marks), block.place
            if "norun" in block.marks:
                reason = re.fullmatch(r"<!-- not run: .{10,} -->", block.before)
                assert reason, f"{block.place}: <!-- not run: (why) --> has to stand above `sh norun`"


def test_what_is_checked_out_is_a_commit() -> None:
    needs_history()
    named = [
        (page.name, name)
        for page in pages()
        for name in re.findall(r"git (?:checkout|worktree add \S+) ([\w.-]+)", page.read_text())
    ]
    assert named
    assert [one for one in named if not is_commit(one[1])] == []


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a ... c", "a b c", True),
        ("a ... c", "a b d", False),
        ("x-turn-id: t_01m82y37va67yxer7v62g2nc03", "x-turn-id: t_01m82y37va67yxer7v62g2nc04", True),
        ('{"created":1795395001193}', '{"created":1795395001999}', True),
        ('{"created":17}', '{"created":18}', False),
    ],
)
def test_ids_times_and_dots_match_anything_and_nothing_else_does(
    expected: str, printed: str, same: bool
) -> None:
    assert prints(expected, printed) is same
