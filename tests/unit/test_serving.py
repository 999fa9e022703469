"""The rules of the processes: who accepts, whose answers are cut, how long one may leave, what is started."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.cli import file_limit, local
from service.config.settings import Settings
from service.serving import balanced_accept, http_protocol, http_server, unsent
from service.serving.balanced_accept import Acceptor, Board
from service.serving.http_protocol import BoundedHttp
from tests.support.logged import logged_by

MIB = 1_048_576


def settings(**more: Any) -> Settings:
    return Settings(_env_file=None, **more)


def test_the_mean_is_over_the_workers_that_accept() -> None:
    board = Board()
    assert board.mean() == 0
    board.write(1, 0)
    assert board.mean() == 0  # a worker without a connection is one all the same
    board.write(2, 9)
    board.write(514, 3)  # the place of worker 2, 512 lives later
    assert board.mean() == 1.5
    board.erase(514)
    assert board.mean() == 0


@pytest.mark.parametrize(
    ("mine", "others", "accepts"), [(0, 0, True), (6, 2, True), (7, 2, False), (0, 9, True)]
)
def test_a_worker_with_more_than_its_share_steps_back(mine: int, others: int, accepts: bool) -> None:
    board = Board()
    board.write(2, others)
    acceptor = Acceptor.__new__(Acceptor)
    acceptor._count, acceptor._opening = lambda: mine, set()
    acceptor._board, acceptor._place = board, 1
    did: list[Any] = []
    cast(Any, acceptor)._accept = lambda: did.append("accept")
    cast(Any, acceptor)._step_back = did.append
    acceptor._readable()
    assert did == (["accept"] if accepts else [balanced_accept._STEP_BACK_SECONDS])


class Slow(BoundedHttp):
    """A connection whose client has so much yet to take."""

    def __init__(self, size: int) -> None:
        self.cut = False
        self.transport = cast(
            Any, SimpleNamespace(get_write_buffer_size=lambda: size, abort=lambda: setattr(self, "cut", True))
        )


def test_of_too_much_that_clients_do_not_take_the_most_goes_first_and_no_more_than_is_too_much() -> None:
    connections = [Slow(size * MIB) for size in (1, 90, 20, 40, 0)]
    unsent.bound_unsent(connections)
    assert [one.cut for one in connections] == [False, True, False, False, False]
    within = [Slow(64 * MIB), Slow(64 * MIB)]
    unsent.bound_unsent(within)
    assert not any(one.cut for one in within)


def test_a_process_may_leave_for_as_long_as_all_that_it_waits_for() -> None:
    assert http_server.grace_seconds(settings(drain_seconds=60, drain_delay_seconds=5)) == 5 + 2 + 60 + 2 + 6
    assert http_server.grace_seconds(settings(drain_seconds=1)) == 0 + 2 + 1 + 2 + 6


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (("0.0.0.0", 8000), "http://localhost:8000"),
        (("127.0.0.1", 8000), "http://localhost:8000"),
        (("::", 8000, 0, 0), "http://localhost:8000"),
        (("10.0.0.7", 80), "http://10.0.0.7:80"),
        (("2001:db8::1", 80, 0, 0), "http://[2001:db8::1]:80"),
    ],
)
def test_an_address_is_told_as_a_person_would_type_it(address: Any, url: str) -> None:
    assert http_server.readable_url(address) == url


def test_uvicorn_believes_no_header_says_nothing_of_itself_and_logs_no_request() -> None:
    options = http_server.http_options()
    off = ("proxy_headers", "server_header", "access_log", "log_config", "limit_max_requests")
    assert [options[name] for name in off] == [False, False, False, None, None]
    assert (options["loop"], options["backlog"], options["timeout_notify"]) == ("uvloop", 2_048, 0)
    assert (options["http"], options["ws"], options["lifespan"], options["timeout_keep_alive"]) == (
        BoundedHttp,
        "none",
        "on",
        75,
    )


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The limits of files, and what is set."""
    found: dict[str, Any] = {"limits": (1_024, 4_096), "set": None}
    monkeypatch.setattr(resource, "getrlimit", lambda _: found["limits"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: found.update(set=limits))
    http_protocol.most_connections.cache_clear()
    yield found
    http_protocol.most_connections.cache_clear()


@pytest.mark.parametrize(("soft", "most"), [(1_024, 768), (100_000, 8_192)])
def test_a_quarter_of_the_descriptors_stays_for_others_than_clients(
    descriptors: dict[str, Any], soft: int, most: int
) -> None:
    descriptors["limits"] = (soft, soft)
    assert http_protocol.most_connections() == most


@pytest.mark.parametrize(
    ("limits", "wanted", "told"),
    [
        ((1_024, 1_048_576), (1_048_576, 1_048_576), None),
        ((1_024, resource.RLIM_INFINITY), (1_048_576, resource.RLIM_INFINITY), None),
        ((1_024, 4_096), (4_096, 4_096), 4_096),
        ((4_255, 4_255), None, 4_255),
        ((4_256, 4_256), None, None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, None),
    ],
)
def test_as_many_files_as_the_system_allows_and_a_word_where_that_is_too_few(
    descriptors: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    wanted: Any,
    told: int | None,
) -> None:
    """2,000 running turns with two connections each, and 256 beside."""
    descriptors["limits"] = limits
    lines = logged_by(file_limit, monkeypatch)
    file_limit.raise_file_limit(settings())
    assert descriptors["set"] == wanted
    assert [(line["event"], line["limit"], line["need"]) for line in lines] == (
        [("files.few", told, 4_256)] if told else []
    )


PRODUCTION = {"env": "production", "groq_api_key": "gsk_1", "redis_url": "redis://h"}


@pytest.mark.parametrize(
    ("values", "demo", "started"),
    [
        ({}, True, ["store", "demo"]),
        ({}, False, ["store"]),
        ({"redis_url": "redis://h"}, True, ["demo"]),
        ({"groq_api_key": "gsk_1"}, True, ["store"]),
        ({"groq_base_url": "http://127.0.0.1:9"}, True, ["store"]),
        (PRODUCTION, True, []),
    ],
)
def test_only_what_nobody_has_set_is_started_and_nothing_in_production(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], demo: bool, started: list[str]
) -> None:
    did: list[str] = []
    monkeypatch.setattr(local, "_start_store", lambda *_: did.append("store"))
    monkeypatch.setattr(local, "_start_demo", lambda *_: did.append("demo"))
    monkeypatch.setattr(local, "_use_demo", lambda *_: None)
    monkeypatch.setattr(local, "load_settings", lambda: settings(**values))
    with local.surroundings(settings(**values), demo=demo):
        assert did == started
    bare = settings(**PRODUCTION).model_copy(update={"redis_url": None, "groq_api_key": None})
    with local.surroundings(bare, demo=demo):
        assert did == started
