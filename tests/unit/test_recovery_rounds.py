"""What a worker does in each round: whose leases it renews, what it hears of them, what it takes up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.config.settings import Settings
from service.engine import recovery
from service.engine.background import Apart, Background
from service.engine.recovery import Recovery
from service.errors import StoreUnavailable
from service.store import log as codes
from service.store.turn_records import TurnRef

REF = TurnRef("p", "s", "t_1")


class Live:
    def __init__(self, turn_id: str = "t_1", *, ending: bool = False) -> None:
        self.turn = SimpleNamespace(ref=TurnRef("p", "s", turn_id))
        self.names = ("turn", f"log:{turn_id}")
        self.ending = ending
        self.signal: str | None = None
        self.deadline = self.failing_since = None

    def interrupt(self, signal: str) -> None:
        self.signal = signal


def tail(turn_id: str, readers: int) -> SimpleNamespace:
    return SimpleNamespace(ref=TurnRef("p", "s", turn_id), channel=f"log:{turn_id}", readers=readers)


class World:
    """All that a round asks, noted in `calls`; two servers hold what it asks of."""

    def __init__(self, *lives: Live, code: Any = codes.OK, **settings: Any) -> None:
        self.lives_here = list(lives)
        self.calls: list[tuple[Any, ...]] = []
        self.pauses: list[float] = []
        self.code = code
        self.lapsed: list[TurnRef] = []
        self.was_attended = False
        self.attended_to: set[str] = set()
        self.closed = False
        self.log = SimpleNamespace(by_server=self._by_server)
        self.leases = SimpleNamespace(
            renew=self._renew,
            schedule=self.note("schedule"),
            attend=self._attend,
            attended=self._attended,
            due=self._due,
            indexes=("i1", "i2"),
        )
        self.tails: list[SimpleNamespace] = []
        parts: list[Any] = [
            Settings(_env_file=None, **settings),
            self,
            self,
            SimpleNamespace(all=lambda: self.tails, has_readers=lambda ref: ref.turn_id in self.attended_to),
            SimpleNamespace(hold=self.note("hold")),
            SimpleNamespace(note_lag=lambda late: self.calls.append(("late", late))),
        ]
        self.recovery = Recovery(*parts)
        self.background = Background()

    # In the place of `Running`

    def lives(self) -> list[Live]:
        return self.lives_here

    def find(self, ref: TurnRef) -> Live | None:
        return next((live for live in self.lives_here if live.turn.ref == ref), None)

    async def claim_due(self, ref: TurnRef) -> None:
        self.calls.append(("claim", ref.turn_id))

    # In the place of the store

    def _by_server(self, items: Sequence[Any], name: Callable[[Any], str]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for item in items:
            found.setdefault(name(item)[-1], []).append(item)
        return found

    def note(self, name: str) -> Any:
        async def noted(items: Sequence[Any]) -> None:
            self.calls.append((name, [getattr(one, "ref", one).turn_id for one in items]))

        return noted

    async def _renew(self, turns: Sequence[tuple[Any, bool]], orphan: float | None) -> list[Any]:
        self.calls.append(("renew", [(turn.ref.turn_id, has) for turn, has in turns], orphan))
        return [self.code] * len(turns)

    async def _attend(self, refs: Sequence[TurnRef]) -> list[TurnRef]:
        self.calls.append(("attend", [ref.turn_id for ref in refs]))
        return self.lapsed

    async def _attended(self, ref: TurnRef) -> bool:
        return self.was_attended

    async def _due(self, index: str) -> list[TurnRef]:
        self.calls.append(("due", index))
        return self.lapsed if index == "i1" else []

    async def round(self, loop: Callable[[Apart], Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """One round of a loop, and all that it has begun."""

        async def sleep(seconds: float) -> float:
            self.pauses.append(seconds)
            if len(self.pauses) > 1:
                raise asyncio.CancelledError
            return 0.0

        monkeypatch.setattr(recovery, "aligned_sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await loop(Apart(self.background, "test"))
        await asyncio.gather(*self.background._tasks)
        await asyncio.gather(*self.background._tasks)  # what those have begun


async def test_each_server_s_turns_are_renewed_held_and_put_on_the_index_and_others_are_attended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(Live("t_1"), Live("t_2"), Live("t_3", ending=True))
    world.attended_to = {"t_2"}
    world.tails = [tail("t_1", 1), tail("t_8", 2), tail("t_9", 0)]
    world.lapsed = [TurnRef("p", "s", "t_8")]
    await world.round(world.recovery._renew, monkeypatch)
    assert sorted(world.calls, key=str) == sorted(
        [
            ("renew", [("t_1", False)], None),
            ("renew", [("t_2", True)], None),
            ("renew", [("t_3", False)], None),
            *(("hold", [name]) for name in ("t_1", "t_2", "t_3")),
            ("schedule", ["t_1"]),
            ("schedule", ["t_2"]),
            ("schedule", []),  # t_3 is about to leave the index
            ("attend", ["t_8"]),
            ("claim", "t_8"),
        ],
        key=str,
    )


@pytest.mark.parametrize(("lease", "orphan", "pause"), [(6, 10, 2.0), (6, 4, 1.0)])
async def test_a_lease_is_renewed_twice_before_it_lapses_and_an_orphan_found_in_its_time(
    monkeypatch: pytest.MonkeyPatch, lease: float, orphan: float, pause: float
) -> None:
    world = World(lease_seconds=lease, orphan_seconds=orphan)
    await world.round(world.recovery._renew, monkeypatch)
    assert world.pauses[0] == pause


@pytest.mark.parametrize(
    ("code", "signal"),
    [
        (codes.OK, None),
        (codes.STOP, "stop"),
        (codes.FENCED, "fenced"),
        (codes.GONE, "gone"),
        (codes.ORPHAN, "orphan"),
        (StoreUnavailable(), None),
    ],
)
async def test_what_a_renewal_says_is_told_to_the_turn(code: Any, signal: str | None) -> None:
    live = Live()
    world = World(live, code=code)
    await world.recovery._renew_leases([cast(Any, live)])
    assert live.signal == signal
    left = Live()  # it has ended here meanwhile, and runs anew
    await world.recovery._renew_leases([cast(Any, left)])
    assert left.signal is None


async def test_many_leases_are_renewed_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_RENEWED_TOGETHER", 2)
    world = World(*(Live(f"{number}_t") for number in range(5)))  # of one server
    await world.round(world.recovery._renew, monkeypatch)
    assert [len(call[1]) for call in world.calls if call[0] == "renew"] == [2, 2, 1]
    assert [len(call[1]) for call in world.calls if call[0] == "hold"] == [2, 2, 1]


@pytest.mark.parametrize(("orphan", "grace"), [(10.0, 1.0), (0.5, 0.5)])
@pytest.mark.parametrize(
    ("here", "attended", "asked"), [(True, False, 1), (True, True, 0), (False, False, 0)]
)
async def test_a_turn_whose_only_reader_has_left_is_asked_for_soon_unless_somebody_came(
    monkeypatch: pytest.MonkeyPatch, orphan: float, grace: float, here: bool, attended: bool, asked: int
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(recovery, "asyncio", SimpleNamespace(sleep=sleep))
    world = World(*([Live()] if here else []), code=codes.ORPHAN, orphan_seconds=orphan)
    world.was_attended = attended
    await world.recovery.end_unread(REF)
    assert pauses == [pytest.approx(grace + 0.01)]
    assert world.calls == [("renew", [("t_1", False)], grace)] * asked
    if here:
        assert world.lives_here[0].signal == ("orphan" if asked else None)


async def test_each_index_is_looked_through_and_what_runs_here_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(Live("t_1"))
    world.lapsed = [TurnRef("p", "s", "t_1"), TurnRef("p", "s", "t_2")]
    await world.round(world.recovery._sweep, monkeypatch)
    assert sorted(world.calls) == [("claim", "t_2"), ("due", "i1"), ("due", "i2")]


async def test_a_worker_that_leaves_asks_for_nothing_that_others_could_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.closed = True
    await world.round(world.recovery._sweep, monkeypatch)
    assert world.calls == []


async def test_how_late_the_event_loop_is_is_told_at_each_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await world.round(lambda apart: world.recovery._tick(), monkeypatch)
    assert world.calls == [("late", 0.0)]
