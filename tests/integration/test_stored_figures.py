"""The command that prints what sessions cost in Redis, in small; the figures themselves are no test."""

from __future__ import annotations

import pytest
import redis

from service.config.settings import Settings
from service.store.messages import Message
from service.store.store import Store
from tests.load.stored import measured, text_messages
from tests.support.redis import RedisServer
from tests.support.service import Served
from tests.support.turns import PRINCIPAL, SESSION, Hands


def test_a_text_message_is_stored_in_the_bytes_that_it_always_had() -> None:
    before = text_messages()
    assert len(before) > 20
    assert {name: Message.load(name, body).dump() for name, body in before.items()} == before


async def test_images_cost_their_bytes_and_are_gone_with_their_session(
    served: Served, store: redis.Redis
) -> None:
    told = await measured(served, store, 1)
    beside, whole, *times, left = told.values()
    # What Redis rounds the size of an allocation up to, a message that names the image, and its digest twice.
    assert 0 < int(beside.removesuffix(" bytes").replace(",", "")) < 32_768
    assert int(whole.removesuffix(" bytes").replace(",", "")) < 20 * (203_000 + 32_768)
    assert len(times) == 4
    assert left == "0"


@pytest.mark.parametrize("named", [True, False])
async def test_a_turn_is_counted_with_what_it_ends_with(
    redis_server: RedisServer, store: redis.Redis, named: bool
) -> None:
    """Its session where that has a name, else its log. 300 bytes of a log are its idempotency key's."""
    opened = Store(Settings(_env_file=None, redis_url=redis_server.url), "host:1")
    try:
        hands = Hands(opened)
        sealed = await hands.complete(await hands.begin("t1", named=named), 2)
        with_session, _, with_log, *_ = map(int, sealed.stored.split())
        names = opened.keys.session(PRINCIPAL, SESSION)
    finally:
        await opened.close()
    kept = int(str(store.memory_usage(names.turn("t1"))))
    log = int(str(store.memory_usage(names.log("t1")))) + 300
    assert kept > 300
    if named:
        assert (with_log, with_session > 1_000 + kept / 2) == (log, True)
    else:
        assert log + kept / 2 < with_log <= log + kept
