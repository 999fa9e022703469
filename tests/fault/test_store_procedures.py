"""docs/operations.md, tried on real servers: a copy and its restore, another password, another Redis."""

from __future__ import annotations

import asyncio
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.double import expected_text
from tests.fault.conftest import Launch
from tests.support.processes import Replica
from tests.support.readers import client, start_turn
from tests.support.redis import RedisServer
from tests.support.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(150)]


def said(replica: Replica, session: str) -> list[str]:
    answer = httpx.get(f"{replica.url}/v1/sessions/{session}/messages", timeout=10)
    assert answer.status_code == 200, answer.text
    return [message["content"] for message in answer.json()["data"]]


def say(replica: Replica, session: str, words: str = "[[tokens=5]]") -> httpx.Response:
    body = {"user_query": words, "session_id": session}
    return httpx.post(f"{replica.url}/chat", json=body, timeout=30)


def test_a_copy_made_while_it_serves_is_restored_into_an_empty_folder(
    launch: Launch, redis_process: RedisServer, tmp_path: Path
) -> None:
    first = launch()
    assert say(first, "kept").status_code == 200
    before = said(first, "kept")
    with redis_process.client() as store:
        last = store.lastsave()
        time.sleep(1.1)  # LASTSAVE counts in whole seconds
        store.bgsave()
        eventually(lambda: store.lastsave() > last, within=20)
    (tmp_path / "restored").mkdir()
    shutil.copy(redis_process.directory / "dump.rdb", tmp_path / "restored")
    assert say(first, "later").status_code == 200  # what comes after the copy is not in it

    restored = RedisServer(tmp_path / "restored", "--appendonly", "no")
    try:
        with restored.client() as store:
            store.config_set("appendonly", "yes")
            eventually(lambda: not store.info("persistence")["aof_rewrite_in_progress"], within=20)
        restored.kill()
        restored.arguments = ()
        restored.start()  # as ever: with its append-only file
        second = launch(redis_url=restored.url)
        assert said(second, "kept") == before
        assert httpx.get(f"{second.url}/v1/sessions/later", timeout=10).status_code == 404
        assert say(second, "kept").text == expected_text(5, 0)
    finally:
        restored.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "other")
    yield server
    server.close()


def test_a_new_password_is_taken_over_without_a_failed_request(
    launch: Launch, redis_process: RedisServer, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "chat_redis_password").write_text("old")
    with redis_process.client() as store:
        store.config_set("requirepass", "old")
        store.auth("old")
        replica = launch(secrets_dir=secrets)
        statuses: list[int] = []
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                statuses.append(say(replica, "s").status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            store.execute_command("ACL", "SETUSER", "default", ">new")  # both are right now
            (secrets / "chat_redis_password").write_text("new")
            before = set(replica.workers())
            replica.signal(signal.SIGHUP)
            eventually(lambda: len(replica.workers()) == 2 and not before & set(replica.workers()), within=60)
            store.config_set("requirepass", "new")  # the old one is wrong from here on
            seen = len(statuses)
            eventually(lambda: len(statuses) > seen + 3, within=30)
        finally:
            over.set()
            asking.join(30)
    assert set(statuses) == {200}
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=redis_process.port, password="old").ping()
    assert redis.Redis(port=redis_process.port, password="new").ping()


def test_sessions_move_to_another_redis_and_an_answer_that_runs_is_finished_there(
    launch: Launch, redis_process: RedisServer, other: RedisServer
) -> None:
    old = launch(store_hold_seconds=3)
    assert say(old, "kept").status_code == 200
    before = said(old, "kept")

    async def begin() -> None:
        async with client() as http:
            await start_turn(http, [old.url], "running", {"content": "[[tokens=200 rate=20]]"}, "k")

    asyncio.run(begin())
    with redis_process.client() as here, other.client() as there:
        there.replicaof("127.0.0.1", redis_process.port)
        eventually(lambda: there.info("replication").get("master_link_status") == "up", within=20)
        here.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
        offset = here.info("replication")["master_repl_offset"]
        eventually(lambda: there.info("replication").get("slave_repl_offset", 0) >= offset, within=10)
        there.replicaof("NO", "ONE")
        here.replicaof("127.0.0.1", other.port)  # it writes nothing any more, and reads what is true
        here.execute_command("CLIENT", "UNPAUSE")
    assert say(old, "kept").status_code == 503
    new = launch(redis_url=other.url)
    old.close()
    assert said(new, "kept") == before
    assert say(new, "kept").text == expected_text(5, 0)
    eventually(lambda: said(new, "running")[1:] == [expected_text(200, 0)], within=60)
