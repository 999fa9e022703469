"""Turns that run in this worker, from their begin to what follows them: stores and runners that only note."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from service import events
from service.engine.admission import Admission
from service.engine.background import Background
from service.engine.live import Live
from service.engine.running import Running
from service.engine.tail_cache import TailCache
from service.errors import StoreUnavailable
from service.events import Event
from service.store.turn_records import Claim, Turn, TurnRef
from tests.support.waiting import eventually_async

REF = TurnRef("p", "s", "t_1")
STARTED = events.structured(events.STARTED, {"turn_id": "t_1", "model": "m", "created": 1})
LOG = [Event(1, STARTED), Event(2, events.delta("Blue"))]


def turn(turn_id: str = "t_1", epoch: int = 1, **more: Any) -> Turn:
    return Turn(TurnRef("p", "s", turn_id), "running", epoch, 1, "m", "m_1", 3, 2, 0, started=STARTED, **more)


class World:
    """All that `Running` asks, noted in `calls`; a turn runs until `may_end`, then `followed_by` is next."""

    worker = "host:1"

    def __init__(self, claim: Claim | None = None) -> None:
        self.calls: list[Any] = []
        self.may_end = asyncio.Event()
        self.apart: dict[int, asyncio.Event] = {}  # of a run of this epoch
        self.followed_by = ""
        self.broken = False
        self.freed = ("NOTHING", "")
        self.lives: list[Live] = []
        self.claim = claim
        self.cut_off: list[str] = []
        self.tail = TailCache(REF, "log")
        self.turns = SimpleNamespace(claim=self._claim, free_session=self._free)
        self.leases = SimpleNamespace(
            own=self.note("own"), disown=self.note("disown"), schedule=self.note("schedule")
        )
        self.log = SimpleNamespace(names=lambda ref: ("turn", "log"), read_all=self._read_all)
        self.admission = Admission(10)
        self.background = Background()
        fakes: Any = {
            "runner": SimpleNamespace(run=self._run),
            "titles": SimpleNamespace(after=lambda live: self.calls.append("titled")),
            "tails": SimpleNamespace(local=lambda ref: self.tail, leave=self.note("left")),
            "budgets": SimpleNamespace(hold=self.note("held"), cancel=self.note("cancel")),
            "booking": None,
            "pictures": SimpleNamespace(sweep=self.note("sweep")),
        }
        self.running = Running(cast(Any, self), admission=self.admission, background=self.background, **fakes)

    def note(self, name: str) -> Any:
        async def noted(*args: Any) -> None:
            self.calls.append((name, *args))

        return noted

    async def _run(self, live: Live) -> str:
        self.lives.append(live)
        live.model = None
        await self.apart.get(live.turn.epoch, self.may_end).wait()
        if self.broken:
            raise StoreUnavailable
        return self.followed_by

    async def _claim(self, ref: TurnRef, owner: str) -> Claim:
        self.calls.append(("claim", ref.turn_id))
        return self.claim or Claim("GONE")

    async def _free(self, ref: TurnRef, key: str | None) -> tuple[str, str]:
        self.calls.append(("free", ref.turn_id))
        return self.freed

    async def _read_all(self, ref: TurnRef) -> list[Event]:
        return LOG

    async def ran(self, one: Turn) -> None:
        """The turn begins and ends here."""
        self.running.run(one)
        self.may_end.set()
        await eventually_async(lambda: self.running.idle)

    def named(self, name: str) -> list[Any]:
        return [call for call in self.calls if call == name or call[0] == name]


def gauge() -> float:
    return REGISTRY.get_sample_value("chat_turns_running") or 0


def takeovers() -> float:
    return REGISTRY.get_sample_value("chat_takeovers_total") or 0


@pytest.mark.parametrize(("promoted", "counted"), [(False, 1), (True, 0)])
async def test_a_takeover_is_counted_and_a_turn_whose_time_has_come_is_none(
    promoted: bool, counted: int
) -> None:
    world = World(Claim("CLAIMED", turn(epoch=2), promoted=promoted, previous_owner="host:2"))
    before = takeovers()
    await world.running.claim_due(REF)
    assert takeovers() == before + counted
    world.running.cancel()


async def test_a_turn_that_begins_here_is_read_from_its_first_event_and_one_of_another_worker_is_not() -> (
    None
):
    for epoch, seen in ((1, [STARTED]), (2, [])):
        world = World()
        world.running.run(turn(epoch=epoch))
        assert [event.payload for event in world.tail.events] == seen
        world.running.cancel()


async def test_a_turn_is_found_counted_and_in_its_place_while_it_runs_and_not_after_it() -> None:
    world, before = World(), gauge()
    running = world.running
    assert (running.idle, len(running)) == (True, 0)
    running.run(turn())
    await eventually_async(lambda: bool(world.lives))
    assert (running.idle, len(running), running.find(REF)) == (False, 1, world.lives[0])
    assert (world.admission._running, gauge()) == (1, before + 1)
    world.may_end.set()
    await eventually_async(lambda: running.idle)
    assert (len(running), running.find(REF), world.admission._running) == (0, None, 0)
    assert gauge() == before
    assert world.calls == ["titled", ("left", REF)]


async def test_a_turn_that_was_claimed_anew_stays_when_its_first_run_ends() -> None:
    world = World()
    world.apart[1] = asyncio.Event()
    for epoch in (1, 2):
        world.running.run(turn(epoch=epoch))
        await eventually_async(lambda: len(world.lives) == epoch)  # noqa: B023 - at once
    world.apart[1].set()
    await eventually_async(lambda: bool(world.named("left")))
    assert world.running.find(REF) is world.lives[1]
    world.may_end.set()
    await eventually_async(lambda: world.running.idle)
    assert world.running.find(REF) is None


@pytest.mark.parametrize(
    ("one", "text", "inherited"),
    [
        (turn(), [], False),
        (turn(epoch=2), [], True),
        (turn(epoch=2, shown=True, prompt_tokens=7, tokens=2), ["Blue"], True),
    ],
)
async def test_who_takes_a_turn_over_knows_what_was_said_and_used_before(
    one: Turn, text: list[str], inherited: bool
) -> None:
    world = World()
    await world.ran(one)
    (live,) = world.lives
    assert live.answer.text == text
    assert world.named("held") == ([("held", [one])] if inherited else [])
    assert (one.billed.get("prompt_tokens"), one.prompt_tokens) == ((7, 0) if text else (None, 0))


@pytest.mark.parametrize(("one", "swept"), [(turn(), 0), (turn(drops=True), 1), (turn(epoch=2), 1)])
async def test_images_are_looked_for_where_a_turn_may_have_cut_off_the_last_that_named_them(
    one: Turn, swept: int
) -> None:
    world = World()
    await world.ran(one)
    await eventually_async(lambda: len(world.named("sweep")) == swept)
    assert world.named("sweep") == [("sweep", "p", "s")] * swept


async def test_a_turn_that_the_store_does_not_let_end_is_left_and_its_place_given_back() -> None:
    world = World()
    world.broken, world.followed_by = True, "t_2"
    await world.ran(turn())
    assert (world.calls, world.admission._running) == ([("left", REF)], 0)


async def test_the_next_of_the_queue_runs_when_a_turn_has_ended() -> None:
    claim = Claim("CLAIMED", turn("t_2", epoch=2), promoted=True, previous_owner="host:1")
    world = World(claim)
    world.followed_by = "t_2"
    world.running.run(turn())
    await eventually_async(lambda: len(world.lives) == 1)
    world.may_end.set()
    await eventually_async(lambda: len(world.lives) > 1)
    assert world.lives[1].turn.ref.turn_id == "t_2"
    assert world.named("claim")[0] == ("claim", "t_2")
    assert world.named("own")[0] == ("own", TurnRef("p", "s", "t_2"))
    await world.background.close()


async def test_a_worker_that_leaves_gives_the_next_of_the_queue_to_others_at_once() -> None:
    world = World()
    world.running.closed = True
    await world.running.promote(REF, "t_2")
    await world.running.claim_due(REF)
    assert world.calls == [("schedule", [TurnRef("p", "s", "t_2")], 0)]


async def test_a_promotion_that_the_store_does_not_answer_is_left_to_the_sweep() -> None:
    world = World()

    async def away(ref: TurnRef, owner: str) -> Claim:
        raise StoreUnavailable

    world.turns.claim = away
    await world.running.promote(REF, "t_2")
    assert world.calls == []


@pytest.mark.parametrize(
    ("freed", "told", "claimed"),
    [
        (("NOTHING", ""), False, []),
        (("HELD", ""), False, []),
        (("FREED", ""), True, []),
        (("FREED", "t_2"), True, [("claim", "t_2")]),
        (("ABANDONED", ""), False, [("claim", "t_1")]),
    ],
)
async def test_what_is_freed_of_a_turn_that_is_gone_goes_on(
    freed: tuple[str, str], told: bool, claimed: list[Any]
) -> None:
    world = World(Claim("LEASED", milliseconds_left=1))
    world.freed = freed
    assert await world.running.free(REF) is told
    assert world.named("claim") == claimed


async def test_a_release_tells_each_turn_and_waits_for_them_for_so_long() -> None:
    world = World()
    world.running.run(turn())
    await eventually_async(lambda: bool(world.lives))
    await asyncio.wait_for(world.running.release(0.01), 10)
    assert [live.signal for live in world.lives] == ["drain"]
    assert not world.running.idle
    releasing = asyncio.create_task(world.running.release(60))
    await asyncio.sleep(0)
    assert not releasing.done()
    world.may_end.set()
    await asyncio.wait_for(releasing, 10)
    assert world.running.idle
