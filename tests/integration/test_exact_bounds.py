"""Bounds of scripts, at the bound and one beyond it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import redis

from service.config.settings import Settings
from service.store.account import Kept
from service.store.store import Store
from service.store.windows import Charge, Window
from tests.support.redis import RedisServer
from tests.support.turns import PRINCIPAL, SESSION, Hands


def redis_time(store: redis.Redis) -> tuple[int, int]:
    seconds, micros = cast(Any, store.time())
    return int(seconds), int(micros)


@pytest.fixture
async def opened(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Store]:
    settings = Settings(
        _env_file=None,
        redis_url=redis_server.url,
        max_sessions_per_principal=2,
        max_stored_bytes_per_principal=1_000,
    )
    found = Store(settings, "host:1")
    yield found
    await found.close()


async def test_what_may_be_stored_may_be_stored_to_the_last_byte_and_session(opened: Store) -> None:
    async def charge(session: str, size: int) -> str | None:
        return await opened.account.charge(PRINCIPAL, session, size, new=False)

    assert [await charge("a", 999), await charge("b", 1)] == [None, None]
    assert [await charge("a", 1), await charge("c", 0)] == ["bytes", "sessions"]
    assert [await charge("a", -1), await charge("b", 1)] == [None, None]
    assert await opened.account.kept(PRINCIPAL) == Kept(2, 1_000)


async def test_a_place_in_a_moving_window_is_free_when_its_period_is_over(
    opened: Store, store: redis.Redis
) -> None:
    async def take(age_ms: int) -> bool:
        """With the one place of a minute taken so long ago."""
        name = opened.keys.principal(PRINCIPAL).limit("sends", "moving", 60)
        store.delete(name)
        seconds, micros = redis_time(store)
        store.rpush(name, seconds * 1_000 + micros // 1_000 - age_ms)
        store.expire(name, 60)
        charge = Charge(PRINCIPAL, "sends", (Window(1, 60),), "moving", "", "")
        return opened.windows.taken(await opened.windows.take(charge))[0]

    assert [await take(age) for age in (30_000, 60_000)] == [False, True]


async def test_the_message_that_goes_beyond_the_bytes_is_the_last_that_is_read(opened: Store) -> None:
    hands = Hands(opened)
    for number in range(3):
        await hands.complete(await hands.begin(f"t{number}"), 2)

    async def read(count: int, size: int) -> int:
        return len((await opened.sessions.window(PRINCIPAL, SESSION, 1_000, count, size)).said)

    both = len(b'{"role":"assistant","content":"answer"}') + len(b'{"role":"user","content":"question"}')
    assert [await read(100, both + more) for more in (-1, 0, 1)] == [2, 3, 3]
    assert [await read(count, 1_000_000) for count in (1, 5, 6)] == [1, 5, 6]
