"""Own limits of persons and groups in a worker's memory: which count, how often they are read, an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.api.auth import known_records
from service.api.auth.principal_cache import PrincipalCache, most_generous
from service.errors import StoreUnavailable
from service.store.credentials import OwnLimits
from service.store.principals import Entry
from tests.support.clock import LoopClock


class Entries:
    """In the store's place."""

    def __init__(self) -> None:
        self.held: dict[str, Entry] = {}
        self.reads: list[tuple[str, ...]] = []
        self.away = False

    def put(self, id: str, **limits: Any) -> None:
        self.held[id] = Entry(id, **limits)

    async def find(self, wanted: Sequence[str]) -> tuple[dict[str, Entry | None], bool]:
        self.reads.append(tuple(wanted))
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable
        return {id: self.held.get(id) for id in wanted}, bool(self.held)


@pytest.fixture
def entries() -> Entries:
    return Entries()


@pytest.fixture
def cache(entries: Entries) -> PrincipalCache:
    async def unless_silent(call: Awaitable[Any]) -> Any:
        return await call

    return PrincipalCache(cast(Any, SimpleNamespace(unless_silent=unless_silent)), cast(Any, entries))


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> LoopClock:
    return LoopClock(monkeypatch, known_records)


async def test_a_persons_own_limit_goes_before_a_groups_and_the_others_are_the_groups(
    entries: Entries, cache: PrincipalCache, clock: LoopClock
) -> None:
    entries.put("jwt.alice", max_running_turns=1)
    entries.put("group.staff", max_running_turns=9, limit_sends="5/minute")
    assert await cache.limits("jwt.alice", ["group.staff", "group.unknown"]) == {
        "max_running_turns": 1,
        "limit_sends": "5/minute",
    }
    assert await cache.limits("jwt.bob", ["group.staff"]) == {
        "max_running_turns": 9,
        "limit_sends": "5/minute",
    }
    assert await cache.limits("jwt.carol", []) == {}


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        ([], {}),
        ([OwnLimits(), OwnLimits()], {}),
        ([OwnLimits(max_running_turns=2), OwnLimits(max_running_turns=5)], {"max_running_turns": 5}),
        ([OwnLimits(max_running_turns=0), OwnLimits(max_running_turns=5)], {"max_running_turns": 0}),
        ([OwnLimits(budget_tokens_per_day=7), OwnLimits()], {"budget_tokens_per_day": 7}),
        (
            [OwnLimits(budget_money_per_day=2**60 + 1), OwnLimits(budget_money_per_day=2**60)],
            {"budget_money_per_day": 2**60 + 1},
        ),
        (
            [OwnLimits(limit_sends="5/second"), OwnLimits(limit_sends="200/minute")],
            {"limit_sends": "5/second"},
        ),
        (
            [OwnLimits(limit_sends="9/second;100/hour"), OwnLimits(limit_sends="2/minute")],
            {"limit_sends": "2/minute"},
        ),
        ([OwnLimits(limit_reads="5/second"), OwnLimits(limit_reads="")], {"limit_reads": ""}),
        (
            [OwnLimits(limit_sends="1/hour", max_running_turns=3), OwnLimits(limit_sends="2/hour")],
            {"limit_sends": "2/hour", "max_running_turns": 3},
        ),
    ],
)
def test_of_several_groups_the_most_generous_counts_for_each_limit(
    several: list[OwnLimits], expected: dict[str, Any]
) -> None:
    assert most_generous(several) == expected
    assert most_generous(reversed(several)) == expected


async def test_where_nobody_has_an_entry_a_worker_asks_once_in_two_seconds_for_all(
    entries: Entries, cache: PrincipalCache, clock: LoopClock
) -> None:
    for n in range(50):
        assert await cache.limits(f"jwt.p{n}", ["group.staff"]) == {}
    assert len(entries.reads) == 1
    entries.put("jwt.p7", max_running_turns=2)
    clock.now += 2.01
    assert await cache.limits("jwt.p7", ["group.staff"]) == {"max_running_turns": 2}
    assert len(entries.reads) == 2


async def test_that_somebody_has_no_entry_is_remembered_for_two_seconds(
    entries: Entries, cache: PrincipalCache, clock: LoopClock
) -> None:
    entries.put("jwt.other", max_running_turns=2)
    answers = [cache.limits("jwt.alice", ["group.staff"]) for _ in range(30)]
    assert await asyncio.gather(*answers) == [{}] * 30
    assert entries.reads == [("jwt.alice", "group.staff")]
    entries.put("jwt.alice", max_running_turns=4)
    clock.now += 1.99
    assert await cache.limits("jwt.alice", ["group.staff"]) == {}
    clock.now += 0.02
    assert await cache.limits("jwt.alice", ["group.staff"]) == {"max_running_turns": 4}
    assert len(entries.reads) == 2
    assert await cache.limits("jwt.bob", ["group.staff"]) == {}
    assert entries.reads[2:] == [("jwt.bob",)]  # the group is known


async def test_an_outage_is_bridged_for_who_is_known_and_nobody_else(
    entries: Entries, cache: PrincipalCache, clock: LoopClock
) -> None:
    entries.put("jwt.alice", max_running_turns=4)
    assert await cache.limits("jwt.alice", []) == {"max_running_turns": 4}
    assert await cache.limits("jwt.bob", []) == {}
    entries.away = True
    clock.now += 299
    for _ in range(20):
        assert await cache.limits("jwt.alice", []) == {"max_running_turns": 4}
        assert await cache.limits("jwt.bob", []) == {}
    assert len(entries.reads) == 4  # one of each a second
    with pytest.raises(StoreUnavailable):
        await cache.limits("jwt.carol", [])
    clock.now += 2
    with pytest.raises(StoreUnavailable):
        await cache.limits("jwt.alice", [])


async def test_an_outage_is_bridged_for_all_where_nobody_had_an_entry(
    entries: Entries, cache: PrincipalCache, clock: LoopClock
) -> None:
    assert await cache.limits("jwt.alice", []) == {}
    entries.away = True
    clock.now += 299
    assert await cache.limits("jwt.never-seen", ["group.new"]) == {}
    clock.now += 2
    with pytest.raises(StoreUnavailable):
        await cache.limits("jwt.never-seen", [])


async def test_the_memory_is_bounded(
    entries: Entries, cache: PrincipalCache, clock: LoopClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_records, "_MOST", 5)
    entries.put("jwt.other", max_running_turns=2)
    for n in range(20):
        await cache.limits(f"jwt.p{n}", [f"group.g{m}" for m in range(9)])
    assert len(cache._known) == 5
