"""A caller's trace is continued where its header is one, also where no span is recorded."""

from __future__ import annotations

import re

import pytest

from service.telemetry import tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (PARENT, True),
        (f"00-{TRACE}-{SPAN}-00", True),
        ("", False),
        (f"01-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (PARENT.upper(), False),
        (PARENT + "\n", False),
        (PARENT + "-x", False),
        (PARENT[:-1], False),
    ],
)
def test_a_header_is_taken_over_where_it_is_one_of_version_00(header: str, taken: bool) -> None:
    assert tracing.accepted(header) == (header if taken else "")


def test_without_a_collector_a_part_of_a_trace_has_an_id_of_its_own_and_no_trace_none() -> None:
    spans = [tracing.start("request", "server", PARENT).traceparent for _ in range(2)]
    for one in spans:
        assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", one)
        assert tracing.trace_id(one) == TRACE
    assert len({*spans, PARENT}) == 3
    assert tracing.start("request", "server", "") is tracing.NOTHING
    assert tracing.NOTHING.traceparent == ""
