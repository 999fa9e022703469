"""An answer that goes on, step by step in the store: only the newest does, in its place."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from service.config.settings import Settings
from service.store.store import Store
from tests.support.redis import RedisServer
from tests.support.turns import PRINCIPAL, SESSION, Hands

GONE_ON = b'{"role":"assistant","content":"answer, and more of it"}'


@pytest.fixture
async def hands(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Hands]:
    opened = Store(Settings(_env_file=None, redis_url=redis_server.url), "host:1")
    yield Hands(opened)
    await opened.close()


async def places(hands: Hands) -> list[tuple[str, str]]:
    page, _ = await hands.store.sessions.messages(PRINCIPAL, SESSION, 10, None)
    return [(message.id, message.content) for message in page]


async def test_the_newest_answer_goes_on_in_its_place(hands: Hands, store: redis.Redis) -> None:
    await hands.complete(await hands.begin("t_1"), 2)
    first = await hands.get("t_1")
    going = {"mode": "continue", "message_id": "a_t_1", "message": GONE_ON, "must_exist": True}
    begun = await hands.try_begin("t_2", **going, fields={"model": "m", "answer": "a_t_1"})
    assert (begun.outcome, begun.message_id, begun.pos) == ("BEGUN", "m_t_1", first.pos)
    assert (await hands.get("t_2")).answer_id == "a_t_1"
    assert await places(hands) == [("m_t_1", "question"), ("a_t_1", "answer, and more of it")]


@pytest.mark.parametrize("wrong", ["a_t_1", "m_t_1", "m_t_2", "nobody"])
async def test_nothing_else_goes_on(hands: Hands, wrong: str) -> None:
    await hands.complete(await hands.begin("t_1"), 2)
    await hands.complete(await hands.begin("t_2"), 2, state="failed")
    await hands.complete(await hands.begin("t_3"), 2)
    before = await places(hands)
    going = {"mode": "continue", "message_id": wrong, "message": GONE_ON, "must_exist": True}
    assert (await hands.try_begin("t_4", **going)).outcome == "NO_MESSAGE"
    assert await places(hands) == before


async def test_an_answer_that_another_turn_went_on_with_meanwhile_does_not_lose_what_that_has_said(
    hands: Hands, store: redis.Redis
) -> None:
    await hands.complete(await hands.begin("t_1"), 2)
    store.hset(
        hands.store.keys.session(PRINCIPAL, SESSION).messages,
        "a_t_1",
        b'{"role":"assistant","content":"and more","turn_id":"t_2"}',
    )
    going = {"mode": "continue", "message_id": "a_t_1", "message": GONE_ON, "must_exist": True}
    assert (await hands.try_begin("t_3", **going, last_turn="t_1")).outcome == "NO_MESSAGE"
    assert (await places(hands))[1] == ("a_t_1", "and more")
    assert (await hands.try_begin("t_3", **going, last_turn="t_2")).outcome == "BEGUN"
