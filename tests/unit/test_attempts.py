"""Turns and attempts as operators see them: a turn's line, whoever writes it, and the times of a call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.engine import attempts
from service.engine.attempts import Attempt, Ending, line_of
from service.engine.booking import Booking
from service.money import Amount
from service.store.turn_records import Turn, TurnRef
from service.telemetry.tracing import NOTHING

REF = TurnRef("p", "s", "t_1")
USAGE: dict[str, Any] = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def ended(**fields: Any) -> Turn:
    return Turn(REF, "completed", 2, 3, "asked", "m_1", 2, 9, 0, request="r_1", **fields)


@pytest.mark.parametrize(
    ("cost", "told"), [(None, (None, None)), (Amount(0), (0, None)), (Amount(40, "EUR"), (40, "EUR"))]
)
def test_the_line_of_a_turn_has_each_figure_under_its_name(
    cost: Amount | None, told: tuple[int | None, str | None]
) -> None:
    assert line_of(ended(cost=cost), Ending("completed", "answered", USAGE)) == {
        "request": "r_1",
        "turn": "t_1",
        "session": "s",
        "principal": "p",
        "outcome": "completed",
        "model": "answered",
        "attempt": 3,
        "epoch": 2,
        "input_tokens": 11,
        "output_tokens": 7,
        "cached_tokens": 5,
        "reasoning_tokens": 3,
        "cost_nanos": told[0],
        "currency": told[1],
    }


@pytest.mark.parametrize(("answered_by", "booked"), [("fallback", "fallback"), ("", "asked")])
async def test_a_turn_that_is_booked_later_is_booked_for_the_model_that_answered(
    answered_by: str, booked: str
) -> None:
    told: list[tuple[str, dict[str, Any]]] = []

    async def settle(turn: Turn, model: str, usage: dict[str, Any]) -> bool:
        told.append((model, usage))
        return True

    async def tell(turn: Turn, ending: Ending) -> None:
        told.append((ending.model, ending.usage))

    fakes: Any = SimpleNamespace(settle=settle), SimpleNamespace(ended=tell)
    await Booking(None, *fakes).book(ended(answered_by=answered_by, usage=USAGE), "sweep")  # type: ignore[arg-type]
    assert told == [(booked, USAGE)] * 2


def test_the_times_of_a_call_are_that_of_its_first_token_and_that_between_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(attempts, "time", SimpleNamespace(monotonic=lambda: now))
    request: Any = SimpleNamespace(
        model=SimpleNamespace(id="timed"), whole=False, max_completion_tokens=9, server=("", 0)
    )

    def total(name: str) -> float:
        return REGISTRY.get_sample_value(f"chat_upstream_{name}_seconds_sum", {"model": "timed"}) or 0.0

    with Attempt(NOTHING, request, 1) as attempt:
        now += 2.0
        assert attempt.arrived(1)
        now += 1.0
        assert not attempt.arrived(4)
    assert (total("time_to_first_chunk"), total("time_per_token")) == (2.0, 0.25)
