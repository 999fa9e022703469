"""A stop that is asked of another worker than the turn's owner, alive or dead."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import redis

from service.config.settings import Settings
from service.engine import stopping
from service.engine.engine import Engine
from service.store.store import Store
from service.store.turn_records import Turn
from tests.conftest import Start
from tests.double import Double
from tests.integration.test_turns import begin
from tests.support.redis import RedisServer
from tests.support.service import Served
from tests.support.turns import Hands, ref
from tests.support.waiting import eventually_async

MODEL = "openai/gpt-oss-20b"


@pytest.fixture
async def hands(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Hands]:
    """A worker that has died, whose leases last."""
    opened = Store(Settings(_env_file=None, redis_url=redis_server.url, lease_seconds=300), "dead:1")
    yield Hands(opened, "dead:1")
    await opened.close()


def engine_of(served: Served) -> Engine:
    found: Engine = served.app.state.edge.engine
    return found


async def test_a_stop_reaches_an_owner_that_writes_nothing_at_once(
    start: Start, store: redis.Redis, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not with its next append or renewal: it ends the turn itself, which its epoch shows."""
    monkeypatch.setattr(stopping, "_PATIENCE_SECONDS", 20)
    quiet = {"lease_seconds": 300, "orphan_seconds": 3_600, "first_token_timeout_seconds": 600}
    async with start(**quiet) as owner, start(**quiet) as other:
        path = (await begin(owner, "s", {"content": "[[first_delay=600 tokens=5]]"})).headers["location"]
        await eventually_async(double.calls.find)
        stopped = (await other.client.post(path + "/stop")).json()
    assert (stopped["state"], stopped["text"]) == ("stopped", "")
    assert store.hget(f"chat:{{none.anonymous/s}}:turn:{stopped['id']}", "epoch") == "1"


async def test_what_waits_behind_a_turn_that_is_stopped_for_a_dead_owner_is_begun(
    served: Served, hands: Hands
) -> None:
    fields = {"model": MODEL, "params": b"{}"}
    await hands.begin("t1", fields=fields)
    message = json.dumps({"id": "m_t2", "role": "user", "content": "[[say=next]]"}).encode()
    await hands.begin("t2", fields=fields, message=message, on_busy="queue")
    assert await engine_of(served).stop(ref("t1"))

    async def completed() -> Turn | None:
        turn = await hands.get("t2")
        return turn if turn.sealed else None

    assert ((await hands.get("t1")).state, (await eventually_async(completed, within=20)).state) == (
        "stopped",
        "completed",
    )


async def test_what_a_dead_owner_has_used_is_on_the_bill_of_a_turn_that_is_stopped(
    served: Served, hands: Hands
) -> None:
    used = {"attempt": 1, "answered_by": MODEL, "prompt_tokens": 11, "tokens": 7}
    await hands.append(await hands.begin("t1", fields={"model": MODEL, "params": b"{}", **used}), 2, "Said")
    assert await engine_of(served).stop(ref("t1"))
    turn = await hands.get("t1")
    assert (turn.state, turn.epoch) == ("stopped", 2)
    assert turn.usage == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    answer = await hands.store.sessions.message("p", "s", turn.answer_id)
    assert answer is not None
    assert (answer.content, answer.usage) == ("Said", turn.usage)
