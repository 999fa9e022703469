"""A store that was away for longer than a lease: who runs a turn goes on with it, nobody begins it again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from service.engine import flusher, sealing
from service.errors import StoreUnavailable
from tests.double import Double, expected_text
from tests.support.redis import RedisServer
from tests.support.service import Served, serve
from tests.support.waiting import eventually_async

_LEASE: dict[str, Any] = {"lease_seconds": 3}
# Owners are slow to see that the store is back: without a rule others are first.
_RETRY_SECONDS = 1.5
# Ends while the store is away; goes on behind it; has said nothing when it comes back.
_WISHES = ("[[tokens=20 rate=40]]", "[[tokens=500 rate=100]]", "[[tokens=20 first_delay=8]]")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    yield server
    server.close()


def lose_replicas(admin: redis.Redis) -> Callable[[], object]:
    admin.config_set("min-replicas-to-write", 1)
    return lambda: admin.config_set("min-replicas-to-write", 0)


def close_the_door(admin: redis.Redis) -> Callable[[], object]:
    """Another password: every connection ends, and none can be made."""
    admin.config_set("requirepass", "another")
    admin.client_kill_filter(_type="normal", skipme=True)
    return lambda: admin.config_set("requirepass", "")


@pytest.mark.parametrize("lose", [lose_replicas, close_the_door])
async def test_turns_go_on_at_their_owner_when_the_store_was_away_for_longer_than_a_lease(
    server: RedisServer,
    double_server: tuple[Double, str],
    double: Double,
    monkeypatch: pytest.MonkeyPatch,
    lose: Callable[[redis.Redis], Callable[[], object]],
) -> None:
    monkeypatch.setattr(flusher, "_RETRY_SECONDS", _RETRY_SECONDS)
    monkeypatch.setattr(sealing, "_RETRY_SECONDS", _RETRY_SECONDS)
    admin = server.client()
    async with (
        serve(server.url, double_server[1], **_LEASE) as owner,
        serve(server.url, double_server[1], **_LEASE) as other,
    ):
        asking = [
            asyncio.create_task(ask(owner, f"s{n}", wish)) for n, wish in enumerate(sorted(_WISHES * 2))
        ]
        running = owner.app.state.edge.engine.running
        await eventually_async(lambda: len(list(double.calls)) == len(running.lives()) == 6)

        await eventually_async(lambda: is_heard(other))  # else it does not know that the store was away
        heal = lose(admin)
        await eventually_async(lambda: all_lapsed(admin, 0.5), within=10)
        heal()
        await eventually_async(lambda: is_heard(other))
        for live in running.lives():
            claim = await other.app.state.edge.engine.store.turns.claim(live.turn.ref, "other")
            assert claim.outcome == "LEASED"

        for wish, answer in zip(sorted(_WISHES * 2), asking, strict=True):
            tokens = int(wish.split("tokens=")[1].split()[0])
            assert await asyncio.wait_for(answer, 30) == expected_text(tokens, 0)
        assert len(list(double.calls)) == 6
        assert not other.app.state.edge.engine.running.lives()
    admin.close()


async def test_a_turn_whose_owner_died_meanwhile_is_taken_over_a_lease_later(
    server: RedisServer, double_server: tuple[Double, str]
) -> None:
    admin = server.client()
    async with serve(server.url, double_server[1], **_LEASE) as other:
        async with serve(server.url, double_server[1], **_LEASE) as owner:
            asking = asyncio.create_task(ask(owner, "s", "[[tokens=300 rate=50]]"))
            running = owner.app.state.edge.engine.running
            await eventually_async(lambda: len(running.lives()) == 1)
            heal = lose_replicas(admin)
            running.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await eventually_async(lambda: all_lapsed(admin, 0.5), within=10)
        heal()

        async def whole() -> bool:
            messages = (await other.client.get("/v1/sessions/s/messages")).json()["data"]
            return [message["content"] for message in messages[1:]] == [expected_text(300, 0)]

        await eventually_async(whole, within=20)
    admin.close()


async def ask(served: Served, session: str, wish: str) -> str:
    answer = await served.client.post("/chat", json={"user_query": wish, "session_id": session})
    assert answer.status_code == 200, answer.text
    return answer.text


async def is_heard(served: Served) -> bool:
    try:
        await served.app.state.edge.engine.store.leases.due()
    except StoreUnavailable:
        return False
    return True


def all_lapsed(admin: redis.Redis, seconds: float) -> bool:
    """The leases of all turns that run have been over for so long."""
    now, microseconds = admin.time()
    leases = [int(admin.hget(key, "lease") or 0) for key in admin.scan_iter("*:turn:*")]
    return max(leases) / 1000 + seconds < now + microseconds / 1e6
