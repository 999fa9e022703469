"""What the simulation has found in the engine, as the fewest events that it took.

Each of them broke a rule before it was mended. The plans stand here as data, since another way to make plans
makes other histories of the same seeds.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.simulation.plan import Event, Plan
from tests.simulation.world import run


def send(at: float, number: int, worker: int, session: str | None, **what: Any) -> Event:
    told = {"worker": worker, "session": session, "key": True, "on_busy": "queue", "reads": "all", **what}
    return Event(at, "send", number, told)


def happens(at: float, kind: str, number: int, worker: int, **what: Any) -> Event:
    return Event(at, kind, number, {"worker": worker, **what})


FOUND: Final = {
    # The worker that begins a queued turn kept it on its list for ever where another one ran it.
    "a queued turn leaves the list of the worker that began it": Plan(
        1,
        2,
        True,
        True,
        False,
        "continue",
        2,
        (send(0.294, 20, 0, "a", key=False, reads="none"), send(0.3, 1, 1, "a")),
    ),
    # The append before a release failed, which nobody noticed, and the release did not.
    "a release while the store stands still loses no words": Plan(
        1779,
        2,
        False,
        True,
        True,
        "continue",
        50,
        (
            send(0.0, 0, 1, None, on_busy="interrupt", reads="some"),
            happens(0.724, "stall", 100, 1, seconds=1.328),
            happens(0.953, "drain", 140, 1, seconds=0.278),
        ),
    ),
    # Two appends were under way, and the answer to the first was taken for that to the second.
    "a release waits for what the flusher repeats": Plan(
        86,
        1,
        False,
        False,
        False,
        "restart",
        2,
        (
            send(0.0, 0, 0, "a", on_busy="reject"),
            send(0.423, 1, 0, "a", reads="some"),
            happens(0.628, "edit", 3, 0, of=1, regenerate=True, on_busy="interrupt", key=False),
            happens(0.79, "drain", 100, 0, seconds=0.557),
            happens(1.163, "stall", 120, 0, seconds=0.845),
        ),
    ),
    # Its log began with an event that a reader from the start could not cross to.
    "a queued turn that is stopped after a loss can be read from its start": Plan(
        3010,
        2,
        False,
        True,
        True,
        "continue",
        3,
        (
            send(0.0, 0, 0, "a", reads="none"),
            happens(0.063, "freeze", 100, 0, seconds=2.103, steps=13),
            send(0.065, 3, 0, "a"),
            happens(1.112, "stop", 6, 0, of=3),
            happens(1.41, "lose", 141, 0, back=1.095, down=0),
        ),
    ),
    # It had the id of the last event of a turn that had ended with another one.
    "a reader who was shown what the store forgot does not wait for ever": Plan(
        10226,
        2,
        False,
        True,
        True,
        "restart",
        2,
        (
            send(0.0, 0, 1, None),
            happens(0.193, "freeze", 100, 1, seconds=2.6, steps=11),
            happens(1.554, "lose", 101, 1, back=1.211, down=0),
            happens(1.572, "follow", 1, 0, of=0),
        ),
    ),
}


@pytest.mark.parametrize("plan", FOUND.values(), ids=FOUND.keys())
@pytest.mark.usefixtures("quiet")
def test_what_was_found_stays_mended(plan: Plan) -> None:
    assert run(plan) == ""
