"""The border to Redis, without one: where a URL leads, what silence is, what is told of refusals."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from service.config.settings import Settings
from service.errors import StoreMoving, StoreRefusesWrites, StoreUnavailable
from service.store.connection import client as client_module
from service.store.connection.client import Client
from service.store.connection.connecting import make_cluster, pool_of
from service.store.connection.refusals import unavailable


def settings(url: str | None = None) -> Settings:
    return Settings(_env_file=None, redis_url=url)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://h:1/3", {"host": "h", "port": 1, "db": 3}),
        ("redis://u:p%40%2F@h", {"username": "u", "password": "p@/"}),
        ("unix:///a.sock?db=2", {"path": "/a.sock", "db": 2}),
        ("redis+sentinel://u:p%40@a,b:2/name/4", {"username": "u", "password": "p@", "db": 4}),
        ("rediss+sentinel://a/name", {"db": 0}),
    ],
)
async def test_a_url_leads_where_it_says(url: str, wanted: dict[str, Any]) -> None:
    pool = pool_of(settings(url))
    assert pool is not None
    assert wanted.items() <= pool.connection_kwargs.items()
    assert ("password" in pool.connection_kwargs) == ("password" in wanted)


async def test_sentinels_are_asked_with_what_is_theirs() -> None:
    pool: Any = pool_of(settings("rediss+sentinel://u:p@a,b:2/name?sentinel_password=s"))
    assert pool.service_name == "name"
    pools = [one.connection_pool for one in pool.sentinel_manager.sentinels]
    asked = [one.connection_kwargs for one in pools]
    found = [(one["host"], one["port"], one["password"]) for one in asked]
    assert found == [("a", 26379, "s"), ("b", 2, "s")]
    assert {one.connection_class for one in pools} == {SSLConnection}
    assert "SSL" in pool.connection_class.__name__
    plain: Any = pool_of(settings("redis+sentinel://a/name"))
    assert "SSL" not in plain.connection_class.__name__
    assert plain.sentinel_manager.sentinels[0].connection_pool.connection_kwargs["password"] is None


async def test_a_node_of_a_cluster_is_asked_as_the_url_says() -> None:
    secret, plain = (make_cluster(settings(f"{kind}+cluster://u:p%40@a:1")) for kind in ("rediss", "redis"))
    pool = secret.pool_at(("b", 2))
    told = {"host": "b", "port": 2, "username": "u", "password": "p@"}
    assert told.items() <= pool.connection_kwargs.items()
    assert pool.connection_class is SSLConnection
    assert plain.pool_at(("b", 2)).connection_class is not SSLConnection


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(client_module, "_TICK_SECONDS", 0.01)
    return Client(settings())


async def test_a_call_is_waited_for_as_long_as_redis_answers_anybody(client: Client) -> None:
    asked = asyncio.Event()

    async def slow() -> str:
        await asked.wait()
        return "answer"

    async def others() -> None:
        for _ in range(30):  # in each look something has come
            client.answers += 1
            await asyncio.sleep(0.005)
        asked.set()

    telling = asyncio.create_task(others())
    assert await client.unless_silent(slow()) == "answer"
    await telling


async def test_whom_nobody_answers_is_told_so_after_five_looks(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = client_module._Silence._look

    def counted(silence: Any) -> None:
        nonlocal looks
        looks += 1
        look(silence)

    monkeypatch.setattr(client_module._Silence, "_look", counted)
    with pytest.raises(StoreUnavailable):
        await client.unless_silent(asyncio.Event().wait())
    assert looks == 5


async def test_a_refusal_is_counted_each_time_and_told_once_a_minute_for_each_kind(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    now = 1_000.0
    log = SimpleNamespace(warning=lambda event, **more: told.append(more["reason"].partition(" ")[0]))
    monkeypatch.setattr(client_module, "log", log)
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: now))
    for _ in range(3):
        client.failed("x", ResponseError("OOM used memory"))
        client.failed("x", ResponseError("MISCONF disk"))
        client.failed("x", RedisConnectionError("gone"))
    assert (told, client.refusals, client.doubted) == (["OOM", "MISCONF"], 6, False)
    now += 59.0
    client.failed("x", ResponseError("OOM used memory"))
    now += 2.0
    client.failed("x", ResponseError("OOM used memory"))
    assert told == ["OOM", "MISCONF", "OOM"]
    client.failed("x", ResponseError("NOREPLICAS 0 of 1"))
    assert client.doubted
    now += 3.0
    assert not client.doubted


async def test_a_fault_of_ours_is_no_outage(client: Client) -> None:
    async def broken(error: Exception) -> None:
        raise error

    with pytest.raises(RuntimeError, match="ours"):
        await client.run("x", broken(RuntimeError("ours")))
    for error in (RuntimeError("the handler is closed"), OSError(), TimeoutError()):
        with pytest.raises(StoreUnavailable):
            await client.run("x", broken(error))


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ({"a": (10, 100), "b": (20, 400)}, (10, 100)),
        ({"a": (10, 0), "b": (5, 100)}, (5, 100)),  # without a bound none is full
        ({"a": (10, 0)}, (10, 0)),
    ],
)
async def test_of_several_servers_the_fullest_is_told(
    client: Client, monkeypatch: pytest.MonkeyPatch, nodes: dict[str, tuple[int, int]], told: tuple[int, int]
) -> None:
    async def info(section: str) -> dict[str, Any]:
        return {name: {"used_memory": used, "maxmemory": most} for name, (used, most) in nodes.items()}

    monkeypatch.setattr(client.redis, "info", info)
    assert await client.memory() == told


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("OOM command not allowed", "full"),
        ("READONLY You can't write", "read_only"),
        ("MISCONF Redis is configured", "disk"),
        ("NOREPLICAS Not enough", "no_replicas"),
        ("NOPERM this user", "forbidden"),
        ("ACL failure in script", "forbidden"),
        ("The previous master is now a slave", "read_only"),
        ("ERR script: OOM command not allowed. script: x", "full"),
    ],
)
def test_what_redis_says_when_it_refuses_to_write_has_a_reason(said: str, reason: str) -> None:
    error = unavailable(ResponseError(said))
    assert isinstance(error, StoreRefusesWrites)
    assert error.reason == reason


def test_a_slot_that_is_being_moved_is_waited_for_and_all_else_is_an_outage() -> None:
    assert type(unavailable(ResponseError("TRYAGAIN Multiple keys"))) is StoreMoving
    assert type(unavailable(ResponseError("ERR unknown"))) is StoreUnavailable
    assert type(unavailable(OSError("gone"))) is StoreUnavailable
