"""Each procedure that a page describes is carried out by a test that exists, or listed as not tried."""

from __future__ import annotations

import re

from tests.docs.pages import anchors, rows
from tests.support.running import ROOT

OPERATIONS = ROOT / "docs" / "operations.md"
PROCEDURES = ("operations.md", "deployment.md", "questions.md")
# Sections that say how something is, not what to do.
DESCRIPTIONS = {
    "operations.md": {"procedures", "what-was-tried"},
    "questions.md": {"questions"},
    "deployment.md": {
        "deployment",
        "secrets",
        "nginx",
        "health-and-what-takes-a-replica-out",
        "open-files-and-memory-folders",
        "metrics-logs-traces",
    },
}


TABLE = rows(OPERATIONS, "What was tried")


def test_every_procedure_is_in_the_table() -> None:
    named = {
        (page or OPERATIONS.name, anchor)
        for procedure, _ in TABLE
        for page, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", procedure)
    }
    described = {
        (name, anchor) for name in PROCEDURES for anchor in anchors(ROOT / "docs" / name) - DESCRIPTIONS[name]
    }
    assert named == described


def test_what_is_said_to_have_tried_one_exists() -> None:
    written = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    for procedure, by in TABLE:
        tests = re.findall(r"`(test_\w+)`", by)
        assert tests or "not tried" in by, procedure
        for name in tests:
            assert f"def {name}(" in written, name
