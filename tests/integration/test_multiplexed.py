"""The multiplexer against a real Redis: order, refusals, bounds, and connections that break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import NoScriptError, ResponseError

from service.config.settings import Settings
from service.errors import StoreUnavailable
from service.store.connection.client import Client
from service.store.connection.commands import Commands
from service.store.connection.memory import MemoryRedis
from service.store.connection.scripts import Scripts
from service.store.connection.typed_scripts import Call
from tests.support.redis import RedisServer
from tests.support.waiting import eventually_async


def client_of(server: RedisServer, path: str = "0", **settings: Any) -> Client:
    url = f"redis://127.0.0.1:{server.port}/{path}"
    return Client(Settings(_env_file=None, redis_url=url, **settings))


@pytest.fixture
async def client(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[Client]:
    client = client_of(redis_server)
    yield client
    await client.close()


async def test_many_at_once_get_their_own_answers(client: Client) -> None:
    async def one(place: int) -> None:
        await client.redis.set(f"k{place}", place, ex=10)
        assert await client.redis.get(f"k{place}") == b"%d" % place

    await asyncio.gather(*(one(place) for place in range(200)))


async def test_they_share_one_connection(client: Client, store: redis.Redis) -> None:
    await client.ping()
    before = len(store.client_list())
    await asyncio.gather(*(client.redis.get("k") for _ in range(50)))
    assert len(store.client_list()) == before


async def test_one_that_is_closed_is_not_opened_again(client: Client, store: redis.Redis) -> None:
    before = len(store.client_list())
    await client.run("test", client.redis.get("k"))
    await client.close()
    with pytest.raises(StoreUnavailable):
        await client.run("test", client.redis.get("k"))
    await eventually_async(lambda: len(store.client_list()) == before)


@pytest.fixture(params=["server", "memory"])
async def commands(request: pytest.FixtureRequest, client: Client) -> AsyncIterator[Commands]:
    """What carries commands to a real server, and to the store in memory."""
    if request.param == "server":
        yield client.redis
        return
    memory = MemoryRedis()
    yield memory
    await memory.aclose()


async def test_replies_are_read_alike_from_a_server_and_from_memory(commands: Commands) -> None:
    await commands.execute("DEL", "h", "z", "s", "l", "k")
    assert await commands.hgetall("h") == {}
    assert await commands.execute("HSET", "h", "a", 1, "b", "é") == 2
    assert await commands.hgetall("h") == {b"a": b"1", b"b": "é".encode()}
    assert await commands.hmget("h", ("b", "c")) == ["é".encode(), None]
    assert await commands.hget("h", "c") is None
    assert (await commands.hexists("h", "a"), await commands.hexists("h", "c")) == (True, False)
    assert await commands.hkeys("h") == [b"a", b"b"]
    assert await commands.zadd("z", {"m": 2, "n": 3.5, "o": 4}) == 3
    assert await commands.zadd("z", {"p": 1}, xx=True) == 0
    assert await commands.zrange("z", 0, -1) == [b"m", b"n", b"o"]
    assert await commands.zscored("z", "(2", "+inf") == [(b"n", 3.5), (b"o", 4.0)]
    assert await commands.zscored("z", "+inf", "-inf", newest_first=True, limit=(1, 1)) == [(b"n", 3.5)]
    assert await commands.zscored("nothing", "-inf", "+inf") == []
    assert (await commands.zscore("z", "n"), await commands.zscore("z", "p")) == (3.5, None)
    assert sorted(await commands.zrandmember("z", 5)) == [b"m", b"n", b"o"]
    assert await commands.zmscore("z", ["n", "p"]) == [3.5, None]
    cursor, scanned = await commands.zscan("z", 0, 100)
    assert (cursor, sorted(scanned)) == (0, [(b"m", 2.0), (b"n", 3.5), (b"o", 4.0)])
    (node,) = await commands.primaries()
    assert (await commands.scan("z*", 0, 1000, node)) == (0, [b"z"])
    assert await commands.zrangebyscore("z", 3, "+inf") == [b"n", b"o"]
    assert await commands.zremrangebyscore("z", "-inf", 2) == await commands.zrem("z", "n") == 1
    assert (await commands.zcard("z"), await commands.zrem("z", "n")) == (1, 0)
    assert await commands.execute("XADD", "s", "1-0", "e", b"\x00v") == b"1-0"
    assert await commands.xrange("s", "-", "+", 9) == [[b"1-0", [b"e", b"\x00v"]]]
    assert await commands.execute("RPUSH", "l", "one", "two") == 2
    assert (await commands.lrange("l", 0, -1), await commands.lindex("l", -1)) == ([b"one", b"two"], b"two")
    assert await commands.set("k", "v", ex=10, nx=True)
    assert not await commands.set("k", "w", nx=True)
    assert (await commands.get("k"), await commands.get("nothing")) == (b"v", None)
    seconds, microseconds = await commands.time()
    assert abs(seconds - time.time()) < 60
    assert 0 <= microseconds < 1_000_000
    pipeline = commands.pipeline()
    for name in ("h", "z", "s", "l"):
        pipeline.expire(name, 10)
    pipeline.hgetall("h")
    pipeline.exists("k")
    pipeline.hstrlen("h", "b")
    pipeline.unlink("k")
    fields = {b"a": b"1", b"b": "é".encode()}
    assert await pipeline.execute() == [True, True, True, True, fields, 1, 2, 1]
    assert await pipeline.execute() == []
    pipeline.get("h")
    with pytest.raises(ResponseError):
        await pipeline.execute()


async def test_the_server_tells_of_its_memory(client: Client) -> None:
    found = await client.redis.info("memory")
    assert found["used_memory"] > 100_000
    assert found["maxmemory_policy"] == "noeviction"


async def test_a_refused_command_spoils_no_other(client: Client) -> None:
    await client.redis.set("text", "x", ex=10)
    first, second, third = await client.many("test", [("GET", "text"), ("LPOP", "text"), ("GET", "text")])
    assert (first, third) == (b"x", b"x")
    assert isinstance(second, ResponseError)
    with pytest.raises(StoreUnavailable):
        await client.run("test", client.redis.execute("LPOP", "text"))


async def test_a_script_that_redis_forgot_is_sent_again(client: Client, store: redis.Redis) -> None:
    scripts = Scripts(client)
    store.script_flush()
    due = Call("due", ("index",), (10, 10, 10))
    assert await scripts.batch("due", [due] * 2) == [[], []]
    store.script_flush()
    assert await scripts.call(due) == []
    (reply,) = await client.many("test", [("EVALSHA", "0" * 40, 0)])
    assert isinstance(reply, NoScriptError)


async def test_what_was_under_way_when_the_connection_broke_is_sent_once_more(
    client: Client, store: redis.Redis
) -> None:
    for _ in range(3):
        await client.ping()
        waiting = asyncio.gather(*(client.redis.execute("INCR", "counted") for _ in range(20)))
        store.client_kill_filter(_type="normal", skipme=True)
        await waiting
    await client.redis.expire("counted", 10)
    assert int(store.get("counted") or 0) >= 60


async def test_cancelling_one_call_leaves_the_answers_of_others_right(client: Client) -> None:
    await client.redis.set("a", "a", ex=10)
    await client.redis.set("b", "b", ex=10)
    given_up = asyncio.create_task(client.redis.execute("GET", "a"))
    await asyncio.sleep(0)
    other = asyncio.create_task(client.redis.execute("GET", "b"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await other == b"b"


async def test_password_and_database_of_the_url_are_used(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "guarded")
    try:
        with redis.Redis(port=server.port) as admin:
            admin.config_set("requirepass", "s3cret")
        url = f"redis://:s3cret@127.0.0.1:{server.port}/3"
        client = Client(Settings(_env_file=None, redis_url=url))
        await client.redis.set("k", "v", ex=10)
        with redis.Redis(port=server.port, db=3, password="s3cret") as admin:
            assert admin.get("k") == b"v"
        await client.close()
        stranger = client_of(server)
        with pytest.raises(StoreUnavailable):
            await stranger.ping()
        await stranger.close()
    finally:
        server.close()


async def test_a_stalled_redis_costs_every_caller_one_timeout_and_recovers(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "stalled")
    client = client_of(server, redis_timeout_seconds=0.4)
    try:
        await client.ping()
        server.stall()
        begin = time.monotonic()

        async def late(after: float) -> float:
            await asyncio.sleep(after)
            asked = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await client.ping()
            return time.monotonic() - asked

        waits = await asyncio.gather(*(late(0.1 * place) for place in range(8)))
        assert max(waits) < 1.5, waits
        assert time.monotonic() - begin < 3
        server.go_on()
        await client.ping()
        server.kill()
        with pytest.raises(StoreUnavailable):
            await client.ping()
        server.start()
        await client.ping()
    finally:
        await client.close()
        server.close()


async def test_a_server_that_became_a_replica_is_left(client: Client, store: redis.Redis) -> None:
    store.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await client.run("test", client.redis.set("k", "v", ex=10))
    finally:
        store.replicaof("NO", "ONE")
    assert await client.run("test", client.redis.set("k", "v", ex=10))


async def test_a_write_to_a_connection_that_uvloop_has_closed_is_an_outage(client: Client) -> None:

    async def call(words: str) -> None:
        raise RuntimeError(words)

    with pytest.raises(StoreUnavailable):
        await client.run("ping", call("unable to perform operation on <TCPTransport>; the handler is closed"))
    with pytest.raises(RuntimeError, match="another"):
        await client.run("ping", call("another"))
