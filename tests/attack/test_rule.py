"""The rule of `make attack` itself: what breaks it is seen, and the table names every attacker."""

from __future__ import annotations

import pytest

from tests.attack.__main__ import END, PLAN, START
from tests.attack.attack import ATTACKERS
from tests.attack.run import Row, Sample
from tests.attack.stand import bytes_of, limits, shipped_maxmemory
from tests.support.processes import ROOT


def samples(*seconds: float, wrong: str = "") -> list[Sample]:
    return [Sample(0.0, "list", value, wrong) for value in seconds]


@pytest.fixture
def row() -> Row:
    peaks = dict.fromkeys(limits(), 1)
    attacker = next(iter(ATTACKERS.values()))
    return Row(attacker, PLAN, made=1, before=samples(0.01), during=samples(0.01), peaks=peaks)


def test_a_quiet_attack_holds(row: Row) -> None:
    assert row.verdict() == []


def test_a_tenant_may_be_as_late_as_250_ms_or_three_times_its_own_p99(row: Row) -> None:
    row.during = samples(0.249)
    assert row.verdict() == []
    row.during = samples(0.251)
    assert row.verdict() == ["p99 251 ms over 250 ms"]
    row.before = samples(0.1)
    assert row.verdict() == []
    row.during = samples(0.301)
    assert row.verdict() == ["p99 301 ms over 300 ms"]


def test_one_failed_request_of_the_tenant_breaks_the_rule(row: Row) -> None:
    row.during += samples(0.01, wrong="503")
    assert row.verdict() == ["failed: list 503"]


def test_a_tenant_that_could_ask_nothing_breaks_the_rule(row: Row) -> None:
    row.during = []
    assert row.verdict() == ["the tenant asked nothing"]


@pytest.mark.parametrize("name", limits())
def test_a_byte_over_a_limit_of_compose_breaks_the_rule(row: Row, name: str) -> None:
    row.peaks[name] = limits()[name]
    assert row.verdict() == []
    row.peaks[name] += 1
    assert len(row.verdict()) == 1


def test_limits_are_those_of_the_compose_file() -> None:
    assert limits().keys() == {"nginx", "service", "redis"}
    assert bytes_of("1g") == bytes_of("1024m") == 1_073_741_824
    assert bytes_of(shipped_maxmemory()) * 2 == limits()["redis"]


def test_the_page_has_a_line_of_each_attacker_and_each_holds() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    table = page.partition(START)[2].partition(END)[0]
    lines = table.strip().splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [
        one.sentence for one in ATTACKERS.values()
    ]
    assert {line.rpartition(" | ")[2] for line in lines} == {"holds |"}
