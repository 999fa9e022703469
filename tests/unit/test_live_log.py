"""A turn while it runs: what it writes to its log, with which fields, and what it costs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from service import events
from service.engine.live import Answer, Live
from service.engine.tail_cache import TailCache
from service.events import Event
from service.store.turn_records import Turn, TurnRef
from service.upstream.models import Model

MODEL = Model("m2", 8_000, 1_000, 500, frozenset(), (), (), (), "restart", "t")
CALL = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}


def live(tail: TailCache | None = None, **fields: Any) -> Live:
    values: dict[str, Any] = {
        "ref": TurnRef("p", "s", "t_1"),
        "state": "running",
        "epoch": 1,
        "attempt": 0,
        "model": "m1",
        "user": "m_1",
        "pos": 1,
        "last": 1,
        "created": int(time.time() * 1000) - 2_000,
    }
    return Live(Turn(**{**values, **fields}), ("turn", "log"), tail)


def taken(turn: Live) -> tuple[int, list[bytes], dict[str, Any]]:
    first, payloads, flat = turn.take()
    return first, payloads, dict(zip(flat[::2], flat[1::2], strict=True))


# What is written


def test_pieces_of_a_kind_are_one_event_and_kinds_stay_apart() -> None:
    turn = live()
    turn.add_reasoning("H")
    turn.add_reasoning("m")
    turn.add_text("a")
    turn.add_text("b")
    turn.add_tool_call(CALL)
    turn.add_text("c")
    first, payloads, fields = taken(turn)
    assert (first, payloads) == (
        2,
        [
            events.reasoning("Hm"),
            events.delta("ab"),
            events.structured(events.TOOL_CALL, CALL),
            events.delta("c"),
        ],
    )
    assert fields == {"tokens": 0, "shown": 1}
    assert (turn.answer.text, turn.answer.reasoning) == (["a", "b", "c"], ["H", "m"])
    assert turn.answer.tool_calls == [CALL]


def test_what_was_taken_is_taken_again_until_it_is_acknowledged() -> None:
    turn = live()
    turn.add_text("a")
    turn.tokens = 1
    assert taken(turn) == taken(turn) == (2, [b"da"], {"tokens": 1, "shown": 1})
    turn.add_text("b")
    turn.tokens = 2
    assert taken(turn) == (2, [b"da"], {"tokens": 1, "shown": 1})
    turn.acknowledge()
    assert turn.has_pending
    assert taken(turn) == (3, [b"db"], {"tokens": 2})
    turn.acknowledge()
    assert not turn.has_pending


def test_that_something_was_shown_is_written_once_and_again_after_a_restart() -> None:
    turn = live(shown=True, epoch=2)
    turn.add_text("a")
    assert taken(turn) == (2, [b"da"], {"tokens": 0})
    turn.acknowledge()
    turn.shown = False
    turn.add_event(events.RESTARTED, {}, shown=0)
    assert taken(turn)[2] == {"tokens": 0, "shown": 0}
    turn.acknowledge()
    turn.add_text("b")
    assert taken(turn)[2] == {"tokens": 0, "shown": 1}
    turn.acknowledge()
    turn.add_event(events.RESTARTED, {}, shown=0)
    turn.add_text("c")
    assert taken(turn)[2] == {"tokens": 0, "shown": 1}


def test_fields_that_went_without_an_event_go_again_until_they_are_acknowledged() -> None:
    turn = live(prompt_tokens=20, tokens=3)
    turn.inherit_bill()
    first, payloads, fields = taken(turn)
    assert (first, payloads) == (2, [])
    turn.add_text("a")
    first, payloads, again = taken(turn)
    assert (first, payloads) == (2, [b"da"])
    assert {"billed": fields["billed"], "prompt_tokens": 0}.items() <= again.items()


async def test_readers_see_what_is_acknowledged_and_not_before() -> None:
    tail = TailCache(TurnRef("p", "s", "t_1"), "log")
    turn = live(tail)
    turn.add_text("a")
    taken(turn)
    assert list(tail.events) == []
    shown = [turn.turn.shown]
    turn.acknowledge()
    assert [(event.id, event.payload) for event in tail.events] == [(2, b"da")]
    assert [*shown, turn.turn.shown] == [False, True]
    assert turn.first_shown == pytest.approx(2.0, abs=1.0)


def test_an_attempt_alone_shows_nothing() -> None:
    turn = live()
    turn.ask(MODEL, 20)
    taken(turn)
    turn.acknowledge()
    assert (turn.turn.shown, turn.ever_shown, turn.first_shown) == (False, False, None)
    assert live(shown=True).ever_shown


def test_what_is_not_written_yet_is_all_that_a_seal_writes() -> None:
    turn = live()
    turn.add_text("a")
    taken(turn)  # under way, not answered
    turn.add_text("b")
    turn.add_event(events.RESTARTED, {"attempt": 2})
    assert turn.unwritten() == [b"da", b"db", events.structured(events.RESTARTED, {"attempt": 2})]
    assert turn.unwritten() == []


def test_of_a_lost_log_nothing_more_is_written() -> None:
    turn = live()
    turn.add_text("a")
    taken(turn)
    turn.add_text("b")
    turn.forget_unwritten()
    assert turn.unwritten() == []


async def test_whoever_waits_goes_on_when_all_is_written_and_not_before() -> None:
    turn = live()
    turn.add_text("a")
    taken(turn)
    turn.add_text("b")
    waiting = asyncio.create_task(turn.flushed())
    await asyncio.sleep(0)  # until it waits
    turn.acknowledge()
    turn.tell_flushed()
    assert await asyncio.wait([waiting], timeout=0) == (set(), {waiting})
    taken(turn)
    turn.acknowledge()
    turn.tell_flushed()
    await waiting


async def test_whoever_waits_goes_on_inside_the_callback_that_brings_the_answer() -> None:
    turn, order = live(), []
    turn.add_text("a")
    taken(turn)

    async def wait() -> None:
        await turn.flushed()
        order.append("goes on")

    def land() -> None:
        turn.acknowledge()
        turn.tell_flushed()
        order.append("landed")

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)  # until it waits
    asyncio.get_running_loop().call_soon(land)
    await waiting
    assert order == ["goes on", "landed"]


async def test_nobody_waits_for_what_is_written_or_interrupted() -> None:
    turn = live()
    await turn.flushed()
    turn.add_text("a")
    turn.interrupt("stop")
    await turn.flushed()
    turn.resume()
    with pytest.raises(TimeoutError):  # "a" is still to be written
        await asyncio.wait_for(turn.flushed(), 0.01)


def test_an_attempt_that_was_interrupted_may_be_followed_by_another() -> None:
    turn = live()
    turn.interrupt("idle_timeout")
    assert (turn.signal, turn.changed.is_set()) == ("idle_timeout", True)
    turn.interrupt("stop")
    assert turn.signal == "idle_timeout"  # the first reason counts
    turn.resume()
    assert getattr(turn, "signal") is None  # noqa: B009 - mypy knows what it was before
    assert not turn.changed.is_set()
    turn.interrupt("stop")
    turn.interrupt("fenced")
    assert turn.signal == "fenced"  # but this one always


# What it costs


def billed(fields: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = orjson.loads(fields["billed"])
    return {name: found[name] for name in ("prompt_tokens", "completion_tokens")}


def test_a_call_is_noted_with_its_attempt_before_it_is_made() -> None:
    turn = live(attempt=1)
    turn.said = {"id": "of the call before"}
    turn.ask(MODEL, 20)
    _, payloads, fields = taken(turn)
    assert payloads == [events.structured(events.ATTEMPT, {"attempt": 2, "model": "m2"})]
    assert fields == {"attempt": 2, "answered_by": "m2", "price": "", "prompt_tokens": 20, "tokens": 0}
    assert (turn.turn.attempt, turn.turn.answered_by, turn.turn.prompt_tokens, turn.said) == (2, "m2", 20, {})


def test_calls_that_ended_and_the_one_under_way_are_the_bill() -> None:
    turn = live()
    turn.ask(MODEL, 20)
    turn.tokens = 3
    assert turn.usage == {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
    turn.asked(billable=True)
    assert turn.usage == {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
    _, _, fields = taken(turn)
    assert billed(fields) == {"prompt_tokens": 20, "completion_tokens": 3}
    assert fields["prompt_tokens"] == 0  # whoever takes over does not bill it once more
    turn.acknowledge()
    turn.ask(MODEL, 30)
    turn.reported = {"prompt_tokens": 31, "completion_tokens": 7}
    turn.tokens = 5
    assert turn.usage == {"prompt_tokens": 51, "completion_tokens": 10, "total_tokens": 61}
    turn.asked(billable=True)
    turn.ask(MODEL, 40)
    assert turn.usage == {"prompt_tokens": 91, "completion_tokens": 10, "total_tokens": 101}
    turn.asked(billable=False)
    assert turn.usage == {"prompt_tokens": 51, "completion_tokens": 10, "total_tokens": 61}


def test_the_call_that_an_owner_before_died_in_is_billed_once() -> None:
    before = {"prompt_tokens": 5, "completion_tokens": 6}
    turn = live(epoch=2, prompt_tokens=20, tokens=3, billed=before)
    turn.inherit_bill()
    turn.inherit_bill()
    assert turn.usage == {"prompt_tokens": 25, "completion_tokens": 9, "total_tokens": 34}
    assert billed(taken(turn)[2]) == {"prompt_tokens": 25, "completion_tokens": 9}
    idle = live(epoch=2, billed=before)
    idle.inherit_bill()
    assert not idle.has_pending


# What a log says


def test_an_answer_is_what_follows_the_last_restart() -> None:
    log = [
        events.structured(events.STARTED, {}),
        events.reasoning("void"),
        events.delta("void"),
        events.structured(events.TOOL_CALL, CALL),
        events.structured(events.RESTARTED, {}),
        events.reasoning("Hm"),
        events.delta("a"),
        events.delta("b"),
    ]
    answer = Answer()
    answer.replay([Event(number, payload) for number, payload in enumerate(log, 1)])
    assert (answer.text, answer.reasoning, answer.tool_calls) == (["a", "b"], ["Hm"], [])
    found = [answer.empty]
    for number, name in ((9, events.RESTARTED), (10, events.TOOL_CALL)):
        answer.replay([Event(number, events.structured(name, CALL))])
        found.append(answer.empty)
    assert found == [False, True, False]
