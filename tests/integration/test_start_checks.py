"""What a start looks at first, in a fork of its own: it can be stopped, and needs its settings only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.support.redis import RedisServer
from tests.support.running import Running, call, clean_environment


def _hears_ctrl_c() -> None:
    """Where tests run in the background of a shell SIGINT is ignored, and who is started inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("command", ["run", "serve", "check"])
def test_ctrl_c_while_redis_is_awaited_ends_without_a_word(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        settings = {
            "CHAT_REDIS_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}",
            "GROQ_BASE_URL": "http://127.0.0.1:9",
            "CHAT_PORT": "0",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "service", command],
            cwd=tmp_path,
            env=clean_environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_hears_ctrl_c,
        )
        try:
            silent.accept()[0].close()  # the check asks
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
            assert process.communicate(timeout=15) == (b"", b"")
            assert process.returncode == 130
        finally:
            process.kill()
            process.wait(10)


@pytest.mark.parametrize("command", ["run", "serve", "check"])
def test_a_store_that_may_drop_what_it_keeps_is_not_fit(
    tmp_path: Path, redis_server: RedisServer, store: redis.Redis, command: str
) -> None:
    store.config_set("maxmemory-policy", "allkeys-lru")
    try:
        ended = call(
            command,
            cwd=tmp_path,
            CHAT_REDIS_URL=redis_server.url,
            GROQ_BASE_URL="http://127.0.0.1:9",
            CHAT_PORT="0",
        )
    finally:
        store.config_set("maxmemory-policy", "noeviction")
    assert ended.returncode == 1
    assert "its maxmemory-policy is allkeys-lru. Set it to noeviction" in ended.stderr


def test_a_full_store_is_told_and_does_not_keep_the_service_from_reading(
    tmp_path: Path, redis_server: RedisServer, store: redis.Redis
) -> None:
    store.config_set("maxmemory", 1)
    try:
        ended = call(
            "check", cwd=tmp_path, CHAT_REDIS_URL=redis_server.url, GROQ_BASE_URL="http://127.0.0.1:9"
        )
    finally:
        store.config_set("maxmemory", 0)
    assert ended.returncode == 0, ended.stderr
    assert "store.refuses_writes" in ended.stderr


@pytest.mark.timeout(180)  # six processes begin, one after the other
def test_a_folder_for_metrics_that_is_not_there_yet_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "metrics" / "of this replica"
    settings = {"GROQ_BASE_URL": "http://127.0.0.1:9", "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    for arguments in (("check",), ("keys", "list"), ("openapi",)):
        ended = call(*arguments, cwd=tmp_path, **settings)
        assert ended.returncode == 0, ended.stderr
    with Running("run", tmp_path, app=None, **settings) as running:
        assert running.get("/livez")[0] == 200
    assert not folder.exists()
    with Running("serve", tmp_path, app=None, **settings) as running:
        assert running.get("/livez")[0] == 200
        [made] = folder.iterdir()
        # Another master with the same folder takes nothing of what is counted here.
        with Running("serve", tmp_path, app=None, **settings) as other:
            assert other.get("/livez")[0] == 200
            assert len(list(folder.iterdir())) == 2
            other.signal(signal.SIGTERM)
            assert other.wait() == 0
        assert list(folder.iterdir()) == [made]
        assert list(made.glob("counter_*.db"))
