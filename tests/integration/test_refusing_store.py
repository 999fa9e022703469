"""A Redis that answers and refuses: the start says so, and the log what it minds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from prometheus_client import REGISTRY
from structlog.testing import CapturingLogger

from service.config.settings import Settings
from service.errors import StoreUnavailable
from service.store.connection.client import Client
from service.store.connection.notifications import Notifications
from tests.support.redis import RedisServer
from tests.support.waiting import eventually_async


@pytest.fixture
def refusing(redis_server: RedisServer, store: redis.Redis) -> Iterator[Settings]:
    """Settings with a user that may neither publish nor subscribe, as new users of Redis are."""
    store.acl_setuser(
        "narrow", enabled=True, passwords=["+pw"], keys=["*"], reset_channels=True, categories=["+@all"]
    )
    url = redis_server.url.replace("redis://", "redis://narrow:pw@")
    yield Settings(_env_file=None, redis_url=url)
    store.acl_deluser("narrow")


async def test_the_check_of_a_start_tries_what_workers_do(
    refusing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = CapturingLogger()
    monkeypatch.setattr("service.store.connection.client.log", lines)
    client = Client(refusing)
    try:
        await client.ping()
        with pytest.raises(StoreUnavailable):
            await client.check()
    finally:
        await client.close()
    [told] = lines.calls
    assert (told.method_name, told.args) == ("warning", ("store.refused",))
    assert "channel" in told.kwargs["reason"]


async def test_a_doorbell_without_rights_says_once_why_it_is_not_heard(
    refusing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failures() -> float:
        return REGISTRY.get_sample_value("chat_redis_errors_total", {"operation": "subscribe"}) or 0

    lines = CapturingLogger()
    monkeypatch.setattr("service.store.connection.notifications.log", lines)
    resets: list[None] = []
    notifications = Notifications(refusing, lambda channel, data: None, lambda: resets.append(None))
    before = failures()
    notifications.start("bell")
    try:
        await eventually_async(lambda: failures() >= before + 3)
    finally:
        await notifications.close()
    [told] = lines.calls
    assert (told.method_name, told.args) == ("warning", ("doorbell.lost",))
    assert "NOPERM" in told.kwargs["reason"]
    assert resets == []
