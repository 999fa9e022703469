"""The shared state of the provider's limits, on a real Redis: what two workers are let to do together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from service.config.settings import Settings
from service.store.pacing import Pacing, Report
from service.store.store import Store
from tests.support.redis import RedisServer
from tests.support.waiting import eventually_async

MODEL = "m"


@pytest.fixture
async def workers(redis_server: RedisServer, store: redis.Redis) -> AsyncIterator[tuple[Pacing, Pacing]]:
    settings = Settings(_env_file=None, redis_url=redis_server.url)
    stores = [Store(settings, name) for name in ("a:1", "b:2")]
    yield stores[0].pacing, stores[1].pacing
    for one in stores:
        await one.close()


def head(left: int, limit: int = 10_000, **fields: float) -> Report:
    values = {"at": 0, "level": -1, "out": 0, "cost": 0, "limit": limit, "left": left}
    return Report(heads=[{**values, **fields}])


def refusal(kind: str, limit: int, wait: float, **fields: Any) -> Report:
    given = {"kind": kind, "limit": limit, "wait": wait * 1000, "prompt": 100, "completion": 900}
    return Report(refusals=[{**given, **fields}])


async def known(pacing: Pacing, left: int = 10_000) -> None:
    """The limit of 10,000 tokens a minute, with so many left."""
    await pacing.pace(MODEL, head(left - 1), [])


ASK = (100, 900, 0.0)


async def test_while_nothing_is_known_a_few_go_ahead_and_the_others_wait_for_what_they_learn(
    workers: tuple[Pacing, Pacing],
) -> None:
    a, b = workers
    assert len((await a.pace(MODEL, Report(), [ASK] * 10)).granted) == 4
    second = await b.pace(MODEL, Report(), [ASK] * 10)
    assert (len(second.granted), second.known) == (0, False)
    assert 0 < second.wait < 0.1
    # The head of the first answer: three of the four are still on their way.
    learned = await a.pace(MODEL, head(9_000, cost=1000), [])
    assert learned.known
    assert learned.buckets["tpm"].level == pytest.approx(6_000, abs=50)
    assert len((await b.pace(MODEL, Report(), [ASK] * 10)).granted) == 6


async def test_without_a_head_within_a_second_nobody_waits_any_longer(workers: tuple[Pacing, Pacing]) -> None:
    await workers[0].pace(MODEL, Report(), [ASK] * 4)

    async def goes() -> bool:
        return len((await workers[1].pace(MODEL, Report(), [ASK] * 20)).granted) == 20

    await eventually_async(goes)


async def test_two_workers_together_are_let_to_call_no_more_than_the_limit(
    workers: tuple[Pacing, Pacing],
) -> None:
    a, b = workers
    await known(a, left=9_500)
    granted = 0
    for pacing in (a, b, a, b):
        granted += len((await pacing.pace(MODEL, Report(), [ASK] * 4)).granted)
    assert granted == 9
    refused = await b.pace(MODEL, Report(), [ASK])
    assert refused.granted == []
    assert 3 < refused.wait <= 12  # 1000 tokens come back in 6 s, and the other worker is first


async def test_what_calls_did_not_use_comes_back(workers: tuple[Pacing, Pacing]) -> None:
    a, b = workers
    await known(a)
    await a.pace(MODEL, Report(), [ASK] * 9)
    await a.pace(MODEL, Report(completion=1_800, ended=2_000), [])
    assert len((await b.pace(MODEL, Report(), [ASK] * 9)).granted) == 2


async def test_others_who_use_the_account_are_noticed_at_once(workers: tuple[Pacing, Pacing]) -> None:
    a, b = workers
    await known(a)
    first = await a.pace(MODEL, Report(), [ASK])
    (level, out) = first.granted[0]
    later = head(3_000, at=first.now + 1, level=level, out=out, cost=1000)
    assert (await b.pace(MODEL, later, [])).buckets["tpm"].level == pytest.approx(3_000, abs=50)


async def test_a_refund_that_the_provider_has_made_and_nobody_has_reported_is_not_made_twice(
    workers: tuple[Pacing, Pacing],
) -> None:
    a, _ = workers
    await known(a)
    granted = await a.pace(MODEL, Report(), [ASK] * 9)
    level, out = granted.granted[-1]
    # Groq has got 800 back already; our report of them comes with the head.
    report = head(round(level) + 800, at=granted.now + 1, level=level, out=out, cost=1000)
    report.completion, report.ended = 800, 1000
    assert (await a.pace(MODEL, report, [])).buckets["tpm"].level == pytest.approx(level + 800, abs=50)


@pytest.mark.parametrize("limit_is_known", [True, False])
async def test_what_a_short_answer_gives_back_counts_though_it_is_told_with_its_head(
    workers: tuple[Pacing, Pacing], limit_is_known: bool
) -> None:
    a, b = workers
    if limit_is_known:
        await known(a)
        await a.pace(MODEL, Report(prompt=-100, completion=-900, ended=-1_000, heard=-1), [])
    else:
        assert (await a.pace(MODEL, Report(), [ASK])).granted[0] == pytest.approx((-1, 1000))
    short = head(9_000, cost=1000, unused=880)
    short.completion, short.ended = 880, 1000
    assert (await a.pace(MODEL, short, [])).buckets["tpm"].level == pytest.approx(9_880, abs=50)
    assert len((await b.pace(MODEL, Report(), [ASK] * 10)).granted) == 9


async def test_an_account_whose_calls_are_not_counted_is_free(workers: tuple[Pacing, Pacing]) -> None:
    pace = await workers[0].pace(MODEL, head(10_000), [ASK] * 30)
    assert pace.free
    assert len(pace.granted) == 30


async def test_requests_a_minute_are_paced_once_our_own_calls_explain_a_refusal(
    workers: tuple[Pacing, Pacing],
) -> None:
    a, b = workers
    await a.pace(MODEL, Report(calls=40, heads=head(10_000).heads), [])
    learned = await a.pace(MODEL, refusal("rpm", 60, 0.5, requested=1), [])
    assert learned.buckets["rpm"].limit == 60
    waits = await b.pace(MODEL, Report(), [ASK])
    assert waits.granted == []
    assert 0.3 < waits.wait <= 0.5


async def test_while_half_of_everything_is_left_workers_need_not_ask_first(
    workers: tuple[Pacing, Pacing],
) -> None:
    a, b = workers
    assert not (await a.pace(MODEL, Report(), [])).roomy  # nothing is known
    await known(a)
    assert (await b.pace(MODEL, Report(), [])).roomy
    taken = Report(calls=1, requests=-1, prompt=-100, completion=-4_800, ended=-4_900, heard=-1)
    pace = await a.pace(MODEL, taken, [])
    assert pace.buckets["tpm"].level == pytest.approx(5_100, abs=50)
    assert pace.roomy
    assert not (await b.pace(MODEL, Report(), [ASK])).roomy


async def test_a_limit_of_requests_that_no_header_tells_is_met_by_few_calls(
    workers: tuple[Pacing, Pacing],
) -> None:
    a, b = workers
    await known(a)  # 10,000 tokens a minute: up to 20 calls are let go without a second thought
    tiny = (1, 1, 0.0)
    assert len((await a.pace(MODEL, Report(calls=15), [tiny] * 32)).granted) == 5
    waits = await b.pace(MODEL, Report(calls=6), [tiny] * 4)
    assert (waits.granted, 0 < waits.wait < 0.1) == ([], True)
    assert len((await b.pace(MODEL, Report(heard=5), [tiny] * 4)).granted) == 1
    # At 300 calls a minute six may be unanswered.
    assert len((await a.pace(MODEL, Report(calls=279, heard=1), [tiny] * 32)).granted) == 6


async def test_a_call_that_is_never_answered_holds_up_the_others_for_a_second(
    workers: tuple[Pacing, Pacing],
) -> None:
    a, b = workers
    await known(a)
    assert len((await a.pace(MODEL, Report(calls=30), [(1, 1, 0.0)])).granted) == 1

    async def goes() -> bool:
        return len((await b.pace(MODEL, Report(), [(1, 1, 0.0)])).granted) == 1

    assert not await goes()
    await eventually_async(goes)


async def test_a_refusal_that_our_calls_do_not_explain_is_obeyed_and_taught_nothing_by(
    workers: tuple[Pacing, Pacing],
) -> None:
    a, b = workers
    await known(a)
    for report in (refusal("rpm", 30, 0.2, requested=1), refusal("tpd", 200_000, 0.2, requested=25_000)):
        assert set((await a.pace(MODEL, report, [])).buckets) == {"tpm"}
        blocked = await b.pace(MODEL, Report(), [ASK])
        assert blocked.granted == []
        assert 0 < blocked.blocked <= 0.2

        async def again() -> bool:
            return len((await b.pace(MODEL, Report(), [ASK])).granted) == 1

        await eventually_async(again)


async def test_small_calls_cannot_starve_a_large_one(workers: tuple[Pacing, Pacing]) -> None:
    small, large = workers
    await known(small, left=2_000)
    waits = await large.pace(MODEL, Report(), [(100, 4_900, 1.0)])
    assert waits.granted == []
    assert (await small.pace(MODEL, Report(), [(10, 90, 0.0)])).granted == []
    await small.pace(MODEL, Report(completion=4_000), [])  # it fits now, and others may not take it
    assert (await small.pace(MODEL, Report(), [(10, 1_990, 0.0)])).granted == []
    assert len((await large.pace(MODEL, Report(), [(100, 4_900, 1.2)])).granted) == 1
    assert len((await small.pace(MODEL, Report(), [(10, 90, 0.0)])).granted) == 1


async def test_a_call_that_can_never_fit_is_let_go_for_the_provider_to_say_so(
    workers: tuple[Pacing, Pacing],
) -> None:
    await known(workers[0])
    pace = await workers[0].pace(MODEL, Report(), [(20_000, 1, 0.0), ASK])
    assert len(pace.granted) == 2
    assert pace.buckets["tpm"].level == pytest.approx(9_000, abs=50)


async def test_the_circuit_warns_once_refuses_after_three_and_lets_one_try(
    workers: tuple[Pacing, Pacing], store: redis.Redis
) -> None:
    a, b = workers
    assert await b.circuit() == await a.may_probe()
    first = await a.open_circuit("auth")
    assert (first.reason, first.refuses) == ("auth", False)
    assert (await b.circuit()).wait > 0
    await a.open_circuit("auth")
    assert (await b.open_circuit("auth")).refuses
    assert (await a.may_probe()).refuses
    [name] = store.keys("chat:{upstream}:circuit:*")
    store.hset(name, "until", 0)  # as after 5 s
    assert not (await a.may_probe()).refuses
    assert (await b.may_probe()).refuses
    assert (await a.open_circuit("auth")).wait > 5  # the second time it is open for longer
    await b.close_circuit()
    assert (await a.circuit()).reason == ""


async def test_a_key_that_is_refused_opens_the_circuit_of_nobody_else(
    redis_server: RedisServer, store: redis.Redis
) -> None:
    stores = [
        Store(Settings(_env_file=None, redis_url=redis_server.url, GROQ_API_KEY=SecretStr(key)), key)
        for key in ("gsk_right", "gsk_wrong")
    ]
    right, wrong = (one.pacing for one in stores)
    for _ in range(3):
        await wrong.open_circuit("auth")
    assert (await wrong.circuit()).refuses
    assert (await right.circuit()).reason == ""
    await right.close_circuit()
    assert (await wrong.circuit()).refuses
    assert not [key for key in store.scan_iter("*") if "gsk" in key]
    for one in stores:
        await one.close()
