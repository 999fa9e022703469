"""Prometheus's own tool checks the rules and runs their unit tests; each alert can be acted on."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.needed import program
from tests.support.running import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOK = ROOT / "docs" / "runbook.md"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str) -> str:
    program("prometheus")  # the package that brings it
    done = subprocess.run(
        [program("promtool"), *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "rules", "rules.yml", "alerts.yml")


@pytest.mark.parametrize("file", ["tests.yml", "tests_of_days.yml"])
def test_the_unit_tests_of_the_rules_pass(file: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", file)


def test_the_runbooks_address_is_set_for_alerts() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert config["global"]["external_labels"]["docs"].startswith("https://")


def test_files_name_no_alert_that_does_not_exist() -> None:
    known = {alert["alert"] for alert in alerts()}
    for file in (ROOT / "deploy").rglob("*"):
        if file.suffix in (".conf", ".sh", ".yml", ".yaml", ".json") and FOLDER not in file.parents:
            told = set(re.findall(r"\balerts? (Chat\w+)", file.read_text()))
            assert told <= known, file


def test_every_alert_has_a_unit_test_in_which_it_fires() -> None:
    tested = set()
    for file in ("tests.yml", "tests_of_days.yml"):
        for test in yaml.safe_load((FOLDER / file).read_text())["tests"]:
            for item in test.get("promql_expr_test", []):
                tested |= set(re.findall(r'alertname="(\w+)"', str(item["exp_samples"])))
    assert tested == {alert["alert"] for alert in alerts()}


def test_every_alert_says_how_bad_it_is_and_where_it_is_explained() -> None:
    text = RUNBOOK.read_text()
    for alert in alerts():
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert {"summary", "description", "runbook_url"} == alert["annotations"].keys()
        url = alert["annotations"]["runbook_url"]
        assert url == "{{ $externalLabels.docs }}/runbook.md#" + alert["alert"].lower()
        [entry] = re.findall(rf"^### {alert['alert']}\n(.*?)(?=^##|\Z)", text, re.M | re.S)
        for part in ("**See**", "**Why**", "**Do**"):
            assert part in entry, f"{alert['alert']} lacks {part}"


def test_the_runbook_explains_no_alert_that_does_not_exist() -> None:
    explained = set(re.findall(r"^### (Chat\w+)$", RUNBOOK.read_text(), re.M))
    assert explained == {alert["alert"] for alert in alerts()}


def test_the_runbook_says_of_each_entry_whether_it_was_tried() -> None:
    told = RUNBOOK.read_text().partition("## What was tried\n")[2]
    by_test, _, rest = told.partition("Not caused by a test")
    rows = re.findall(r"^\| (Chat[\w, ]+) \| `(\w+)` \|$", by_test, re.M)
    tried = [name for names, _ in rows for name in names.split(", ")]
    not_tried = re.findall(r"Chat\w+", rest)
    assert sorted(tried + not_tried) == sorted(alert["alert"] for alert in alerts())
    written = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    for name in [*(test for _, test in rows), *re.findall(r"`(test_\w+)`", rest)]:
        assert f"def {name}(" in written, name
