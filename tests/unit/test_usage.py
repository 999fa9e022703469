"""Usage: what is certain of a provider's word, and the sum of a turn's calls."""

from __future__ import annotations

from typing import Any

import pytest

from service.engine.billing import billed
from service.store.turn_records import Turn, TurnRef
from service.usage import count, detail, told


def turn(**fields: Any) -> Turn:
    ref = TurnRef("p", "s", "t_1")
    return Turn(ref, "running", 1, 1, "m", "m_1", 2, 1, 0, prompt_tokens=20, **fields)


@pytest.mark.parametrize(
    ("said", "certain"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 4}, {"prompt_tokens": 7, "completion_tokens": 4}),
        ({"prompt_tokens": 7, "total_tokens": 11}, {"prompt_tokens": 7, "completion_tokens": 4}),
        ({"prompt_tokens": 7, "total_tokens": 3}, {"prompt_tokens": 7}),
        ({"completion_tokens": 4, "prompt_tokens": None}, {"completion_tokens": 4}),
        ({"prompt_tokens": "7", "completion_tokens": -1}, {}),
        ({"prompt_tokens": True, "prompt_tokens_details": None}, {}),
        ({"prompt_tokens_details": {"cached_tokens": 3}}, {"cached_tokens": 3}),
        ({"completion_tokens_details": {"reasoning_tokens": None}}, {}),
        ({"prompt_tokens": 10**18, "completion_tokens": 10**30, "total_tokens": 1e18}, {}),
    ],
)
def test_of_a_partial_usage_what_is_certain_is_taken(said: dict[str, Any], certain: dict[str, int]) -> None:
    assert count(said) == certain


def test_what_the_provider_leaves_open_is_as_estimated_and_counted() -> None:
    assert billed(turn(), 5, {"prompt_tokens": 7})["completion_tokens"] == 5
    assert billed(turn(), 5, {"completion_tokens": 4})["prompt_tokens"] == 20
    assert billed(turn(), 5, {})["prompt_tokens"] == 20


def test_details_add_up_over_the_calls_of_a_turn_and_over_those_of_a_version_before() -> None:
    before = {"prompt_tokens": 10, "completion_tokens": 1}  # as it was written without details
    once = billed(turn(billed=before), 5, {"prompt_tokens": 7, "completion_tokens": 4, "cached_tokens": 3})
    twice = billed(turn(billed=once), 5, {"prompt_tokens": 7, "completion_tokens": 4, "cached_tokens": 2})
    assert told(twice) == {
        "prompt_tokens": 24,
        "completion_tokens": 9,
        "total_tokens": 33,
        "prompt_tokens_details": {"cached_tokens": 5},
    }


def test_a_figure_beyond_a_billion_is_a_fault_and_not_counted() -> None:
    most = 1_000_000_000
    assert count({"prompt_tokens": most, "completion_tokens": most + 1}) == {"prompt_tokens": most}
    assert detail({"prompt_tokens_details": {"cached_tokens": most}}, "cached_tokens") == most
    assert detail({"prompt_tokens_details": {"cached_tokens": most + 1}}, "cached_tokens") == 0
