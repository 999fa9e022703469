"""A pacer's line: fair between principals, cheap, bounded in time, and open when the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from service.engine.background import Background
from service.engine.pacing import learned_limits
from service.engine.pacing.learned_limits import Grant
from service.engine.pacing.queue import Pacer
from service.errors import StoreUnavailable, UpstreamError
from service.store.pacing import Bucket, Pace, Report
from service.upstream.base import Limits
from tests.support.waiting import eventually_async


class Room:
    """In the store's place: lets `room` calls go, then no more. Not the engine that is tested."""

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.polls = 0
        self.reports: list[Report] = []
        self.heard: list[Report] = []  # of these, those that were not in vain
        self.wait = 60.0
        self.away = False
        self.best = 0.0
        self.period = 60.0
        self.roomy = False

    async def pace(self, model: str, report: Report, asks: Sequence[tuple[int, int, float]]) -> Pace:
        self.polls += 1
        self.reports.append(report)
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable
        self.heard.append(report)
        if self.room is None:
            return Pace(1, True, [(-1.0, 0.0)] * len(asks), 0.0, 0.0, 0.0, True, {})
        self.room += bool(report.ended)
        count = min(self.room, len(asks))
        self.room -= count
        wait = self.wait if count < len(asks) else 0.0
        buckets = {"rpm": Bucket(60, self.room, self.period)}
        return Pace(1, True, [(0.0, 0.0)] * count, wait, self.best, 0.0, self.roomy, buckets)


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    found = Background()
    yield found
    await found.close()


def pacer(room: Room, background: Background) -> Pacer:
    return Pacer("m", room, background)  # type: ignore[arg-type]  # Room is all that it calls


async def test_a_flood_of_one_does_not_hold_up_another(background: Background) -> None:
    room = Room(0)
    room.wait = 1.0
    line = pacer(room, background)
    order: list[str] = []

    async def call(principal: str) -> None:
        assert isinstance(await line.take(principal, 1, 1, 30), Grant)
        order.append(principal)

    calls = [asyncio.create_task(call("flood")) for _ in range(20)]
    await asyncio.sleep(0)
    calls += [asyncio.create_task(call("small")) for _ in range(3)]
    await asyncio.sleep(0.01)
    room.room = 6
    await eventually_async(lambda: len(order) == 6)
    assert order == ["flood", "small"] * 3
    for task in calls:
        task.cancel()


async def test_where_nothing_is_in_the_way_many_calls_cost_one_poll(background: Background) -> None:
    room = Room()
    line = pacer(room, background)
    assert isinstance(await line.take("p", 1, 1, 1), Grant)
    for _ in range(100):
        assert isinstance(await line.take("p", 1, 1, 1), Grant)
    assert room.polls <= 10  # one per 25 ms, on a busy machine too


async def test_of_plenty_a_little_is_taken_before_asking_and_told_afterwards(background: Background) -> None:
    room = Room(1_000)
    room.roomy = True
    line = pacer(room, background)
    assert isinstance(await line.take("p", 1, 9, 1), Grant)
    assert room.polls == 1
    assert await line.take("p", 1, 9, 1) == Grant(1, 9)  # one of sixty is less than a 32nd of them
    assert room.polls == 1
    await line.take("p", 1, 9, 1)  # two are not
    assert room.polls == 2
    told = room.reports[1]
    assert (told.calls, told.requests, told.prompt, told.completion, told.ended, told.heard) == (
        2,
        -1,
        -1,
        -9,
        -10,
        -1,
    )


async def test_whose_last_turn_is_longest_ago_goes_first(background: Background) -> None:
    room = Room(2)
    room.wait = 1.0
    line = pacer(room, background)
    for served in ("early", "late"):
        assert isinstance(await line.take(served, 1, 1, 30), Grant)
    order: list[str] = []

    async def call(principal: str) -> None:
        assert isinstance(await line.take(principal, 1, 1, 30), Grant)
        order.append(principal)

    calls = [asyncio.create_task(call(principal)) for principal in ("late", "early", "late", "never")]
    await asyncio.sleep(0.01)
    room.room = 4
    await asyncio.wait_for(asyncio.gather(*calls), 5)
    assert order == ["never", "early", "late", "late"]


async def test_many_that_wait_cost_a_poll_and_not_one_each(background: Background) -> None:
    room = Room(0)
    line = pacer(room, background)
    room.wait = 0.1
    waiting = [asyncio.create_task(line.take("p", 1, 1, 0.3)) for _ in range(200)]
    refused = await asyncio.gather(*waiting)
    assert not any(isinstance(one, Grant) for one in refused)
    assert room.polls <= 10  # every 50 to 100 ms for 0.3 s


async def test_who_cannot_be_served_in_time_is_told_at_once_and_how_long_it_takes(
    background: Background,
) -> None:
    room = Room(0)
    room.best = 60.0
    line = pacer(room, background)
    assert await asyncio.gather(*(line.take("p", 1, 1, 10) for _ in range(50))) == [60.0] * 50
    assert room.polls == 1


async def test_while_own_calls_are_under_way_they_may_give_back_in_time(background: Background) -> None:
    room = Room(1)
    room.wait = 60.0
    line = pacer(room, background)
    grant = await line.take("p", 10, 90, 1)
    assert isinstance(grant, Grant)
    waiting = asyncio.create_task(line.take("p", 10, 90, 10))
    await asyncio.sleep(0.02)  # nothing is to happen meanwhile
    assert not waiting.done()
    line.ended(grant, 10, 5)
    assert isinstance(await asyncio.wait_for(waiting, 5), Grant)
    told = Report(
        calls=sum(report.calls for report in room.reports),
        ended=sum(report.ended for report in room.reports),
        prompt=sum(report.prompt for report in room.reports),
        completion=sum(report.completion for report in room.reports),
    )
    assert (told.ended, told.prompt, told.completion) == (100, 0, 85)


async def test_who_leaves_the_line_gives_back_what_it_was_given(background: Background) -> None:
    room = Room(0)
    room.wait = 1.0
    line = pacer(room, background)
    gone = asyncio.create_task(line.take("p", 1, 1, 30))
    stays = asyncio.create_task(line.take("p", 2, 2, 30))
    await asyncio.sleep(0.01)
    gone.cancel()
    room.room = 1
    assert await asyncio.wait_for(stays, 5) == Grant(2, 2, 1, 0.0, 0.0)


async def test_who_leaves_in_the_moment_in_which_it_is_let_go_gives_back_what_it_was_given(
    background: Background,
) -> None:
    class Late(Room):
        async def pace(self, model: str, report: Report, asks: Sequence[tuple[int, int, float]]) -> Pace:
            pace = await super().pace(model, report, asks)
            asyncio.get_running_loop().call_soon(gone.cancel)  # the next thing after it was let go
            return pace

    room = Late(1)
    gone = asyncio.create_task(pacer(room, background).take("p", 10, 90, 30))
    await asyncio.wait([gone])
    assert gone.cancelled()
    await eventually_async(lambda: room.polls == 2)
    told = room.reports[1]
    assert (told.requests, told.prompt, told.completion, told.ended) == (1, 10, 90, 100)


async def test_a_refusal_is_reported_with_what_was_asked(background: Background) -> None:
    room = Room()
    line = pacer(room, background)
    grant = await line.take("p", 10, 90, 1)
    assert isinstance(grant, Grant)
    line.head(grant, Limits())
    error = UpstreamError(
        "upstream_rate_limited",
        "Later.",
        kind="limit_tpm",
        retry_after=2,
        window="tpm",
        limit=8000,
        requested=100,
    )
    line.refused(grant, error)
    line.ended(grant, 0, 0, made=False)
    await line.flush()
    assert room.reports[-1].refusals == [
        {"kind": "tpm", "wait": 2000, "prompt": 10, "completion": 90, "limit": 8000, "requested": 100}
    ]
    assert room.reports[-1].requests == 1


async def test_without_the_store_calls_go_on_where_nothing_is_known_to_be_in_the_way(
    background: Background,
) -> None:
    room = Room(0)
    room.away = True
    line = pacer(room, background)
    for _ in range(5):
        assert isinstance(await line.take("p", 1, 1, 1), Grant)
    assert room.polls == 1  # and the store is left alone for a second


async def test_without_the_store_a_known_limit_is_kept_and_what_went_is_told_afterwards(
    background: Background,
) -> None:
    room = Room(4)
    room.period = 3600.0
    line = pacer(room, background)
    assert isinstance(await line.take("p", 1, 9, 1), Grant)  # three of sixty an hour are left
    room.away = True
    found = await asyncio.gather(*(line.take("p", 1, 9, 0.05) for _ in range(10)))
    assert sum(isinstance(one, Grant) for one in found) == 3
    later = [one for one in found if not isinstance(one, Grant)]
    assert all(50 < seconds <= 420 for seconds in later), later  # one a minute
    assert room.polls == 2
    room.away = False
    await eventually_async(lambda: room.polls == 3)  # a second later, though nobody calls any more
    told = room.reports[2]
    assert (told.requests, told.prompt, told.completion, told.ended) == (-3, -3, -27, -30)


async def test_a_store_that_stays_away_is_not_forgotten_what_went_meanwhile(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned_limits, "_ALONE_SECONDS", 0.02)
    room = Room(11)
    room.period = 3600.0
    line = pacer(room, background)
    assert isinstance(await line.take("p", 1, 9, 1), Grant)  # ten of sixty an hour are left
    room.away = True
    went = 0
    async with asyncio.timeout(10):
        while room.polls < 12:  # each of them in vain
            went += isinstance(await line.take("p", 1, 9, 0.01), Grant)
    assert went == 10


async def test_without_the_store_a_refusal_of_the_provider_holds_all_calls_back(
    background: Background,
) -> None:
    room = Room()
    room.away = True
    line = pacer(room, background)
    grant = await line.take("p", 10, 90, 1)
    assert isinstance(grant, Grant)
    line.refused(grant, UpstreamError("upstream_rate_limited", "Later.", kind="limit_rpm", retry_after=2))
    found = await line.take("p", 10, 90, 1)
    assert isinstance(found, float)
    assert 1 < found <= 2


async def test_a_refusal_that_the_store_has_not_heard_of_is_told_when_it_is_back(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned_limits, "_ALONE_SECONDS", 0.02)
    room = Room()
    room.away = True
    line = pacer(room, background)
    grant = await line.take("p", 10, 90, 1)
    assert isinstance(grant, Grant)
    refused = UpstreamError("upstream_rate_limited", "Later.", kind="limit_rpm", window="rpm", retry_after=2)
    line.refused(grant, refused)
    await eventually_async(lambda: any(report.refusals for report in room.reports))  # in vain
    assert room.heard == []
    room.away = False
    await eventually_async(lambda: any(report.refusals for report in room.heard), within=30)
    [told] = [one for report in room.heard for one in report.refusals]
    assert (told["kind"], told["wait"], told["prompt"], told["completion"]) == ("rpm", 2000, 10, 90)
