"""What a worker remembers of those who have used something has a bound, whoever comes."""

from __future__ import annotations

import pytest
import redis

from service.config.settings import Settings
from service.store import ledger
from service.store.store import Store
from tests.support.redis import RedisServer


async def test_all_principals_with_usage_are_listed_and_few_are_remembered(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_MOST_NOTED", 10)
    own = Store(Settings(_env_file=None, redis_url=redis_server.url), "host:1")
    try:
        for number in range(35):
            await own.ledger._note(f"sub.{number}", "2026-11-30")
            assert len(own.ledger._noted) <= 10
    finally:
        await own.close()
    assert store.zcard("chat:usage:principals") == 35
