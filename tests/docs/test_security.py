"""Each line of the threat model names tests that exist, and the page says what the code does."""

from __future__ import annotations

import ast
import re

import pytest

from service.api.auth import jwt, known_records, tickets
from tests.docs.pages import code, rows
from tests.support.running import ROOT

PAGE = ROOT / "docs" / "security.md"
LINES = rows(PAGE, under="Threat model")


def test_the_threat_model_is_read_whole() -> None:
    assert len(LINES) >= 20
    assert {len(line) for line in LINES} == {4}


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line[0]}: {line[1]}")
def test_a_threat_names_tests_that_exist(line: list[str]) -> None:
    named = code(line[3])
    assert named, "a line without a test"
    for name in named:
        file, _, function = name.partition("::")
        tree = ast.parse((ROOT / file).read_text())
        found = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert not function or function in found, f"{file} has no {function}"


def test_the_times_that_the_page_promises_are_those_of_the_code() -> None:
    text = re.sub(r"\s+", " ", PAGE.read_text())
    assert f"believes what it read of a key for {known_records._FRESH_SECONDS:.0f} s" in text
    assert f"go on working for {known_records._STALE_SECONDS / 60:.0f} minutes" in text
    assert f"fetched again every {jwt._FRESH_SECONDS / 60:.0f} minutes" in text
    assert f"at most every {jwt._RETRY_SECONDS:.0f} s" in text
    assert tickets.TICKET_SECONDS == 600
    assert "for ten minutes" in text
