"""Simulated histories, so many that what a change breaks is found within a minute.

More of them: `python -m tests.simulation`. A failing one names its seed and the events that it takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

import pytest

from service.store.connection import scripts
from service.store.connection.typed_scripts import sources
from tests.simulation.plan import make
from tests.simulation.shrink import shrink
from tests.simulation.world import World, run

# 40 ms each on a quiet core: 20 s in all, in parts that run beside each other.
_PART: Final = 25
_PARTS: Final = 20


pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize("part", range(_PARTS))
def test_no_history_breaks_a_rule(part: int) -> None:
    for seed in range(part * _PART, (part + 1) * _PART):
        plan = make(seed)
        broken = run(plan)
        if broken:
            fewer, why = shrink(plan, broken, run)
            pytest.fail(f"{why}\n{fewer}\n(python -m tests.simulation --seed {seed})")


def test_a_seed_is_one_history_whatever_other_threads_do() -> None:
    def commands(seed: int) -> list[tuple[float, bytes]]:
        world, found = World(make(seed)), []
        execute = world.network.redis.execute

        def noted(command: list[bytes]) -> object:
            found.append((world.loop.time(), b" ".join(command)))
            return execute(command)

        world.network.redis.execute = noted  # type: ignore[assignment,method-assign]
        assert world.outcome() == ""
        return found

    first, other = commands(5), commands(6)
    with reading_clocks():
        again = commands(5)
    assert again == first
    assert [command for _, command in first] != [command for _, command in other]


@contextmanager
def reading_clocks() -> Iterator[None]:
    """Another thread, which asks for the time and for chance, as a server beside the tests does."""
    over = Event()

    def read() -> None:
        while not over.is_set():
            time.monotonic(), time.time(), os.urandom(1)
            over.wait(1e-4)

    neighbour = Thread(target=read)
    neighbour.start()
    try:
        yield
    finally:
        over.set()
        neighbour.join()


def test_a_planted_fault_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    fence = (
        "if tonumber(held[1]) ~= epoch or (held[5] or '') ~= claim or held[2] ~= 'running' then return 0 end"
    )
    changed = dict(sources())
    assert fence in changed["append"]
    changed["append"] = changed["append"].replace(fence, "")
    monkeypatch.setattr(scripts, "sources", lambda: changed)
    broken = next((seed, why) for seed in range(1000) if (why := run(make(seed))))
    assert broken[1].startswith("somebody else's write was taken")
    fewer, why = shrink(make(broken[0]), broken[1], run)
    assert why.startswith("somebody else's write was taken")
    assert 0 < len(fewer.events) < len(make(broken[0]).events)


@pytest.mark.parametrize(
    ("script", "line", "kind", "rule"),
    [
        (
            "begin",
            "redis.call('ZREMRANGEBYSCORE', order, '(' .. cut, '+inf')",
            "edit",
            "a history names a message that is not",
        ),
        (
            "begin",
            "redis.call('HDEL', messages, unpack(off, i, last))",
            "edit",
            "messages are left that no history has",
        ),
        (
            "seal",
            " and redis.call('ZCOUNT', order, held[4] - 1, held[4] - 1) == 1",
            "evict",
            "the history is not what was said",
        ),
    ],
    ids=["in the history", "beside it", "by a late answer"],
)
def test_what_an_edit_has_dropped_does_not_come_back_unnoticed(
    monkeypatch: pytest.MonkeyPatch, script: str, line: str, kind: str, rule: str
) -> None:
    assert line in sources()[script]
    changed = {name: text.replace(line, "") for name, text in sources().items()}  # also where it is included
    monkeypatch.setattr(scripts, "sources", lambda: changed)
    plans = (plan for plan in map(make, range(500)) if any(event.kind == kind for event in plan.events))
    assert next(why for plan in plans if (why := run(plan))).startswith(rule)
