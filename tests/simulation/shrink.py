"""Shrinking: the fewest events with which a history still breaks the same rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.simulation.plan import Plan

# Runs of histories, some seconds in all.
_MOST_RUNS: Final = 150


def rule_of(broken: str) -> str:
    return broken.partition(":")[0]


def shrink(plan: Plan, broken: str, run: Callable[[Plan], str]) -> tuple[Plan, str]:
    """Leave out event after event, the last first, as long as that changes nothing of the outcome."""
    runs, again = 0, True
    while again:
        again = False
        for event in reversed(plan.events):
            if runs == _MOST_RUNS:
                return plan, broken
            runs += 1
            fewer = replace(plan, events=tuple(one for one in plan.events if one is not event))
            found = run(fewer)
            if found and rule_of(found) == rule_of(broken):
                plan, broken, again = fewer, found, True
    return plan, broken
