"""What a budget's refusal says: for how long, and whether a client's own repeats can help."""

from __future__ import annotations

import pytest

from service.engine.budgets import SlotsBusy, _refusal
from service.store.ledger import Bounds, Reserved

BOUNDS = Bounds(running=2, month=30, day=20, minute=10, month_money=5_000_000_000, day_money=250_000_000)
GOOD_FOR_NOTHING = {"x-should-retry": "false"}


@pytest.mark.parametrize(
    ("by", "wait", "said", "seconds", "helps"),
    [
        ("minute", 10.2, "10 tokens a minute is used up; there is room again in 11 s.", 11, True),
        ("minute", 0.01, "10 tokens a minute is used up; there is room again in 1 s.", 1, True),
        ("day", 7_200.0, "20 tokens a day is used up; there is room again in 7200 s.", 7_200, False),
        ("month", 0.5, "30 tokens a month is used up; there is room again in 1 s.", 1, False),
        ("day_money", 3.1, "0.25 USD a day is used up; there is room again in 4 s.", 4, False),
        ("month_money", 3.0, "5 USD a month is used up; there is room again in 3 s.", 3, False),
        ("minute", None, "10 tokens a minute is smaller than this message needs.", None, False),
        ("day", 0, "20 tokens a day is reserved by answers that are running; wait for one.", 1, True),
    ],
)
def test_a_used_up_budget_says_when_there_is_room_and_only_a_minute_s_is_waited_for(
    by: str, wait: float | None, said: str, seconds: int | None, helps: bool
) -> None:
    refusal = _refusal(Reserved(by=by, wait=wait), BOUNDS)
    assert (refusal.code, refusal.message) == ("budget_exhausted", f"The budget of {said}")
    assert (refusal.retry_after, refusal.retryable) == (seconds, helps)
    assert refusal.headers == ({} if helps else GOOD_FOR_NOTHING)
    assert isinstance(refusal, SlotsBusy) is (wait == 0)


def test_no_place_is_waited_for() -> None:
    refusal = _refusal(Reserved(by="turns"), BOUNDS)
    assert isinstance(refusal, SlotsBusy)
    assert (refusal.code, refusal.retry_after, refusal.retryable, refusal.headers) == (
        "concurrency_limited",
        1,
        True,
        {},
    )
    assert refusal.message == "2 answers are running, which is the limit; wait for one."
