"""What a tail brings is given to its readers where it arrives."""

from __future__ import annotations

import asyncio

import pytest

from service import events
from service.engine.tail_cache import TailCache
from service.events import Event
from service.store.turn_records import TurnRef


def event(number: int) -> Event:
    return Event(number, events.delta(f"word {number} "))


def feed() -> TailCache:
    made = TailCache(TurnRef("none.anonymous", "s", "t"), "log")
    made.push([event(1)])
    return made


async def waiting(
    found: TailCache, taken: list[int], until: int = 99, seconds: float = 60.0
) -> asyncio.Task[bool]:
    """A reader that takes events up to `until` where they arrive, and wants to be woken for that one."""

    def on_events(fresh: list[Event]) -> bool:
        taken.extend(event.id for event in fresh)
        return taken[-1] < until

    task = asyncio.create_task(found.wait(seconds, on_events))
    await asyncio.sleep(0)
    return task


async def test_readers_take_new_events_in_the_call_that_brings_them() -> None:
    found, one, two = feed(), [0], [0]
    tasks = [await waiting(found, one), await waiting(found, two)]
    found.push([event(2), event(3)])
    assert one == two == [0, 2, 3]
    found.push([event(3), event(4)])  # what it has is not given again
    assert one == two == [0, 2, 3, 4]
    assert not any(task.done() for task in tasks)
    found.wake()
    assert await asyncio.gather(*tasks) == [True, True]
    found.push([event(5)])
    assert one == two == [0, 2, 3, 4]  # who does not wait is given nothing


async def test_who_wants_to_be_woken_is_and_is_given_no_more() -> None:
    found, one, two = feed(), [0], [0]
    first, second = await waiting(found, one, until=3), await waiting(found, two)
    for number in (2, 3, 4):
        found.push([event(number)])
    assert await first is True
    assert one == [0, 2, 3]
    assert two == [0, 2, 3, 4]
    assert [seen.id for seen in found.after(3) or []] == [4]
    second.cancel()
    await asyncio.wait([second])


async def test_a_readers_fault_is_its_own() -> None:
    found, other = feed(), [0]

    def breaks(fresh: list[Event]) -> bool:
        raise KeyError(fresh[0].id)

    broken = asyncio.create_task(found.wait(60.0, breaks))
    await asyncio.sleep(0)
    whole = await waiting(found, other)
    found.push([event(2)])
    found.push([event(3)])
    with pytest.raises(KeyError, match="2"):
        await broken
    assert other == [0, 2, 3]
    whole.cancel()
    await asyncio.wait([whole])


async def test_the_time_of_quiet_begins_again_with_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    found, taken = feed(), [0]
    now = asyncio.get_running_loop().time()
    task = await waiting(found, taken, seconds=10.0)
    monkeypatch.setattr(found, "_loop", _At(now + 8))
    found.push([event(2)])
    found.expire(now + 17)
    await asyncio.sleep(0)
    assert not task.done()
    found.expire(now + 18)
    assert await task is False


async def test_what_another_worker_wrote_in_between_is_read_from_the_log() -> None:
    found = feed()
    found.push([event(2)])
    found.push([event(5)])  # this worker has taken the turn over again
    assert found.after(2) is None
    assert [one.id for one in found.after(4) or []] == [5]


class _At:
    """A loop whose clock stands still."""

    def __init__(self, now: float) -> None:
        self._now = now

    def time(self) -> float:
        return self._now
