"""What a worker does with a turn whose deadline has passed, by what the claim of it comes to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from service.engine.background import Background
from service.engine.live import Live
from service.engine.running import Running
from service.events import Event, delta
from service.store.turn_records import Claim, Turn, TurnRef

REF = TurnRef("p", "s", "t_1")


def turn(state: str) -> Turn:
    return Turn(REF, state, 2, 1, "m", "m_1", 2, 4, 0)


class Noted:
    """A store, and what else a claim concerns, that note what they are asked."""

    def __init__(self, claim: Claim) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.worker = "host:1"
        self._claim = claim
        self.turns = SimpleNamespace(claim=self._claimed, free_session=self._freed)
        self.leases = SimpleNamespace(
            own=self.note("own"), disown=self.note("disown"), schedule=self.note("schedule")
        )
        self.sessions = SimpleNamespace(get=self._session)
        self.log: Any = None

    def note(self, name: str) -> Any:
        async def noted(*args: Any) -> None:
            self.calls.append((name, *(str(one) if isinstance(one, TurnRef) else one for one in args)))

        return noted

    async def _claimed(self, ref: TurnRef, owner: str) -> Claim:
        return self._claim

    async def _freed(self, ref: TurnRef, key: str | None) -> tuple[str, str]:
        self.calls.append(("free", ref.turn_id, key))
        return "NOTHING", ""

    async def _session(self, principal: str, session_id: str) -> Any:
        return SimpleNamespace(active_turn="t_0")


def running(noted: Noted) -> Running:
    nothing: Any = None
    budgets: Any = SimpleNamespace(hold_queued=noted.note("hold_queued"), cancel=noted.note("cancel"))
    booking: Any = SimpleNamespace(book=noted.note("book"))
    pictures: Any = SimpleNamespace(sweep=noted.note("sweep"))
    store: Any = noted
    found = Running(store, nothing, nothing, nothing, budgets, booking, nothing, pictures, Background())
    found.run = lambda turn: noted.calls.append(("run", turn.ref.turn_id))  # type: ignore[method-assign]
    return found


SEALED, RUNNING = turn("completed"), turn("running")
CASES: dict[str, tuple[Claim, list[tuple[Any, ...]]]] = {
    "of a worker that is gone": (
        Claim("CLAIMED", RUNNING, previous_owner="host:2"),
        [("run", "t_1"), ("own", "p/s/t_1"), ("disown", "p/s/t_1", "host:2")],
    ),
    "of our own": (
        Claim("CLAIMED", RUNNING, previous_owner="host:1"),
        [("run", "t_1"), ("own", "p/s/t_1")],
    ),
    "of one that lives": (Claim("LEASED", milliseconds_left=500), [("schedule", [REF], 550)]),
    "that waits": (
        Claim("WAITING"),
        [("hold_queued", "p/s/t_1"), ("schedule", [REF]), ("free", "t_0", None)],
    ),
    "that has ended": (Claim("SEALED", SEALED), [("book", SEALED, "sweep"), ("sweep", "p", "s")]),
    "that is gone": (Claim("GONE"), [("free", "t_1", None), ("cancel", "p/s/t_1")]),
}


@pytest.mark.parametrize("case", CASES)
async def test_whatever_a_passed_deadline_turns_out_to_mean_is_done_in_order(case: str) -> None:
    claim, wanted = CASES[case]
    noted = Noted(claim)
    work = running(noted)
    await work.claim_due(REF)
    for task in list(work._background._tasks):
        await task
    assert noted.calls == wanted


async def test_a_worker_that_leaves_claims_nothing_and_hands_on_what_it_promotes() -> None:
    noted = Noted(CASES["that is gone"][0])
    work = running(noted)
    work.closed = True
    await work.claim_due(REF)
    assert noted.calls == []
    await work.promote(TurnRef("p", "s", "t_0"), "t_1")
    assert noted.calls == [("schedule", [REF], 0)]


async def test_what_is_taken_over_keeps_its_place_and_what_it_has_said() -> None:
    noted = Noted(CASES["of our own"][0])
    noted.log = SimpleNamespace(read_all=said)
    work = running(noted)
    work._budgets.hold = noted.note("hold")  # type: ignore[method-assign]
    live = Live(turn("running"), ("turn", "log"), None)
    live.turn.shown = True
    await work._inherit(live)
    assert noted.calls == [("hold", [live.turn])]
    assert live.answer.text == ["Hel", "lo"]


async def said(ref: TurnRef) -> list[Event]:
    return [Event(number, delta(text)) for number, text in ((2, "Hel"), (3, "lo"))]
