"""Lists tidy up where they are read: where nothing may be written they are read all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.config.settings import Settings
from service.errors import StoreUnavailable
from service.store.connection import client
from service.store.credentials import new_key
from service.store.store import Store
from tests.support.redis import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path, "--appendonly", "no")
    yield found
    found.close()


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[Store]:
    found = Store(Settings(_env_file=None, redis_url=server.url), "host:1")
    yield found
    await found.close()


async def test_of_what_is_gone_lists_say_nothing_and_what_is_there_they_show(
    server: RedisServer, store: Store
) -> None:
    admin: Any = server.client()
    for name in ("there", "gone"):
        await store.sessions.create("p", name, {})
        await store.sessions.list_it("p", name)
    keys = [new_key(name)[1] for name in ("there", "gone")]
    for key in keys:
        await store.credentials.create(key)
    admin.delete(*admin.scan_iter("*/gone}:*"), f"chat:{{credentials}}:{keys[1].id}")
    admin.replicaof("127.0.0.1", 1)
    with pytest.raises(StoreUnavailable):
        await store.sessions.list_it("p", "there")
    page, _ = await store.sessions.page("p", 10, None)
    assert [session.id for session in page] == ["there"]
    assert [key.name for key in await store.credentials.all()] == ["there"]


class Lines:
    """In the log's place."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def warning(self, event: str, *, operation: str, reason: str) -> None:
        assert (event, bool(operation)) == ("store.refused", True)
        self.reasons.append(reason)


async def test_each_kind_of_refusal_is_told_once_a_minute(
    server: RedisServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second kind within the minute of the first had no line."""
    lines = Lines()
    monkeypatch.setattr(client, "log", lines)
    admin: Any = server.client()
    admin.set("chat:{p}:sessions", "foreign")
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store.sessions.page("p", 10, None)
    admin.replicaof("127.0.0.1", 1)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store.sessions.list_it("q", "s")
    told = lines.reasons
    assert len(told) == 2, told
    assert told[0].startswith("WRONGTYPE")
    assert "replica" in told[1]
