"""What the edge reads off a request: what is wished for, cursors, numbers, keys; and the bounds on bodies."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request

from service.api import accept, bodies
from service.api.accept import responds_async
from service.api.body_bounds import BodyBounds, RefusedBodies
from service.config.settings import Settings
from service.errors import ServiceError
from tests.support.asgi import scope

MIB = 1_048_576


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def settings(**more: Any) -> Settings:
    return Settings(_env_file=None, **more)


def request(query: str = "", **headers: str) -> Request:
    return Request({**scope(**headers), "query_string": query.encode()})


def refused(call: Any, *arguments: Any) -> tuple[str, str | None]:
    with pytest.raises(ServiceError) as caught:
        call(*arguments)
    return caught.value.code, caught.value.param


# What a client would rather have


@pytest.mark.parametrize(
    ("header", "wanted", "quality"),
    [
        ("application/json", "application/json", 1.0),
        ("application/json;q=0.5, */*;q=0.1", "application/json", 0.5),
        ("application/*;q=0.4, */*;q=0.9", "application/json", 0.4),
        ("*/*;q=0.9", "application/json", 0.9),
        ("text/html", "application/json", 0.0),
        ("gzip;q=0", "gzip", 0.0),
        ("gzip; q=x", "gzip", 0.0),
        ("*", "gzip", 1.0),
        ("", "gzip", 0.0),
    ],
)
def test_a_preference_has_the_quality_of_its_most_specific_range(
    header: str, wanted: str, quality: float
) -> None:
    assert accept.quality(header, wanted) == quality


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
        (None, False),
    ],
)
def test_whoever_has_it_already_says_so_by_its_etag(header: str | None, known: bool) -> None:
    given = {} if header is None else {"if_none_match": header}
    assert accept.has_already(request(**given), '"a"') is known


# Numbers and words of a query or a header


@pytest.mark.parametrize(
    ("header", "query", "place"),
    [
        (None, "", None),
        (None, "after=7", 7),
        ("9", "after=7", 9),
        ("", "after=7", 7),
        ("0", "", 0),
        ("007", "", 7),
        ("9" * 15, "", 10**15 - 1),
        ("9" * 16, "", 10**15),
        ("0" * 30 + "1", "", 1),
    ],
)
def test_a_cursor_is_of_the_header_or_else_of_the_query(
    header: str | None, query: str, place: int | None
) -> None:
    given = {} if header is None else {"last_event_id": header}
    assert bodies.cursor(request(query, **given)) == place


@pytest.mark.parametrize("value", ["-1", "1.0", "x", " 1", "٣"])
def test_what_is_no_cursor_is_refused(value: str) -> None:
    with pytest.raises(ServiceError) as caught:
        bodies.place_in_log(value, "No.")
    assert (caught.value.code, caught.value.status) == ("bad_cursor", 400)


def test_a_number_of_items_is_from_1_to_the_top() -> None:
    assert [bodies.limit(request(f"limit={n}"), 50, 200) for n in (1, 200)] == [1, 200]
    assert bodies.limit(request(), 50, 200) == 50
    assert bodies.limit(request("days=3"), 30, 62, "days") == 3
    for wrong in ("0", "201", "-1", "x", "", "1e2", "9" * 16):
        assert refused(bodies.limit, request(f"limit={wrong}"), 50, 200) == ("invalid_request", "limit")


def test_a_flag_is_0_or_1_an_order_asc_or_desc_and_a_place_a_number() -> None:
    assert [bodies.flag(request(query), "brief") for query in ("", "brief=0", "brief=1")] == [
        False,
        False,
        True,
    ]
    assert refused(bodies.flag, request("brief=true"), "brief") == ("invalid_request", "brief")
    assert [bodies.newest_first(request(query), "asc") for query in ("", "order=asc", "order=desc")] == [
        False,
        False,
        True,
    ]
    assert bodies.newest_first(request(), "desc")
    assert refused(bodies.newest_first, request("order=up"), "asc") == ("invalid_request", "order")
    assert [bodies.place(value) for value in (None, "", "0", "12")] == [None, None, 0, 12]
    assert refused(bodies.place, "x") == ("invalid_request", None)


def test_a_key_has_1_to_255_printable_characters() -> None:
    for key in ("k", "k" * 255, "a b", "schlüssel"):
        given = key.encode().decode("latin-1")
        scoped = {**scope(), "headers": [(b"idempotency-key", given.encode("latin-1"))]}
        assert bodies.idempotency_key(Request(scoped)) == key
    assert bodies.idempotency_key(request()) is None
    assert bodies.fallback_key(request(x_fallback_idempotency_key="f")) == "f"
    for wrong in ("", "k" * 256, "a\tb"):
        assert refused(bodies.idempotency_key, request(idempotency_key=wrong)) == ("invalid_request", None)


def test_a_policy_of_a_header_is_one_of_three() -> None:
    assert [bodies.on_busy(request(x_on_busy=word)) for word in ("reject", "interrupt", "queue")] == [
        "reject",
        "interrupt",
        "queue",
    ]
    assert bodies.on_busy(request()) is None
    assert refused(bodies.on_busy, request(x_on_busy="wait")) == ("invalid_request", None)


@pytest.mark.parametrize(
    ("kind", "is_json"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.api+json", True),
        ("text/json", False),
        ("text/plain", False),
        ("", False),
    ],
)
def test_a_body_is_json_by_its_type(kind: str, is_json: bool) -> None:
    assert bodies.is_json(kind) is is_json


# Bounds on bodies


def test_bodies_on_their_way_are_bounded_for_each_caller_and_for_all() -> None:
    bounds = BodyBounds(MIB)
    bounds.add("a", 32 * MIB)
    with pytest.raises(ServiceError) as one:
        bounds.add("a", 1)
    assert (one.value.code, one.value.retry_after) == ("concurrency_limited", 1)
    for other in "bcd":
        bounds.add(other, 32 * MIB)
    with pytest.raises(ServiceError) as all_of_them:
        bounds.add("e", 1)
    assert (all_of_them.value.code, all_of_them.value.retry_after) == ("overloaded", 1)
    bounds.give_back("b", 32 * MIB)
    bounds.add("a2", 1)
    for caller, size in (("a", 32 * MIB), ("c", 32 * MIB), ("d", 32 * MIB), ("a2", 1)):
        bounds.give_back(caller, size)
    assert not bounds._held
    large = BodyBounds(50 * MIB)  # two of the largest of each of two callers
    for caller in "ab":
        large.add(caller, 100 * MIB)
    assert refused(large.add, "a", 1)[0] == "concurrency_limited"


def test_large_bodies_that_were_refused_cost_their_caller_time_by_their_bytes() -> None:
    clock = Clock()
    bodies_of = RefusedBodies(clock)
    bodies_of.add("a", 2 * MIB - 1)
    bodies_of.check("a")
    bodies_of.add("a", 10 * 65_536 + 1)
    bodies_of.check("b")
    with pytest.raises(ServiceError) as caught:
        bodies_of.check("a")
    assert (caught.value.code, caught.value.retry_after) == ("rate_limited", 10)
    clock.now += 10.1
    bodies_of.check("a")
    for number in range(10_001):
        bodies_of.add(str(number), 1)
    assert len(bodies_of._levels) == 10_000


def test_a_preference_is_known_in_any_case_with_any_parameters_beside_any_other() -> None:
    asked = ("respond-async", "Respond-Async", "wait=10, RESPOND-ASYNC; foo=1", " respond-async ")
    assert [responds_async(header) for header in asked] == [True] * 4
    assert not any(map(responds_async, ("", "respond-asynchronously", "wait=10", "return=respond-async")))
