"""A turn's attempts, one after the other: which model, after which pause, how often, and how that ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from service import events
from service.config.settings import Settings
from service.engine import runner as module
from service.engine.live import Live
from service.engine.runner import Runner
from service.errors import ServiceError, UpstreamError
from service.store.turn_records import LIFE, Turn, TurnRef
from service.upstream.models import Model


def model(name: str, **more: Any) -> Model:
    plain = Model(name, 8192, 1024, 1024, frozenset(), (), (), (), "restart", "bench")
    return replace(plain, **more)


A, B, C = model("a"), model("b"), model("c")


def failure(kind: str, **more: Any) -> UpstreamError:
    return UpstreamError("upstream_unavailable", kind, kind=kind, **{"retryable": True, **more})


class World:
    """Attempts fail as `failures` say, the rest is well; what a runner asks for is noted."""

    def __init__(self, *failures: UpstreamError, others: bool = True, **settings: Any) -> None:
        self.failures = list(failures)
        self.asked: list[str] = []
        self.pauses: list[float] = []
        self.flushed = 0
        self.ended: list[str] = []
        self.moves_to: Model | None = None  # by the governor, within the attempt
        self.shows = False
        self.interrupts_at = 0
        self.live: Live
        sealer = SimpleNamespace(
            **{name: self._end(name) for name in ("stop", "release", "lose", "gone", "fail")}
        )
        flusher = SimpleNamespace(put=self._put)
        catalogue = SimpleNamespace(resolve=lambda name: A, chain=lambda one: [A, B, C])
        pictures = SimpleNamespace(chain=lambda one, params: [A, C] if params.get("images") else [A, B, C])
        governor = SimpleNamespace(others=lambda refused: others)
        self.settings = Settings(_env_file=None, **settings)
        nothing: Any = None
        parts: list[Any] = [catalogue, nothing, nothing, pictures, flusher, governor, sealer]
        self.runner = Runner(self.settings, *parts)
        self.runner._try = self._try  # type: ignore[method-assign]

    def _end(self, name: str) -> Any:
        async def end(live: Live, error: ServiceError | None = None, **more: Any) -> str:
            self.ended.append(f"{name}: {error.message}" if error is not None else name)
            return "next"

        return end

    def _put(self, live: Live, *, urgent: bool) -> None:
        assert urgent
        self.flushed += 1

    async def _try(self, live: Live, chain: list[Model], model: Model, since: float) -> UpstreamError | None:
        assert live.deadline == live.end
        live.model = self.moves_to or model
        live.turn.attempt += 1
        live.shown = live.shown or self.shows
        self.asked.append(model.id)
        if self.failures:
            return self.failures.pop(0)
        live.followed_by = "t_2"
        return None

    async def run(self, monkeypatch: pytest.MonkeyPatch, **more: Any) -> str:
        async def pause(live: Live, seconds: float) -> bool:
            self.pauses.append(seconds)
            return len(self.pauses) == self.interrupts_at

        monkeypatch.setattr(module, "_interrupted_within", pause)
        monkeypatch.setattr("service.engine.runner.random.uniform", lambda low, high: high)
        values: dict[str, Any] = {"attempt": 0, "params": {}, "last": 1, **more}
        attempt, last = values.pop("attempt"), values.pop("last")
        turn = Turn(TurnRef("p", "s", "t"), "running", 1, attempt, "a", "m", 3, last, 0, **values)
        self.live = Live(turn, ("turn", "log"), None)
        return await self.runner.run(self.live)


OVER = failure("server_error")


@pytest.mark.parametrize(
    ("failures", "asked", "pauses"),
    [
        ([], "a", []),
        ([OVER, OVER], "aab", [0.25]),  # another one is asked at once
        ([failure("server_error", retry_after=2.0)], "aa", [2.0]),
        ([failure("connect")] * 3, "aaaa", [0.05 * 1.5, 0.4 * 1.5, 0.4 * 1.5]),
        ([failure("empty")] * 4, "aabcc", [0.25, 0.5]),
        ([failure("limit_tpm", window="tpm", retry_after=9.0)], "aa", []),  # the governor waits
        ([failure("auth", circuit="auth")], "aa", []),
        ([failure("capacity", fail_over=True, retry_after=3.0)] * 2, "abc", []),
    ],
)
async def test_each_attempt_follows_from_the_one_before(
    monkeypatch: pytest.MonkeyPatch, failures: list[UpstreamError], asked: str, pauses: list[float]
) -> None:
    world = World(*failures, max_attempts=9)
    assert await world.run(monkeypatch) == "t_2"
    assert "".join(world.asked) == asked
    assert world.pauses == pytest.approx(pauses)
    assert (world.flushed, world.ended) == (len(failures), [])


async def test_a_turn_has_so_many_attempts_whoever_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(*[OVER] * 9, max_attempts=3)
    assert await world.run(monkeypatch) == "next"
    assert (world.asked, world.ended) == (["a", "a", "b"], ["fail: server_error"])
    world = World(*[OVER] * 9, max_attempts=3)
    await world.run(monkeypatch, attempt=2)
    assert (world.asked, len(world.ended)) == (["a"], 1)
    world = World(*[OVER] * 9, max_attempts=3)
    await world.run(monkeypatch, attempt=3)
    assert (world.asked, len(world.ended)) == ([], 1)


async def test_what_was_shown_is_not_begun_anew_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(OVER)
    world.shows = True
    await world.run(monkeypatch)
    assert (world.asked, world.ended) == (["a"], ["fail: server_error"])


async def test_a_pause_beyond_the_retry_budget_ends_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    for wait, asked in ((5.0, "aa"), (5_000.0, "a")):
        world = World(failure("server_error", retry_after=wait), retry_budget_seconds=600)
        await world.run(monkeypatch)
        assert "".join(world.asked) == asked


async def test_a_turn_that_is_stopped_in_a_pause_is_stopped_there(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(OVER, OVER)
    world.interrupts_at = 1
    await world.run(monkeypatch)
    assert (world.asked, world.ended) == (["a"], ["stop"])


async def test_the_model_that_was_asked_in_the_end_is_the_one_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The governor may have moved on to it."""
    world = World(failure("capacity", fail_over=True))
    world.moves_to = B
    await world.run(monkeypatch)
    assert world.asked == ["a", "c"]


@pytest.mark.parametrize(("others", "asked"), [(True, "aa"), (False, "a")])
async def test_without_another_key_a_refused_one_ends_the_turn(
    monkeypatch: pytest.MonkeyPatch, others: bool, asked: str
) -> None:
    world = World(failure("auth", circuit="auth"), others=others)
    await world.run(monkeypatch)
    assert "".join(world.asked) == asked


async def test_a_turn_with_images_is_asked_of_models_that_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(failure("capacity", fail_over=True))
    await world.run(monkeypatch, params={"images": True})
    assert world.asked == ["a", "c"]


async def test_a_turn_that_was_to_stop_is_asked_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await world.run(monkeypatch, stop=True)
    assert (world.asked, world.ended) == ([], ["stop"])


@pytest.mark.parametrize(
    ("more", "restarts"),
    [({}, 0), ({"shown": True, "attempt": 1}, 1), ({"kept": 3, "last": LIFE - 1}, 1), ({"kept": 3}, 0)],
)
async def test_who_goes_on_with_a_turn_says_so_where_something_may_have_been_shown(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], restarts: int
) -> None:
    world = World()
    await world.run(monkeypatch, **more)
    _, payloads, _ = world.live.take()
    assert [events.Event(1, one).name for one in payloads] == [events.RESTARTED] * restarts


async def test_a_turn_has_an_end_from_its_begin_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(turn_timeout_seconds=50)
    before = asyncio.get_running_loop().time()
    await world.run(monkeypatch)
    end, signal = world.live.end
    assert before + 50 <= end <= asyncio.get_running_loop().time() + 50
    assert signal == "turn_timeout"


@pytest.mark.parametrize(
    ("signal", "ended", "following"),
    [
        ("stop", "stop", "next"),
        ("orphan", "stop", "next"),
        ("drain", "release", ""),
        ("lost", "lose", "next"),
        ("gone", "gone", "next"),
        ("store", "fail: The store does not answer.", "next"),
        ("turn_timeout", "fail: The answer took too long.", "next"),
        ("fenced", "", ""),
    ],
)
async def test_each_reason_to_end_a_turn_has_its_own_end(
    monkeypatch: pytest.MonkeyPatch, signal: str, ended: str, following: str
) -> None:
    world = World()
    await world.run(monkeypatch)
    world.live.signal = signal
    assert await world.runner._interrupted(world.live) == following
    assert [one.partition(":")[0] for one in world.ended] == ([ended.partition(":")[0]] if ended else [])
    if signal == "turn_timeout":
        assert world.ended == [ended]
