"""What a sealer does where the store does not say SEALED, and what a failed answer leaves its key."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from service.config.settings import Settings
from service.engine import sealing
from service.engine.live import Live
from service.engine.sealing import Sealer, _shown
from service.errors import ServiceError, StoreUnavailable
from service.store.turn_records import Seal, Sealed, Shows, Turn, TurnRef

REF = TurnRef("p", "s", "t_1")


def turn(state: str = "running", shows: Shows = "all") -> Turn:
    return Turn(REF, state, 1, 1, "m", "m_1", 2, 4, 0, started=b"started", shows=shows)


class Tail:
    def __init__(self) -> None:
        self.errors: list[ServiceError] = []

    def fail(self, error: ServiceError) -> None:
        self.errors.append(error)


class Store:
    """Answers a seal as it is told to."""

    def __init__(self, *answers: Sealed | Exception) -> None:
        self.answers = list(answers)
        self.seals: list[Seal] = []
        self.freed: list[TurnRef] = []
        self.turns = SimpleNamespace(seal=self._seal, free_session=self._free)
        self.log = SimpleNamespace(read_all=self._nothing)
        self.sessions = None

    async def _seal(self, turn: Turn, seal: Seal) -> Sealed:
        self.seals.append(seal)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _free(self, ref: TurnRef) -> tuple[str, str]:
        self.freed.append(ref)
        return "FREED", "t_2"

    async def _nothing(self, ref: TurnRef) -> list[Any]:
        return []


def sealer(store: Store) -> Sealer:
    async def done(*args: Any) -> None:
        pass

    nothing: Any = SimpleNamespace(ended=done, settle=done)
    return Sealer(Settings(_env_file=None), store, nothing, nothing, nothing)  # type: ignore[arg-type]


async def test_who_reads_a_turn_that_is_gone_is_told_so_and_its_session_goes_on() -> None:
    store, tail = Store(), Tail()
    live = Live(turn(), ("turn", "log"), tail)  # type: ignore[arg-type]
    assert await sealer(store).gone(live) == "t_2"
    assert [error.code for error in tail.errors] == ["turn_not_found"]
    assert store.freed == [REF]


@pytest.mark.parametrize("state", ["running", "queued"])
async def test_a_turn_that_is_stopped_though_its_log_is_lost_ends_in_a_new_life_of_it(state: str) -> None:
    store = Store(Sealed("LOST"), Sealed("SEALED", "", 1_000_000))
    sealed = await sealer(store).stop_from_log(turn(state))
    assert sealed.outcome == "SEALED"
    assert [seal.first_id for seal in store.seals] == [5, 0]
    assert store.seals[0].payloads == store.seals[1].payloads
    assert (store.seals[0].payloads[0] == b"started") is (state == "queued")


async def test_a_seal_waits_for_the_store_as_long_as_its_deltas_have_not_waited_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealing, "_RETRY_SECONDS", 0.0)
    seal = Seal("completed", 2, [b"{}"], {}, "a", b"")
    hold = Settings(_env_file=None).store_hold_seconds
    for waited, outcome in ((0.0, "SEALED"), (hold + 1.0, "UNKNOWN")):
        store, tail = Store(StoreUnavailable(), StoreUnavailable(), Sealed("SEALED")), Tail()
        live = Live(turn(), ("turn", "log"), tail)  # type: ignore[arg-type]
        live.failing_since = asyncio.get_running_loop().time() - waited
        assert (await sealer(store)._write(live, seal, None)).outcome == outcome
        assert [error.code for error in tail.errors] == ["store_unavailable"] * (outcome == "UNKNOWN")


@pytest.mark.parametrize(
    ("shows", "thoughts", "text", "shown"),
    [
        ("all", False, False, False),
        ("all", True, False, True),
        ("all", False, True, True),
        ("text", True, False, False),
        ("text", True, True, True),
        ("end", True, True, False),
    ],
)
async def test_a_key_is_free_after_a_failure_where_its_sender_was_shown_nothing(
    shows: Shows, thoughts: bool, text: bool, shown: bool
) -> None:
    live = Live(turn(shows=shows), ("turn", "log"), None)
    if thoughts:
        live.add_reasoning("hm")
    if text:
        live.add_text("words")
    assert _shown(live) is shown
