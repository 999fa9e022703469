"""The one line of a worker to a Redis: when it is opened, when again, and for how long one waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.store.connection import multiplexed
from service.store.connection.multiplexed import Multiplexer
from service.store.connection.replicas import Replicas, ReplicatedConnection


class Line:
    """A connection that answers as it is told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []
        self.lost = self.closed = False
        self.error = None

    async def ask(self, commands: Sequence[Any]) -> list[Any]:
        self.asked.append(commands)
        answer = self.answers.pop(0) if self.answers else b"v"
        if isinstance(answer, BaseException):
            raise answer
        return [answer]

    def send(self, commands: Sequence[Any], answered: Callable[[Any], None]) -> None:
        self.asked.append(commands)

    def close(self) -> None:
        self.lost = self.closed = True


class Opening:
    """Gives out these lines, one after the other, once `may` is set."""

    def __init__(self, *lines: Line | BaseException) -> None:
        self.lines = list(lines)
        self.opened = 0
        self.may = asyncio.Event()
        self.may.set()

    async def __call__(self, pool: Any, make: Any, timeout: float) -> Any:
        self.opened += 1
        await self.may.wait()
        line = self.lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line


def multiplexer(
    monkeypatch: pytest.MonkeyPatch,
    *lines: Line | BaseException,
    timeout: float = 20.0,
    replicas: Replicas | None = None,
) -> tuple[Multiplexer, Opening]:
    opening, pool = Opening(*lines), Any
    monkeypatch.setattr(multiplexed, "open_connection", opening)
    return Multiplexer(pool, timeout, replicas, lambda: "f"), opening  # type: ignore[arg-type]


async def test_all_who_ask_wait_for_one_opening_and_none_is_started_on_a_line_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line()
    found, opening = multiplexer(monkeypatch, line, Line())
    opening.may.clear()
    assert not found.start(["x"], lambda _: None)
    asking = [asyncio.create_task(found.run([name])) for name in ("a", "b", "c")]
    for _ in range(5):
        await asyncio.sleep(0)
    asking[0].cancel()  # and takes the others' opening with it to nowhere
    opening.may.set()
    assert await asyncio.wait_for(asyncio.gather(*asking[1:]), 10) == [[b"v"], [b"v"]]
    assert (opening.opened, line.asked) == (1, [["b"], ["c"]])
    assert found.start(["d"], lambda _: None)
    await found.run(["e"])
    assert (opening.opened, line.asked[2:]) == (1, [["d"], ["e"]])
    await found.close()
    assert line.closed


async def test_a_line_that_was_lost_is_opened_anew_and_what_was_on_it_is_sent_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [Line(b"1", RedisConnectionError("broke")), Line(b"2"), Line(RedisConnectionError("broke"))]
    found, opening = multiplexer(monkeypatch, *lines)
    assert await found.run(["a"]) == [b"1"]
    assert await found.run(["b"]) == [b"2"]
    assert (lines[0].asked, lines[1].asked) == ([["a"], ["b"]], [["b"]])
    lines[1].lost = True
    assert not found.start(["c"], lambda _: None)
    with pytest.raises(RedisConnectionError):  # once more, and no more
        await found.run(["d"])
    assert (opening.opened, lines[1].asked, lines[2].asked) == (3, [["b"]], [["d"]])


@pytest.mark.parametrize("error", [RedisTimeoutError("late"), ResponseError("no")])
async def test_what_timed_out_is_not_sent_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    line = Line(b"1", error)
    found, opening = multiplexer(monkeypatch, line, Line())
    await found.run(["a"])
    with pytest.raises(type(error)):
        await found.run(["b"])
    assert (opening.opened, line.asked) == (1, [["a"], ["b"]])


async def test_an_opening_is_waited_for_as_long_as_a_command_and_tried_again_after_it_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line()
    found, opening = multiplexer(monkeypatch, OSError("refused"), line, timeout=0.05)
    with pytest.raises(OSError, match="refused"):
        await found.run(["a"])
    opening.may.clear()
    asking = asyncio.create_task(found.run(["b"]))
    await asyncio.wait([asking], timeout=10)
    assert asking.done()
    assert isinstance(asking.exception(), TimeoutError)
    opening.may.set()
    found._timeout = 20.0
    assert await found.run(["c"]) == [b"v"]
    assert (opening.opened, line.asked) == (2, [["c"]])


async def test_what_is_closed_opens_nothing_and_waits_for_what_it_had_begun_to_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, opening = multiplexer(monkeypatch, Line())
    opening.may.clear()
    asking = asyncio.create_task(found.run(["a"]))
    for _ in range(5):
        await asyncio.sleep(0)
    begun = found._opening
    assert begun is not None
    await found.close()
    assert begun.cancelled()
    opening.may.set()
    for again in (asking, found.run(["b"])):
        with pytest.raises((RedisConnectionError, asyncio.CancelledError)):
            await asyncio.wait_for(again, 10)
    assert opening.opened == 1


async def test_replies_wait_for_replicas_where_they_are_to(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sent(Line):
        def send(self, commands: Sequence[Any], answered: Callable[[Any], None]) -> None:
            self.asked.append(list(commands))
            answered([b"v", b"OK", 1])

    line = Sent()
    found, _ = multiplexer(monkeypatch, line, replicas=Replicas(1, 0.5))
    assert await found.run([("GET", "k")]) == [b"v"]
    assert line.asked == [[("GET", "k"), ("SET", "f", "", "PX", 60_000), ("WAIT", 1, 500)]]
    assert isinstance(found._connection, ReplicatedConnection)
