"""Which model is asked after a failed attempt, with what, and what a turn that is taken over begins with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service import events
from service.engine.live import Live
from service.engine.runner import _next, _params, _prefilled, _resume_shown
from service.errors import UpstreamError
from service.events import Event
from service.store.turn_records import LIFE, Turn, TurnRef
from service.upstream.models import Model


def model(name: str, **more: Any) -> Model:
    plain = Model(name, 8192, 1024, 1024, frozenset(), (), (), (), "restart", "bench")
    return replace(plain, **more)


A, B, C = model("a"), model("b"), model("c")
CHAIN = [A, B, C]


def error(kind: str, *, retryable: bool = True, **more: Any) -> UpstreamError:
    return UpstreamError("upstream_unavailable", "no", kind=kind, retryable=retryable, **more)


@pytest.mark.parametrize(
    ("failure", "attempt", "asked", "following"),
    [
        # Nobody can be asked, or nobody in time.
        (error("circuit", circuit="auth"), 1, A, None),
        (error("held"), 1, A, None),
        (error("rejected", retryable=False), 1, A, None),
        (error("rejected", retryable=False), 3, A, None),
        # The governor waits, or moves on by itself.
        (error("limit_tpm"), 3, A, A),
        (error("limit_tpd", fail_over=True), 1, A, A),
        # Another one is asked at once, while there is one; the last one again where that may help.
        (error("capacity", fail_over=True), 1, A, B),
        (error("capacity", fail_over=True), 1, B, C),
        (error("capacity", fail_over=True), 2, C, C),
        (error("model_gone", fail_over=True, retryable=False), 1, B, C),
        (error("model_gone", fail_over=True, retryable=False), 1, C, None),
        # The same once more, then along the fallbacks.
        (error("server_error"), 1, A, A),
        (error("server_error"), 2, A, B),
        (error("server_error"), 3, B, C),
        (error("server_error"), 3, C, C),
        # Another model is behind the same connection, and has no other way of streaming.
        (error("connect"), 2, A, A),
        (error("streaming"), 2, A, A),
    ],
)
def test_the_next_model_follows_from_why_the_last_one_failed(
    failure: UpstreamError, attempt: int, asked: Model, following: Model | None
) -> None:
    assert _next(CHAIN, asked, failure, attempt, other_key=True) is following


@pytest.mark.parametrize(("other_key", "following"), [(True, A), (False, None)])
def test_a_key_that_is_refused_is_replaced_by_another_and_by_no_other_model(
    other_key: bool, following: Model | None
) -> None:
    for refused in (error("auth", circuit="auth"), error("auth", circuit="auth", retryable=False)):
        assert _next(CHAIN, A, refused, 2, other_key=other_key) is following


def taken_over(said: list[Event], **more: Any) -> Live:
    """Of a turn whose first owner has shown something, and whose attempts so far were two."""
    turn = Turn(TurnRef("p", "s", "t"), "running", 2, 2, "a", "m", 3, 7, 0, shown=True, **more)
    live = Live(turn, ("turn", "log"), None)
    live.answer.replay(said)
    return live


TEXT = Event(2, events.delta("Blue"))
CALL = Event(3, events.structured(events.TOOL_CALL, {"id": "c", "index": 0, "function": {"name": "f"}}))
THOUGHT = Event(2, events.reasoning("Hm"))
CONTINUES = model("c", on_takeover="continue")


def test_a_model_that_can_continues_its_text_and_nothing_is_said_of_it() -> None:
    live = taken_over([TEXT])
    _resume_shown(live, CONTINUES)
    assert (live.answer.text, live.shown, live.has_pending, live.turn.void) == (["Blue"], True, False, 0)


@pytest.mark.parametrize(
    ("said", "continues", "more"),
    [
        ([TEXT], A, {}),
        ([TEXT, CALL], CONTINUES, {}),
        ([THOUGHT], CONTINUES, {}),
        # Nobody knows what of it was shown: the store has lost events.
        ([TEXT], CONTINUES, {"kept": 3}),
    ],
)
def test_whatever_else_was_shown_is_void_and_whoever_has_seen_it_is_told(
    said: list[Event], continues: Model, more: dict[str, Any]
) -> None:
    live = taken_over(said, **more)
    if more:
        live.turn.last = live.acknowledged = LIFE - 1
    first = live.acknowledged + 1
    _resume_shown(live, continues)
    assert (live.answer.text, live.answer.reasoning, live.answer.tool_calls) == ([], [], [])
    assert (live.shown, live.turn.void) == (False, first)
    assert live.take() == (
        first,
        [events.structured(events.RESTARTED, {"attempt": 3})],
        ["shown", 0, "void", first, "tokens", 0],
    )


def test_a_prefill_goes_on_with_what_the_answer_has_said() -> None:
    question = {"role": "user", "content": "?"}
    calling = {"role": "assistant", "content": "So", "tool_calls": [{"id": "c"}]}
    text = {"role": "assistant", "content": "Blue"}
    assert _prefilled([question], "Blue") == [question, text]
    assert _prefilled([question, {**text, "content": "The sky: "}], "Blue") == [
        question,
        {**text, "content": "The sky: Blue"},
    ]
    assert _prefilled([question, {**text, "content": None}], "Blue") == [question, text]
    assert _prefilled([question, calling], "Blue") == [question, calling, text]


def test_a_model_is_asked_for_an_effort_that_it_takes() -> None:
    asked = {"reasoning_effort": "high", "temperature": 0.5}
    assert _params(A, asked) == {"temperature": 0.5}
    assert _params(model("e", reasoning_efforts=("low", "high")), asked) == asked
    assert _params(model("e", reasoning_efforts=("none", "low")), asked) == {
        **asked,
        "reasoning_effort": "none",
    }
    assert _params(model("e", reasoning_efforts=("none", "low")), {}) == {"reasoning_effort": "none"}
    assert asked == {"reasoning_effort": "high", "temperature": 0.5}  # fallbacks are asked with it
