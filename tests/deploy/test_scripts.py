"""The start script of Redis's container and `make rolling`, run for real."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.support.needed import program
from tests.support.redis import RedisServer, free_port
from tests.support.running import ROOT
from tests.support.waiting import eventually

DEPLOY = ROOT / "deploy"


def stub(directory: Path, name: str, script: str) -> None:
    """A program of this name, found first on PATH."""
    file = directory / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder at the front of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


Run = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Run]:
    program("redis-server")
    started: list[subprocess.Popen[bytes]] = []
    conf = tmp_path / "redis.conf"
    conf.write_text((DEPLOY / "redis/redis.conf").read_text().replace("dir /data", f"dir {tmp_path}"))

    def run(password: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        secret = tmp_path / "password"
        secret.write_text(password)
        script = (DEPLOY / "redis/start.sh").read_text()
        assert "secret=/run/secrets/chat_redis_password\n" in script
        script = script.replace("/run/secrets/chat_redis_password", str(secret))
        process = subprocess.Popen(
            ["sh", "-c", script, "start.sh", *arguments],
            env={"PATH": os.environ["PATH"], "REDIS_CONF": str(conf), **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_redis_has_the_password_of_the_file_and_no_one_sees_it(start_redis: Run) -> None:
    port = free_port()
    process = start_redis("pass word'\n", "--port", str(port), REDIS_MAXMEMORY="64mb")
    store = redis.Redis(port=port, password="pass word'", socket_timeout=2, decode_responses=True)

    def answers() -> bool:
        try:
            return bool(store.ping())
        except redis.ConnectionError:
            return False

    eventually(answers, within=10)
    assert store.config_get("maxmemory", "maxmemory-policy", "appendonly") == {
        "maxmemory": str(64 * 2**20),
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
    }
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=port, socket_timeout=2).ping()
    assert b"pass word" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert b"pass word" not in Path(f"/proc/{process.pid}/environ").read_bytes()
    process.send_signal(signal.SIGTERM)  # reaches Redis itself
    assert process.wait(10) == 0


def test_a_dump_in_an_empty_volume_is_what_redis_begins_with(
    tmp_path: Path, start_redis: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The obvious restore; a Redis with an append-only file on would read nothing of it."""
    monkeypatch.setenv("TESTS_REDIS", "redis-server")  # an older server reads no dump of a newer one
    source = RedisServer(tmp_path / "source")
    try:
        with source.client() as store:
            store.rpush("chat:kept", *range(1000))
            store.save()
        (source.directory / "dump.rdb").rename(tmp_path / "dump.rdb")
    finally:
        source.close()
    for _ in range(2):  # the second time from the append-only file
        port = free_port()
        process = start_redis("secret", "--port", str(port))
        store = redis.Redis(port=port, password="secret", socket_timeout=2, decode_responses=True)

        def kept(store: redis.Redis = store) -> bool:
            try:
                return bool(store.llen("chat:kept") == 1000)
            except redis.RedisError:
                return False

        eventually(kept, within=20)
        assert store.config_get("appendonly") == {"appendonly": "yes"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        (tmp_path / "dump.rdb").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("password", "environment", "sentence"),
    [
        ("", {}, "needs a password"),
        ("local-only\n", {"CHAT_ENV": "production"}, "production needs a password of its own"),
        ('pass"word\n', {}, "holds a quote"),
        ("pass\\word\n", {}, "holds a quote, a backslash"),
        ("pass\nport 1\n", {}, "holds a quote, a backslash, a line break"),
        ("password\r\n", {}, "holds a quote, a backslash, a line break"),
        ("password \n", {}, "a space at an end"),
    ],
)
def test_redis_does_not_start_with_a_password_that_is_none(
    start_redis: Run, password: str, environment: dict[str, str], sentence: str
) -> None:
    process = start_redis(password, **environment)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 1
    assert sentence in error.decode()


_DOCKER = """
echo "$*" >> "$LOG"
case "$*" in
    "compose ps -q service") cat "$RUNNING" ;;
    *"--scale service=4"*) printf 'c\\nd\\n' >> "$RUNNING" ;;
    inspect*) cat "$HEALTH" ;;
esac
"""


@pytest.fixture
def roll(tmp_path: Path, path: Path) -> Callable[[str], tuple[int, list[str], str]]:
    """Run rolling.sh with a docker that notes what it is asked; gives its status, that, and its words."""

    def run(health: str) -> tuple[int, list[str], str]:
        stub(path, "docker", _DOCKER)
        stub(path, "sleep", "exit 0")
        log, running = tmp_path / "asked", tmp_path / "running"
        log.touch()
        running.write_text("a\nb\n")
        (tmp_path / "health").write_text(health)
        done = subprocess.run(
            ["sh", str(DEPLOY / "compose" / "rolling.sh")],
            env={
                "PATH": f"{path}:/usr/bin:/bin",
                "LOG": str(log),
                "RUNNING": str(running),
                "HEALTH": str(tmp_path / "health"),
                "ROLLING_SECONDS": "3",
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, log.read_text().splitlines(), done.stderr

    return run


def test_rolling_lets_the_old_replicas_go_when_the_new_ones_are_healthy(
    roll: Callable[[str], tuple[int, list[str], str]],
) -> None:
    status, asked, _ = roll("healthy\n" * 4)
    assert status == 0
    assert [line for line in asked if not line.startswith(("inspect", "compose ps"))] == [
        "compose build service",
        "compose up -d --no-deps --no-recreate --scale service=4 service",
        "stop --time 90 a",
        "rm a",
        "stop --time 90 b",
        "rm b",
        "compose up -d --no-deps --no-recreate --scale service=2 service",
    ]


def test_rolling_keeps_the_old_replicas_where_the_new_ones_do_not_come(
    roll: Callable[[str], tuple[int, list[str], str]],
) -> None:
    status, asked, said = roll("healthy\nhealthy\nstarting\nstarting\n")
    assert status == 1
    assert "the old ones serve on" in said
    assert not any(line.startswith(("stop", "rm")) for line in asked)
