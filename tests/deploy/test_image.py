"""The Dockerfile's steps without a Docker engine: build, user, read-only files, entrypoint, health."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.double import Double
from tests.support.redis import RedisServer, free_port
from tests.support.running import ROOT
from tests.support.waiting import eventually

TEXT = (ROOT / "Dockerfile").read_text()
#: one string per instruction, continuation lines joined
INSTRUCTIONS = [
    re.sub(r"\\\n\s*", " ", found)
    for found in re.findall(r"^[A-Z]+ (?:.*\\\n)*.*$", re.sub(r"^#.*\n", "", TEXT, flags=re.M), re.M)
]
_SECOND = INSTRUCTIONS.index("FROM ${BASE}")
BUILD, FINAL = INSTRUCTIONS[:_SECOND], INSTRUCTIONS[_SECOND:]
USER = 10001


def instruction(name: str) -> str:
    [only] = [line.removeprefix(f"{name} ") for line in FINAL if line.startswith(f"{name} ")]
    return only


def ignored(path: str) -> bool:
    """By .dockerignore: the last pattern that matches decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            parts = [path, *map(str, Path(path).parents)]
            if pattern == "*" or any(fnmatch.fnmatch(part, pattern.replace("**/", "*")) for part in parts):
                verdict = not line.startswith("!")
    return verdict


def copied() -> list[tuple[str, str]]:
    """What the build copies from the context: (source, target)."""
    pairs = []
    for line in BUILD:
        if line.startswith("COPY "):
            *sources, target = line.removeprefix("COPY ").split()
            pairs += [
                (str(file.relative_to(ROOT)), target) for source in sources for file in ROOT.glob(source)
            ]
    return pairs


def test_the_base_is_pinned_and_both_stages_have_the_same() -> None:
    assert re.search(r"^ARG BASE=python:3\.\d+\.\d+-slim-\w+$", TEXT, re.M)
    assert [line for line in INSTRUCTIONS if line.startswith("FROM")] == [
        "FROM ${BASE} AS build",
        "FROM ${BASE}",
    ]


def test_what_is_copied_is_in_the_context_and_little_else_is() -> None:
    assert {source for source, _ in copied()} == {
        "service",
        "deploy/gunicorn.conf.py",
        "deploy/requirements.txt",
        "deploy/requirements-tracing.txt",
    }
    for source, _ in copied():
        assert not ignored(source), source
    outside = (
        ".env",
        ".git/config",
        "tests/conftest.py",
        "secrets/key",
        "docs/metrics.md",
        ".venv/bin/python",
        "deploy/compose/local-secrets/redis_password",
        "service/engine/__pycache__/x.pyc",
    )
    for path in outside:
        assert ignored(path), path


def test_the_image_installs_by_hash_from_wheels_and_keeps_no_tools() -> None:
    install = next(line for line in BUILD if "pip" in line and line.startswith("RUN"))
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install
    packages = re.findall(
        r"apt-get install .*?--no-install-recommends ([\w -]+?) &&", TEXT.replace("\\\n", "")
    )
    assert [package.strip() for package in packages] == ["tini"]
    assert any("rm -rf" in line and "pip*" in line for line in FINAL)
    assert not any(line.startswith(("ADD ", "COPY ")) and "--from=build" not in line for line in FINAL)


def test_it_runs_as_nobody_in_particular_and_ends_on_sigterm() -> None:
    assert instruction("USER") == f"{USER}:{USER}"
    assert instruction("STOPSIGNAL") == "SIGTERM"
    assert json.loads(instruction("ENTRYPOINT")) == ["tini", "--"]
    assert json.loads(instruction("CMD")) == ["python", "-m", "service", "serve"]
    assert {"org.opencontainers.image.title", "org.opencontainers.image.version"} <= set(
        re.findall(r"(org\.[\w.]+)=", instruction("LABEL"))
    )


class Image:
    """The files that the image has, below a folder instead of /."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.python = root / "opt/venv/bin/python"

    def build(self) -> None:
        for source, target in copied():
            place = self.root / target.lstrip("/")
            if target.endswith("/"):
                place = place / Path(source).name
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            else:
                shutil.copy(ROOT / source, place)
        for line in BUILD:
            if line.startswith("RUN "):
                self._run(line.removeprefix("RUN "))
        subprocess.run(["chmod", "-R", "a-w,a+rX", self.root], check=True)

    def _run(self, command: str) -> None:
        command = command.replace("${REQUIREMENTS}", "deploy/requirements.txt")
        command = re.sub(r"(?<!\S)/(opt|build)/", f"{self.root}/\\1/", command)
        command = re.sub(r"^python ", f"{base_python()} ", command)
        command = re.sub(r"\bpip --python", f"{shlex.quote(sys.executable)} -m pip --python", command)
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=240, check=False)
        if "Could not find a version" in done.stderr and os.environ.get("CI") != "true":
            # Without a network nothing can be said of the image; in CI that is a failure.
            pytest.skip("the registry of Python packages cannot be reached")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    def environment(self, **settings: str) -> dict[str, str]:
        """Of the image and of the container; nothing of this machine's."""
        given = dict(found.split("=", 1) for found in shlex.split(instruction("ENV")))
        given["PATH"] = f"{self.python.parent}:/usr/bin:/bin"
        return {**given, **settings}

    def start(self, command: list[str], log: Path, **settings: str) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [*as_user(), *command],
                cwd=self.root / "opt/chat",
                env=self.environment(**settings),
                stdout=output,
                stderr=output,
            )

    def healthy(self, **settings: str) -> bool:
        command = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
        done = subprocess.run(
            [*as_user(), *command],
            cwd=self.root / "opt/chat",
            env=self.environment(**settings),
            capture_output=True,
            timeout=10,
            check=False,
        )
        return done.returncode == 0


def base_python() -> str:
    """An interpreter that the container's user can run, too."""
    for found in (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        probe = [*as_user(), found, "-c", "import sys, venv; sys.exit(sys.version_info < (3, 11))"]
        if subprocess.run(probe, cwd="/", capture_output=True, timeout=20, check=False).returncode == 0:
            return found
    # The container's user must run it: where homes are closed to others, there may be none.
    pytest.skip("no Python of this machine can be run by another user")


def as_user() -> list[str]:
    """A prefix that runs a command as the image's user, without any right of root's."""
    if os.getuid() != 0:
        return []
    return [
        "setpriv",
        f"--reuid={USER}",
        f"--regid={USER}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "sh",
        "-c",
        'exec "$@"',
        "sh",
    ]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    root = Path(
        tempfile.mkdtemp(prefix="chat-image-")
    )  # the user has to get in, which pytest's folders forbid
    root.chmod(0o755)
    built = Image(root)
    built.build()
    yield built
    subprocess.run(["chmod", "-R", "u+w", root], check=True)
    shutil.rmtree(root)


@pytest.mark.slow
@pytest.mark.timeout(300)  # whichever comes first builds the image
def test_the_image_serves_as_its_user_from_files_that_cannot_be_written(
    image: Image,
    tmp_path: Path,
    redis_server: RedisServer,
    store: redis.Redis,
    double_server: tuple[Double, str],
) -> None:
    log = tmp_path / "log"
    settings = {
        "CHAT_PORT": str(free_port()),
        "CHAT_REDIS_URL": redis_server.url,
        "GROQ_BASE_URL": double_server[1],
        "CHAT_WORKERS": "2",
        "CHAT_HOST": "127.0.0.1",
    }
    tini = shutil.which("tini")
    files = set(image.root.rglob("*"))
    assert not image.healthy(**settings)
    command = json.loads(instruction("CMD"))
    process = image.start([*([tini, "-s", "--"] if tini else []), *command], log, **settings)
    try:
        eventually(lambda: image.healthy(**settings), within=60, what=log.read_text())
        url = f"http://127.0.0.1:{settings['CHAT_PORT']}"
        eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200, within=30)
        answer = httpx.post(f"{url}/chat", json={"user_query": "[[tokens=3]]"}, timeout=20)
        assert answer.status_code == 200
        assert answer.text
        uid = Path(f"/proc/{process.pid}").stat().st_uid
        assert uid == (USER if os.getuid() == 0 else os.getuid())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(10)
    assert not image.healthy(**settings)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["level"] for line in lines} <= {"info", "warning"}, log.read_text()
    assert set(image.root.rglob("*")) == files


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_image_has_no_pip_and_compiled_every_module(image: Image) -> None:
    for module in ("pip", "setuptools"):
        probe = subprocess.run(
            [image.python, "-c", f"import {module}"], capture_output=True, timeout=20, check=False
        )
        assert probe.returncode == 1, module
    sources = list((image.root / "opt/chat/service").rglob("*.py"))
    compiled = list((image.root / "opt/chat/service").rglob("*.pyc"))
    assert len(sources) == len(compiled) > 50
