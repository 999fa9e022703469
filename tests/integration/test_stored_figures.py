"""The command that prints what sessions cost in Redis, in small; the figures themselves are no test."""

from __future__ import annotations

import redis

from service.store.messages import Message
from tests.load.stored import measured, text_messages
from tests.support.service import Served


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
