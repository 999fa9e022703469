"""What a page of sessions costs: O(page) commands of a real Redis, whatever the list names that is gone."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any

import pytest
import redis

from tests.support.service import Served
from tests.support.waiting import eventually_async

MANY = 3_000
# Of a page of ten: the range, the prune and the removals, one look per session, and what the limits ask.
MOST = 300


def counted(store: redis.Redis) -> int:
    stats: dict[str, Any] = store.info("commandstats")
    own = ("cmdstat_info", "cmdstat_config", "cmdstat_ping", "cmdstat_client", "cmdstat_publish")
    return sum(int(stat["calls"]) for name, stat in stats.items() if not name.startswith(own))


async def cost(store: redis.Redis, of: Awaitable[Any]) -> tuple[Any, int]:
    before = counted(store)
    answer = await of
    return answer, counted(store) - before


async def fill(served: Served, store: redis.Redis, count: int = 3) -> str:
    """Some sessions that live; returns the name of their list."""
    for n in range(count):
        await served.client.post("/v1/sessions", json={"id": f"live-{n}"})
    (name,) = store.keys("*}:sessions")
    return str(name)


def ids(page: dict[str, Any]) -> list[str]:
    return [session["id"] for session in page["data"]]


@pytest.mark.parametrize("age_days", [31, 400])
async def test_sessions_of_the_past_leave_the_list_in_one_command(
    served: Served, store: redis.Redis, age_days: int
) -> None:
    name = await fill(served, store)
    past = int(time.time() - age_days * 86_400) * 1000
    store.zadd(name, {f"gone-{n}": past + n for n in range(MANY)})
    answer, commands = await cost(store, served.client.get("/v1/sessions", params={"limit": 10}))
    assert (ids(answer.json()), answer.json()["next"]) == (["live-2", "live-1", "live-0"], None)
    assert commands < 40
    assert store.zcard(name) == 3


async def test_a_send_prunes_the_list_too(served: Served, store: redis.Redis) -> None:
    name = await fill(served, store, 1)
    store.zadd(name, {f"gone-{n}": 1_000 + n for n in range(MANY)})
    sending = served.client.post("/chat", json={"user_query": "[[say=hi]]", "session_id": "live-0"})
    answer, commands = await cost(store, sending)
    assert answer.text == "hi"
    assert store.zrange(name, 0, -1) == ["live-0"]
    assert commands < 300


@pytest.mark.parametrize("apart", [0, 1], ids=["in one millisecond", "one after the other"])
async def test_a_page_passes_a_bounded_number_of_deleted_sessions_and_reading_on_finds_the_rest(
    served: Served, store: redis.Redis, apart: int
) -> None:
    name = await fill(served, store)
    later = int(time.time() * 1000) + 60_000
    store.zadd(name, {f"gone-{n}": later + n * apart for n in range(MANY)})
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        asking = served.client.get("/v1/sessions", params={"limit": 10, "cursor": cursor})
        answer, commands = await cost(store, asking)
        assert commands < MOST
        found += ids(answer.json())
        cursor = answer.json()["next"]
    assert found == ["live-2", "live-1", "live-0"]
    assert store.zcard(name) == 3, "what is gone is looked for once"


async def test_sessions_that_no_call_has_named_cost_a_page_nothing(
    served: Served, store: redis.Redis
) -> None:
    await fill(served, store)
    base, _ = await cost(store, served.client.get("/v1/sessions"))
    _, before = await cost(store, served.client.get("/v1/sessions"))
    for _ in range(40):
        await served.client.post("/chat", json={"user_query": "[[say=hi]]"})
    await served.app.state.edge.engine.idle()
    answer, after = await cost(store, served.client.get("/v1/sessions"))
    assert answer.json() == base.json()
    assert after <= before + 20, "background commands aside"


async def test_a_session_that_expired_and_began_again_without_its_name_is_not_listed(
    served: Served, store: redis.Redis
) -> None:
    name = await fill(served, store, 1)
    answer = await served.client.post("/chat", json={"user_query": "[[say=hi]]"})
    store.zadd(name, {answer.headers["x-session-id"]: int(time.time() * 1000)})
    assert ids((await served.client.get("/v1/sessions")).json()) == ["live-0"]
    assert store.zrange(name, 0, -1) == ["live-0"]


async def test_what_expires_leaves_the_list_as_it_is_read(served: Served, store: redis.Redis) -> None:
    name = await fill(served, store, 40)
    for key in store.scan_iter("*live-*"):
        store.pexpire(key, 1)
    await eventually_async(lambda: _none(store, "*live-*"))
    answer, commands = await cost(store, served.client.get("/v1/sessions"))
    assert answer.json() == {"data": [], "next": None}
    assert commands < 100
    assert not store.exists(name)


async def _none(store: redis.Redis, pattern: str) -> bool:
    return not list(store.scan_iter(pattern))


async def test_a_page_of_many_sessions_is_whole_and_reading_on_misses_none(
    served: Served, store: redis.Redis
) -> None:
    await fill(served, store, 45)
    found: list[str] = []
    cursor: str | None = ""
    sizes = []
    while cursor is not None:
        page = (await served.client.get("/v1/sessions", params={"limit": 20, "cursor": cursor})).json()
        sizes.append(len(page["data"]))
        found += ids(page)
        cursor = page["next"]
    assert sizes == [20, 20, 5]
    assert found == [f"live-{n}" for n in reversed(range(45))]
