"""A connection to Redis on a transport that only notes: whose reply is whose, what is late, what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.config.settings import Settings
from service.store.connection import notifications
from service.store.connection.connection import RedisConnection
from service.store.connection.notifications import Notifications, _SingleServer
from tests.support.waiting import eventually_async


class Transport:
    def __init__(self) -> None:
        self.aborted = False

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str) -> None:
        return None


class Asked:
    """A connection, and what those who ask on it are told."""

    def __init__(self, timeout: float = 30.0) -> None:
        self.pushed: list[Any] = []
        self.transport = Transport()
        self.connection = RedisConnection(timeout, self.pushed.append)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]  # all that it calls
        self.told: dict[str, Any] = {}

    def ask(self, name: str, commands: int = 1) -> None:
        def answered(outcome: Any) -> None:
            self.told[name] = outcome

        self.connection.send([("GET", name)] * commands, answered)

    async def all_told(self, number: int) -> None:
        await eventually_async(lambda: len(self.told) >= number)


async def test_replies_are_given_out_in_order_and_those_of_one_call_together() -> None:
    asked = Asked()
    asked.ask("a")
    asked.ask("b", commands=2)
    asked.ask("c")
    asked.connection.data_received(b"+1\r\n+2\r\n")
    assert asked.told == {"a": [b"1"]}
    asked.connection.data_received(b">2\r\n+message\r\n+x\r\n-ERR no\r\n+4\r\n")
    assert list(asked.told) == ["a", "b", "c"]
    assert asked.told["b"][0] == b"2"
    assert isinstance(asked.told["b"][1], ResponseError)
    assert asked.told["c"] == [b"4"]
    assert [list(one) for one in asked.pushed] == [[b"message", b"x"]]
    assert not asked.connection.lost


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("WRONGPASS x", AuthenticationError),
        ("NOAUTH x", AuthenticationError),
        ("NOPERM x", AuthenticationError),
        ("NOSCRIPT x", NoScriptError),
        ("READONLY x", ReadOnlyError),
        ("ERR x", ResponseError),
    ],
)
async def test_an_error_reply_has_the_class_that_says_what_to_do(reply: str, kind: type[Exception]) -> None:
    asked = Asked()
    asked.ask("a")
    asked.connection.data_received(f"-{reply}\r\n".encode())
    assert type(asked.told["a"][0]) is kind


async def test_a_server_that_became_a_replica_answers_what_is_under_way_and_is_left() -> None:
    asked = Asked()
    asked.ask("a")
    asked.ask("b")
    asked.connection.data_received(b"-READONLY x\r\n")
    assert (asked.connection.lost, asked.transport.aborted) == (True, False)
    asked.connection.data_received(b"+2\r\n")
    assert asked.told["b"] == [b"2"]
    assert asked.transport.aborted
    assert asked.connection.ended.is_set()


async def test_all_who_are_late_are_told_so() -> None:
    asked = Asked(timeout=0.05)
    asked.ask("a")
    asked.ask("b")
    await asked.all_told(2)
    assert [type(one) for one in asked.told.values()] == [RedisTimeoutError] * 2
    assert asked.transport.aborted


async def test_whose_time_began_later_is_late_later() -> None:
    """One timer looks at the oldest: it looks again when that one's time is over."""
    asked = Asked()
    asked.ask("a")
    asked.ask("b")
    asked.connection.data_received(b"+1\r\n")
    asked.connection._pending[0].deadline = asyncio.get_running_loop().time() + 0.05
    asked.connection._end_if_overdue()
    await asked.all_told(2)
    assert asked.told["a"] == [b"1"]
    assert type(asked.told["b"]) is RedisTimeoutError


ENDS: dict[str, Callable[[RedisConnection], None]] = {
    "lost": lambda one: one.connection_lost(None),
    "no RESP": lambda one: one.data_received(b"no RESP\r\n"),
    "closed": lambda one: one.close(),
}


@pytest.mark.parametrize("end", ENDS)
async def test_what_ends_a_connection_is_told_to_all_who_wait(end: str) -> None:
    asked = Asked()
    asked.ask("a")
    asked.ask("b")
    ENDS[end](asked.connection)
    assert [type(one) for one in asked.told.values()] == [RedisConnectionError] * 2
    assert asked.connection.lost
    assert asked.connection.ended.is_set()


async def test_a_subscription_that_is_refused_ends_its_connection() -> None:
    asked = Asked()
    asked.connection.data_received(b"-NOPERM x\r\n")
    assert type(asked.connection.error) is AuthenticationError


class Server:
    """Stands in for what subscribes; a subscription is confirmed where the test says so."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []
        self.left: list[str] = []
        self.connected = asyncio.Event()
        self.lost = asyncio.Event()

    async def connect(self) -> None:
        self.lost.clear()

    async def subscribe(self, *channels: str) -> None:
        self.heard.append(channels)
        self.connected.set()

    async def unsubscribe(self, channel: str) -> None:
        self.left.append(channel)

    async def listen(self) -> None:
        await self.lost.wait()
        raise RedisConnectionError("lost")

    async def hang_up(self) -> None:
        self.connected.clear()

    async def close(self) -> None:
        pass


async def test_after_an_outage_all_is_heard_again_that_is_read_and_then_looked_at_once() -> None:
    resets: list[int] = []
    found = Notifications(Settings(_env_file=None), lambda channel, data: None, lambda: resets.append(1))
    found._timeout = 20.0  # else a loaded machine ends the waits that are looked at
    server: Any = Server()
    found._subscription = server
    found.start("own")
    await asyncio.wait_for(server.connected.wait(), 10)
    found._pushed((b"subscribe", b"own", 1))
    assert (resets, found.connected) == ([1], True)
    waiting = [asyncio.create_task(found.subscribe(name)) for name in ("a", "b")]
    await asyncio.sleep(0)
    found._pushed((b"subscribe", b"a", 2))
    await asyncio.wait_for(waiting[0], 10)
    assert not waiting[1].done()
    server.lost.set()
    await asyncio.wait_for(waiting[1], 10)  # a reset is bound to follow
    assert not found.connected
    await found.subscribe("c")
    await found.unsubscribe("a")
    await asyncio.wait_for(server.connected.wait(), 10)
    assert server.heard[-1] == ("own", "b", "c")
    found._pushed((b"subscribe", b"own", 1))
    found._pushed((b"subscribe", b"b", 2))
    assert resets == [1]
    found._pushed((b"subscribe", b"c", 3))
    assert resets == [1, 1]
    await found.unsubscribe("b")
    await found.unsubscribe("b")
    assert server.left == ["b"]
    await found.close()


class Silent:
    """A connection that answers two PINGs, and then nothing."""

    lost, error = False, None

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.asked: list[Any] = []

    async def ask(self, commands: list[Any]) -> None:
        self.asked += commands
        if len(self.asked) > 2:
            raise RedisConnectionError("the server does not answer")


async def test_a_connection_that_says_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "_PROBE_SECONDS", 0.01)
    nothing: Any = None
    server, connection = _SingleServer(nothing, 1.0, lambda message: None), Silent()
    server._connection = connection  # type: ignore[assignment]
    with pytest.raises(RedisError, match="does not answer"):
        await asyncio.wait_for(server.listen(), 10)
    assert connection.asked == [("PING",)] * 3
