"""Images that are put into sessions which another version has made, or an operator has changed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from service.config.settings import Settings
from service.store.store import Store
from service.store.turn_records import TurnRef
from tests.support.redis import RedisServer
from tests.support.turns import PRINCIPAL, SESSION, Hands

DIGEST = "a" * 64


@pytest.fixture
async def hands(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Hands]:
    opened = Store(Settings(_env_file=None, redis_url=redis_server.url), "host:1")
    yield Hands(opened)
    await opened.close()


async def test_a_session_that_never_ends_keeps_its_messages(hands: Hands, store: redis.Redis) -> None:
    await hands.complete(await hands.begin("t_1"), 2)
    keys = hands.store.keys.session(PRINCIPAL, SESSION)
    store.persist(keys.session)
    store.persist(keys.messages)
    assert await hands.store.images.put(TurnRef(PRINCIPAL, SESSION, "t_3"), DIGEST, b"image")
    page, _ = await hands.store.sessions.messages(PRINCIPAL, SESSION, 10, None)
    assert [message.id for message in page] == ["m_t_1", "a_t_1"]
    for key in (keys.session, keys.messages):
        store.expire(key, 60)  # as every test leaves the store


async def test_what_a_session_had_before_its_bytes_were_counted_is_counted_all_the_same(
    hands: Hands, store: redis.Redis
) -> None:
    await hands.complete(await hands.begin("t_1"), 2)
    keys = hands.store.keys.session(PRINCIPAL, SESSION)
    store.hset(keys.messages, "m_t_1", b'{"role":"user","content":"%b"}' % (b"q" * 100_000))
    store.hdel(keys.session, "bytes")
    assert await hands.store.images.put(TurnRef(PRINCIPAL, SESSION, "t_3"), DIGEST, b"i" * 50_000)
    await hands.complete(await hands.begin("t_2"), 2)
    assert int(store.hget(keys.session, "bytes") or 0) > 150_000
