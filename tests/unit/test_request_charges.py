"""What a request pays: one place in every window of its caller, once, whatever Redis says or does not say."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from fastapi import Request
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from prometheus_client import REGISTRY

from service.api import limits as module
from service.api.auth.authenticator import ANONYMOUS, Principal
from service.api.limits import Limits, RequestCharge
from service.api.over_limit import Decision, OverLimit
from service.api.request_state import RequestState, request_state
from service.config.settings import Settings
from service.errors import ServiceError, StoreRefusesWrites, StoreUnavailable
from service.store.keys import Keys
from service.store.windows import Charge, Window, Windows

KEYED = Principal("owner.team")
PASSES = [1, 1, 60_000]


class Counter(Windows):
    """The names and the reading of answers are the service's own; what Redis says is the test's."""

    def __init__(self) -> None:
        self._keys = Keys("chat")
        self.answer: list[int] | StoreUnavailable = PASSES
        self.asked: list[Charge] = []
        self.refunds: list[tuple[str, str]] = []

    async def take(self, charge: Charge) -> list[Any]:
        self.asked.append(charge)
        if isinstance(self.answer, StoreUnavailable):
            raise self.answer
        return self.answer

    async def refund(self, charge: Charge) -> None:
        self.refunds.append((charge.who, charge.once))


class Door:
    def __init__(self, sends: str = "3/minute", reads: str = "9/minute") -> None:
        self.windows = Counter()
        settings = Settings(_env_file=None, limit_sends=sends, limit_reads=reads)
        self.limits = Limits(settings, self.windows)
        self.request = request()

    def charging(self, principal: Principal = KEYED, kind: Any = "sends", once: str = "") -> RequestCharge:
        self.request = request()
        return self.limits.charging(self.request, principal, kind, once=once)

    @property
    def told(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in request_state(self.request).limit_headers}


def request(peer: str = "203.0.113.9") -> Request:
    scope = {"type": "http", "path": "/chat", "client": (peer, 1), "headers": []}
    RequestState(scope, "", cast(Any, None))
    return Request(scope)


async def refused(charging: RequestCharge) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await charging.charge()
    assert caught.value.code == "rate_limited"
    return caught.value


async def test_a_request_is_charged_once_and_told_what_is_left() -> None:
    door = Door()
    charging = door.charging()
    door.windows.answer = [1, 2, 30_500]
    before = int(time.time())
    for _ in range(3):
        await charging.charge()
    assert len(door.windows.asked) == 1
    assert int(door.told.pop("x-ratelimit-reset")) - before in (31, 32)
    assert door.told == {
        "ratelimit-limit": "3",
        "ratelimit-remaining": "1",
        "ratelimit-reset": "31",
        "x-ratelimit-limit": "3",
        "x-ratelimit-remaining": "1",
        "x-ratelimit-reset": door.told["x-ratelimit-reset"],
    }


async def test_sends_and_reads_have_limits_of_their_own_and_so_have_keys() -> None:
    door = Door()
    for principal, kind, amount in (
        (KEYED, "sends", 3),
        (KEYED, "reads", 9),
        (Principal("key.k", limit_sends="5/hour", limit_reads="7/hour"), "sends", 5),
        (Principal("key.k", limit_sends="5/hour", limit_reads="7/hour"), "reads", 7),
    ):
        await door.charging(principal, kind).charge()
        assert door.windows.asked[-1].windows[0].amount == amount
    count = len(door.windows.asked)
    await door.charging(Principal("key.k", limit_sends="")).charge()
    assert len(door.windows.asked) == count


async def test_callers_are_counted_by_who_they_are_else_by_their_address() -> None:
    door = Door()
    await door.charging(KEYED).charge()
    await door.charging(ANONYMOUS).charge()
    names = [door.windows.call_of(charge).keys[1] for charge in door.windows.asked]
    assert names == [
        "chat:{owner.team}:limit:sends:moving:60",
        "chat:{ip.203.0.113.9}:limit:sends:moving:60",
    ]


async def test_of_two_windows_of_one_length_the_narrower_counts() -> None:
    door = Door(sends="5/minute;2/minute;9/hour")
    door.windows.answer = [1, 1, 1_000, 1, 1_000]
    await door.charging().charge()
    assert door.windows.asked[0].windows == (Window(2, 60), Window(9, 3_600))


async def test_the_window_with_the_least_left_is_told_and_of_two_refusals_the_longer_wait() -> None:
    door = Door(sends="3/minute;5/hour")
    door.windows.answer = [1, 1, 60_000, 4, 3_000_000]
    await door.charging().charge()
    assert (door.told["ratelimit-limit"], door.told["ratelimit-remaining"]) == ("5", "1")
    door.windows.answer = [0, 3, 20_200, 5, 70_000]
    error = await refused(door.charging())
    assert (error.retry_after, error.message) == (
        70,
        "The limit of 5 per 1 hour is reached; try again in 70 s.",
    )


async def test_a_refusal_is_remembered_with_the_time_that_is_left_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, now = Door(), [1_000.0]
    door.limits.over = OverLimit(lambda: now[0])
    door.windows.answer = [0, 3, 20_200]
    assert (await refused(door.charging())).retry_after == 21
    now[0] += 10
    assert (await refused(door.charging())).retry_after == 11
    other = Principal(KEYED.id, limit_sends="100/minute")
    door.windows.answer = PASSES
    await door.charging(other).charge()  # another key of the same owner
    await door.charging(KEYED, "reads").charge()
    assert len(door.windows.asked) == 3
    now[0] += 10.3
    await door.charging().charge()
    assert len(door.windows.asked) == 4


async def test_without_redis_a_worker_counts_alone_for_a_second_and_no_more_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door = Door()
    door.windows.answer = StoreUnavailable()
    for _ in range(3):
        await door.charging().charge()
    await refused(door.charging())
    assert len(door.windows.asked) == 1
    monkeypatch.setattr(door.limits, "_alone_until", 0.0)
    door.windows.answer = PASSES
    await door.charging().charge()
    assert len(door.windows.asked) == 2
    assert module._ALONE_SECONDS == 1.0


async def test_refusals_and_what_a_worker_decides_alone_are_counted() -> None:
    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0

    def now() -> tuple[float, float]:
        return (
            counted("chat_limit_rejections_total", limit="sends"),
            counted("chat_control_bypassed_total", control="limits"),
        )

    door, before = Door(), now()
    door.windows.answer = [0, 3, 20_200]
    await refused(door.charging())
    await refused(door.charging())  # from memory
    assert now() == (before[0] + 2, before[1])
    alone = Door(sends="1/minute")
    alone.windows.answer = StoreUnavailable()
    await alone.charging().charge()
    await refused(alone.charging())
    assert now() == (before[0] + 3, before[1] + 2)


async def test_of_two_windows_with_as_much_left_the_one_that_lasts_longer_is_told() -> None:
    door = Door(sends="3/minute;3/hour")
    door.windows.answer = [1, 1, 60_000, 1, 3_000_000]
    await door.charging().charge()
    assert (door.told["ratelimit-remaining"], door.told["ratelimit-reset"]) == ("2", "3000")


@pytest.mark.parametrize(
    ("window", "kind"), [("fixed", FixedWindowRateLimiter), ("moving", MovingWindowRateLimiter)]
)
def test_a_worker_that_counts_alone_has_the_windows_of_the_setting(window: Any, kind: type) -> None:
    assert isinstance(Limits(Settings(_env_file=None, limit_window=window), Counter()).limiter, kind)


async def test_what_cannot_be_charged_cannot_begin_but_can_be_read() -> None:
    door = Door()
    door.windows.answer = StoreRefusesWrites("full")
    with pytest.raises(StoreRefusesWrites):
        await door.charging().charge()
    await door.charging(kind="reads").charge()


async def test_a_send_that_did_not_begin_gets_its_place_back_once_it_has_paid() -> None:
    door = Door()
    charging = door.charging(once="k")
    await charging.refund()
    assert door.windows.refunds == []
    await charging.charge()
    await charging.refund()
    assert door.windows.refunds == [(KEYED.id, "k")]


def test_refused_callers_are_remembered_for_a_minute_and_so_many_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    over = OverLimit(lambda: now[0])
    windows = module._parse("3/day")
    for number in range(10_002):
        over.note(f"p{number}", "sends", windows, Decision(False, windows[0], 0, 5_000.0))
    assert len(over) == 10_000
    assert over.find("p1", "sends", windows) is None
    assert over.find("p2", "sends", windows) is not None
    now[0] = 59.9
    found = over.find("p10001", "sends", windows)
    assert found is not None
    assert found.reset == pytest.approx(4_940.1)
    now[0] = 60.0
    assert over.find("p10001", "sends", windows) is None
