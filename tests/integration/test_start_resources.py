"""What a start takes of its machine: a folder for counts, file descriptors."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from service.serving import master
from tests.conftest import Start
from tests.support.running import ROOT, Running, clean_environment

_MAKE = """
import os, shutil, sys
from pathlib import Path
from service.serving import master
for _ in range(100):
    made = master.make_metrics_dir(Path(sys.argv[1]))
    (made / "counter_0.db").touch()
    shutil.rmtree(made)
    os.close(master._held.pop())
"""

_LOADED = """
import asyncio, os, sys
from service.app import create_app
app = create_app()
async def serve():
    async with app.router.lifespan_context(app):
        print(*(name for name in ("jwt", "cryptography.x509") if name in sys.modules), flush=True)
        os._exit(0)
asyncio.run(serve())
"""


def test_masters_that_start_together_do_not_take_each_others_folder(tmp_path: Path) -> None:
    masters = [
        subprocess.Popen([sys.executable, "-c", _MAKE, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [(each.communicate(timeout=50)[1], each.returncode) for each in masters] == [(b"", 0)] * 4


def test_a_small_memory_folder_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full one kills each worker that writes into it, and each that takes its place."""
    shared = os.statvfs("/dev/shm")

    def statvfs(path: str) -> os.statvfs_result:
        assert path == "/dev/shm"
        return os.statvfs_result((*shared[:4], 256 * 1024 // shared.f_frsize, *shared[5:10]))

    assert master.memory_dir(workers=2) == "/dev/shm"
    monkeypatch.setattr(os, "statvfs", statvfs)
    assert master.memory_dir(workers=2) == tempfile.gettempdir()


@pytest.mark.parametrize(("command", "turns", "warned"), [("run", 400, False), ("serve", 2_000, True)])
def test_the_limit_of_files_is_raised_to_the_hard_one(
    tmp_path: Path, command: str, turns: int, warned: bool
) -> None:
    settings = {"GROQ_BASE_URL": "http://127.0.0.1:9", "CHAT_MAX_RUNNING_TURNS": str(turns)}
    settings["OPEN_FILES"] = "256 2048"
    with Running(command, tmp_path, **settings) as running:
        for pid in {running.pid, *running.workers()}:
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert re.search(r"^Max open files +2048 +2048 ", limits, re.MULTILINE), limits
        told = running.logged("files.few")
    assert [(line["limit"], line["need"]) for line in told] == [(2_048, 4_256)] * warned


async def test_a_call_for_which_no_descriptor_is_left_says_so(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(retry_budget_seconds=0.1) as served:

        async def refuse(*arguments: object, **options: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        # uvicorn and its clients have their connections already.
        await served.client.get("/livez")
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse, raising=True)
        answer = await served.client.post("/chat", json={"user_query": "hello"})
        monkeypatch.undo()
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.json()["detail"] == "This replica has no file descriptor left."


@pytest.mark.parametrize(
    ("settings", "loaded"),
    [
        ({"CHAT_AUTH": "keys"}, ""),
        (
            {"CHAT_AUTH": "jwt", "CHAT_JWT_KEY": "s" * 32, "CHAT_JWT_ALGORITHMS": "HS256"},
            "jwt cryptography.x509",
        ),
    ],
    ids=["keys", "jwt"],
)
def test_a_worker_loads_what_is_for_jwts_only_where_there_are_such(
    settings: dict[str, str], loaded: str
) -> None:
    """It takes 9 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", _LOADED],
        env=clean_environment(**settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.strip() == loaded
