"""Who carries a stop out: the turn's owner while it lives and is quick, else whoever was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from service.config.settings import Settings
from service.engine import stopping
from service.engine.reader import Reconnect
from service.engine.stopping import Stops
from service.errors import StoreUnavailable
from service.store.turn_records import Claim, Sealed, Turn, TurnRef

REF = TurnRef("p", "s", "t_1")
TURN = Turn(REF, "running", 2, 1, "m", "m_1", 3, 4, 0)


class World:
    """The store, readers and a sealer that note what they are asked."""

    worker = "host:1"

    def __init__(self, noted: tuple[str, str, int] | None, *outcomes: str, previous: str = "host:2") -> None:
        self.settings = Settings(_env_file=None, max_queued_turns=4)
        self.calls: list[Any] = []
        self.noted, self.outcomes, self.previous = noted, list(outcomes), previous
        self.following = ""
        self.claimed = "CLAIMED"
        self.turn: Turn | None = TURN
        self.here: Any = None
        self.follow: Callable[[], Awaitable[None]] = self._never
        self.turns = SimpleNamespace(stop=self._stop, notify=self._notify, get=self._get, claim=self._claim)
        self.leases = SimpleNamespace(disown=self._disown)
        running = SimpleNamespace(find=lambda ref: self.here, free=self.note("free"), promote=self._promote)
        readers = SimpleNamespace(follow=self._follow)
        sealer = SimpleNamespace(stop_from_log=self._seal)
        parts: list[Any] = [self, readers, sealer, running]
        self.stops = Stops(*parts)

    def note(self, name: str) -> Any:
        async def noted(*args: Any) -> None:
            self.calls.append((name, *args))

        return noted

    async def _never(self) -> None:
        await asyncio.Event().wait()

    async def _stop(self, ref: TurnRef) -> tuple[str, str, int] | None:
        return self.noted

    async def _notify(self, worker: str, ref: TurnRef) -> None:
        self.calls.append(("notify", worker))

    async def _get(self, ref: TurnRef) -> Turn | None:
        return self.turn

    async def _follow(self, ref: TurnRef, after: int, on_batch: Any) -> None:
        self.calls.append(("follow", after))
        await self.follow()

    async def _claim(self, ref: TurnRef, owner: str, *, force: bool) -> Claim:
        assert force
        self.calls.append(("claim", owner))
        return Claim(self.claimed, TURN, previous_owner=self.previous)

    async def _disown(self, ref: TurnRef, worker: str) -> None:
        self.calls.append(("disown", worker))
        raise StoreUnavailable

    async def _seal(self, turn: Turn) -> Sealed:
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        self.calls.append(("seal", outcome))
        return Sealed(outcome, self.following)

    async def _promote(self, ref: TurnRef, turn_id: str) -> None:
        self.calls.append(("promote", turn_id))

    def named(self, name: str) -> list[Any]:
        return [call for call in self.calls if call[0] == name]


async def nothing() -> None:
    pass


async def leaving() -> None:
    raise Reconnect


FORCED = [("claim", "host:1"), ("seal", "SEALED"), ("disown", "host:2")]
ASKED = [("notify", "host:2"), ("follow", 4)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(stopping, "_PAUSE_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("noted", "follow", "calls"),
    [
        (("running", "host:2", 900), nothing, ASKED),
        (("running", "host:2", 900), None, [*ASKED, *FORCED]),  # it does not hear
        (("running", "host:2", 900), leaving, [*ASKED, *FORCED]),  # this worker goes away meanwhile
        (("running", "host:2", 0), nothing, FORCED),  # it is gone
        (("queued", "host:2", 900), nothing, FORCED),  # it has no owner yet
        (("completed", "host:2", 0), nothing, [("free", REF)]),
    ],
)
async def test_a_stop_waits_a_moment_for_a_living_owner_and_for_nobody_else(
    noted: tuple[str, str, int], follow: Any, calls: list[Any]
) -> None:
    world = World(noted, "SEALED")
    if follow is not None:
        world.follow = follow
    assert await asyncio.wait_for(world.stops.carry_out(REF), 10) is True
    assert world.calls == calls
    assert world.stops.most == 9


async def test_a_turn_that_is_gone_holds_its_session_no_longer() -> None:
    world = World(None)
    assert await world.stops.carry_out(REF) is False
    assert world.calls == [("free", REF)]


async def test_a_turn_of_this_worker_is_told_without_a_round_trip() -> None:
    world = World(("running", "host:1", 900), "SEALED")
    told: list[str] = []
    world.here, world.follow = SimpleNamespace(interrupt=told.append), nothing
    assert await world.stops.carry_out(REF)
    assert (told, world.named("notify"), world.named("claim")) == (["stop"], [], [])


async def test_a_turn_that_was_sealed_meanwhile_is_followed_by_nobody() -> None:
    world = World(("running", "host:2", 900), "SEALED")
    for ended in (None, Turn(REF, "stopped", 2, 1, "m", "m_1", 3, 4, 0)):
        world.turn = ended
        assert await world.stops.carry_out(REF)
    assert world.calls == [("notify", "host:2")] * 2


async def test_of_two_who_stop_by_force_the_one_who_was_fenced_tries_again() -> None:
    world = World(("queued", "", 0), "FENCED", "FENCED", "SEALED", previous="host:1")
    world.following = "t_2"
    assert await world.stops.carry_out(REF)
    assert world.named("seal") == [("seal", "FENCED")] * 2 + [("seal", "SEALED")]
    assert world.calls[-1] == ("promote", "t_2")
    assert world.named("disown") == []
    world = World(("queued", "", 0), "FENCED")
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(world.stops.carry_out(REF), 10)
    world = World(("queued", "", 0), "SEALED")
    world.claimed = "SEALED"  # by its owner after all
    assert await world.stops.carry_out(REF)
    assert world.named("seal") == []


async def test_all_who_stop_one_turn_here_wait_for_one_seal() -> None:
    world = World(("queued", "", 0), "SEALED")
    assert await asyncio.gather(*(world.stops.carry_out(REF) for _ in range(3))) == [True] * 3
    assert len(world.named("claim")) == 1
    assert await world.stops.carry_out(REF)
    assert len(world.named("claim")) == 2
