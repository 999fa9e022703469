"""A Redis that answers and refuses: the start says so, and the log what it minds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis
from structlog.testing import capture_logs

from service.errors import StoreUnavailable
from service.settings import Settings
from service.store.client import Client
from service.store.doorbell import Doorbell
from tests.support.redis import RedisServer
from tests.support.waiting import eventually_async


@pytest.fixture
def refusing(redis_server: RedisServer, store: redis.Redis) -> Iterator[Settings]:
    """Settings with a user that may neither publish nor subscribe, as new users of Redis are."""
    store.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", "~*", "resetchannels", "+@all")  # type: ignore[no-untyped-call]
    url = redis_server.url.replace("redis://", "redis://narrow:pw@")
    yield Settings(_env_file=None, redis_url=url)
    store.execute_command("ACL", "DELUSER", "narrow")  # type: ignore[no-untyped-call]


async def test_the_check_of_a_start_tries_what_workers_do(refusing: Settings) -> None:
    client = Client(refusing)
    try:
        await client.ping()
        with capture_logs() as lines, pytest.raises(StoreUnavailable):
            await client.check()
        assert [line["event"] for line in lines] == ["store.refused"]
        assert "channel" in lines[0]["reason"]
    finally:
        await client.close()


async def test_a_doorbell_without_rights_says_why_and_waits_longer_and_longer(refusing: Settings) -> None:
    resets: list[None] = []
    doorbell = Doorbell(refusing, lambda channel, data: None, lambda: resets.append(None))
    with capture_logs() as lines:
        doorbell.start("bell")
        try:
            await eventually_async(lambda: doorbell._failures >= 3)
            await asyncio.sleep(0)
        finally:
            await doorbell.close()
    told = [line for line in lines if line["event"] == "doorbell.lost"]
    assert len(told) == 1
    assert "NOPERM" in told[0]["reason"]
    assert resets == []
