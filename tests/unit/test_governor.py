"""Whom the governor lets call: fallbacks, models that are refused to us, a key that is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.engine.background import Background
from service.engine.pacing.governor import Governor, Permit
from service.engine.pacing.provider_keys import ProviderKeys
from service.errors import StoreUnavailable, UpstreamError
from service.store.pacing import Bucket, Circuit, Pace
from service.upstream.base import Limits
from service.upstream.models import Model

ONE, TWO = (
    Model(name, 8_000, 1_000, 500, frozenset(), (), (), (), "restart", "t") for name in ("one", "two")
)


class Shared:
    """In the store's place: models without room, and what was noted of the key. Not what is tested."""

    def __init__(self) -> None:
        self.full: set[str] = set()
        self.noted: list[tuple[str, float]] = []
        self.opened: list[str] = []
        self.closed = 0
        self.verdict = Circuit()
        self.away = False

    async def pace(self, model: str, report: Any, asks: Any) -> Pace:
        if model in self.full:
            bucket = {"rpm": Bucket(60, 0, 60.0)}
            return Pace(1, True, [], 7.0, 7.0, 0.0, False, bucket)
        return Pace(1, True, [(-1.0, 0.0)] * len(asks), 0.0, 0.0, 0.0, True, {})

    async def refused(self, model: str, seconds: float) -> dict[str, float]:
        self.noted.append((model, seconds))
        return {name: left for name, left in dict(self.noted).items() if left}

    async def open_circuit(self, reason: str) -> Circuit:
        self.opened.append(reason)
        self.verdict = Circuit(reason, 5.0, len(self.opened) >= 3)
        return self.verdict

    async def may_probe(self) -> Circuit:
        if self.away:
            raise StoreUnavailable
        return self.verdict

    async def close_circuit(self) -> None:
        self.closed += 1


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    found = Background()
    yield found
    await found.close()


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def governor(shared: Shared, background: Background) -> Governor:
    return Governor(shared, background)  # type: ignore[arg-type]  # Shared is all that it calls


async def admit(governor: Governor, completion: int = 400, left: float = 0.0) -> Permit:
    keys = object.__new__(ProviderKeys)  # of one key, without settings that name it
    keys._governors, keys._weights = {governor.key: governor}, {}
    return await keys.admit("p", [ONE, TWO], 10, completion, left)


def refusal(kind: str, **more: Any) -> UpstreamError:
    return UpstreamError("upstream_unavailable", "No.", kind=kind, **more)


async def told(governor: Governor, error: UpstreamError | None = None) -> None:
    """A call that ends so, and what becomes known of it."""
    with contextlib.suppress(UpstreamError), await admit(governor):
        if error is not None:
            raise error
    for _ in range(5):
        await asyncio.sleep(0)


async def test_where_the_first_model_has_no_room_the_next_one_is_asked(
    governor: Governor, shared: Shared
) -> None:
    assert (await admit(governor)).model is ONE
    shared.full = {"one"}
    fresh = Governor(shared, governor._background)  # type: ignore[arg-type]  # as above
    assert (await admit(fresh)).model is TWO
    shared.full = {"one", "two"}
    with pytest.raises(UpstreamError) as refused:
        await admit(Governor(shared, governor._background))  # type: ignore[arg-type]  # as above
    found = refused.value
    assert (found.kind, found.code, found.retry_after) == ("held", "upstream_rate_limited", 7)
    assert found.retryable


async def test_no_more_is_asked_of_a_model_than_it_can_say(governor: Governor) -> None:
    assert (await admit(governor, 400)).completion == 400
    assert (await admit(governor, 99_999)).completion == 1_000


async def test_a_model_that_has_gone_is_left_out_until_it_answers(governor: Governor, shared: Shared) -> None:
    await told(governor, refusal("model_gone"))
    assert shared.noted == [("one", 60.0)]
    assert not governor.offers(ONE)
    permit = await admit(governor)
    assert permit.model is TWO
    with permit:
        pass
    governor.answered(ONE)
    await asyncio.sleep(0)
    assert shared.noted[-1] == ("one", 0.0)
    assert governor.offers(ONE)
    assert (await admit(governor)).model is ONE


async def test_where_all_models_have_gone_the_first_is_asked(governor: Governor) -> None:
    await told(governor, refusal("model_gone"))
    await told(governor, refusal("model_gone"))
    assert not governor.offers(TWO)
    assert (await admit(governor)).model is ONE


async def test_a_403_is_the_model_s_unless_another_meets_one_too(governor: Governor, shared: Shared) -> None:
    await told(governor, refusal("forbidden"))
    assert shared.noted == [("one", 5.0)]
    await told(governor)  # two answers
    await told(governor, refusal("forbidden"))  # and is refused later
    assert shared.opened == []
    governor._unavailable.clear()
    await told(governor, refusal("forbidden"))  # one again, with no answer since
    assert shared.opened == ["auth"]


async def test_a_refused_key_opens_a_circuit_that_the_next_success_closes(
    governor: Governor, shared: Shared
) -> None:
    for _ in range(2):
        await told(governor, refusal("auth", circuit="auth"))
    assert governor.circuit() == "auth"
    await admit(governor)  # shown, and not in the way yet
    await told(governor, refusal("auth", circuit="auth"))
    with pytest.raises(UpstreamError) as refused:
        await admit(governor)
    assert (refused.value.kind, refused.value.circuit, refused.value.retry_after) == ("circuit", "auth", 5)
    governor._circuit_at -= 6
    shared.verdict = Circuit("auth", 0.0, False)
    await told(governor)  # the one that may try
    assert shared.closed == 1
    assert governor.circuit() is None
    assert governor.reason == ""


async def test_half_open_only_one_tries_and_without_redis_everybody(
    governor: Governor, shared: Shared
) -> None:
    for _ in range(3):
        await told(governor, refusal("auth", circuit="auth"))
    governor._circuit_at -= 6
    with pytest.raises(UpstreamError) as refused:
        await admit(governor)
    assert refused.value.kind == "circuit"
    governor._circuit_at -= 6
    shared.away = True
    await admit(governor)


async def test_a_refusal_by_a_limit_proves_the_key_and_an_error_does_not(
    governor: Governor, shared: Shared
) -> None:
    await told(governor, refusal("auth", circuit="auth"))
    await told(governor, refusal("server_error"))
    assert shared.closed == 0
    await told(governor, refusal("limit_tpm", window="tpm", limit=100, requested=10, retry_after=0.1))
    assert shared.closed == 1


@pytest.mark.parametrize(
    "kind", ["rejected", "too_large", "too_long", "bad_output", "streaming", "model_gone", "empty", "cut"]
)
async def test_a_probe_that_the_provider_answers_closes_the_circuit_whatever_it_says_of_the_call(
    governor: Governor, shared: Shared, kind: str
) -> None:
    for _ in range(3):
        await told(governor, refusal("auth", circuit="auth"))
    governor._circuit_at -= 6
    shared.verdict = Circuit("auth", 0.0, False)
    with contextlib.suppress(UpstreamError), await admit(governor) as probe:
        if kind in ("empty", "cut"):  # behind the head of an answer
            probe.learned(Limits())
        raise refusal(kind)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (shared.closed, governor.circuit(), governor.reason) == (1, None, "")


@pytest.mark.parametrize("kind", ["server_error", "connect", "cut", "capacity", "timeout", "forbidden"])
async def test_a_probe_that_shows_nothing_of_the_key_leaves_the_circuit(
    governor: Governor, shared: Shared, kind: str
) -> None:
    await told(governor, refusal("auth", circuit="auth"))
    await told(governor, refusal(kind))
    assert (shared.closed, governor.reason) == (0, "auth")


async def test_a_probe_that_is_stopped_behind_the_head_of_its_answer_closes_the_circuit(
    governor: Governor, shared: Shared
) -> None:
    await told(governor, refusal("auth", circuit="auth"))
    for answered in (False, True):
        with contextlib.suppress(asyncio.CancelledError), await admit(governor) as probe:
            if answered:
                probe.learned(Limits())
            raise asyncio.CancelledError
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert shared.closed == int(answered)


@pytest.mark.parametrize(
    ("error", "used", "made"),
    [(None, (10, 7), True), ("cut", (10, 7), True), ("server_error", (0, 0), False)],
)
async def test_what_a_call_did_not_use_is_given_back(
    governor: Governor, monkeypatch: pytest.MonkeyPatch, error: str | None, used: tuple[int, int], made: bool
) -> None:
    ended: list[Any] = []

    def note(grant: object, prompt: int, completion: int, *, made: bool, head: object) -> None:
        ended.append(((prompt, completion), made))

    monkeypatch.setattr(governor._pacer(ONE), "ended", note)
    with contextlib.suppress(UpstreamError), await admit(governor) as permit:
        if used[1]:
            permit.learned(Limits())
            permit.spent(*used)
        if error is not None:
            raise refusal(error)
    assert ended == [(used, made)]


@pytest.mark.parametrize(
    ("limit", "requested", "again"),
    [(10_000, 410, True), (15, 410, False), (10_000, 9_000, False), (None, 410, False)],
)
async def test_a_call_that_was_too_large_is_made_again_where_less_can_help(
    governor: Governor, limit: int | None, requested: int, again: bool
) -> None:
    error = refusal("too_large", window="tpm", limit=limit, requested=requested, retryable=False)
    await told(governor, error)
    assert error.retryable is again
