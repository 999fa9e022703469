"""docs/metrics.md equals the code, labels are bounded, and every metric is fed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from service.store.connection.typed_scripts import counted
from service.telemetry import metrics
from tests.support.running import ROOT

SERVICE = ROOT / "service"
DOCUMENT = ROOT / "docs" / "metrics.md"

#: what outside checks rely on (CONTRACT): name -> labels
FIRM = {
    "chat_http_requests_total": ("route", "method", "status"),
    "chat_turns_started_total": (),
    "chat_turns_ended_total": ("outcome",),
    "chat_tokens_total": ("direction",),
    "chat_turns_running": (),
    "chat_takeovers_total": (),
    "chat_reader_resumes_total": (),
}
#: labels that have few values, all of them ours
BOUNDED = {
    "route",
    "method",
    "status",
    "outcome",
    "direction",
    "model",
    "key",
    "currency",
    "dialect",
    "kind",
    "reason",
    "limit",
    "control",
    "operation",
    "where",
    "version",
}


def defined() -> dict[str, MetricWrapperBase]:
    """Python name -> metric."""
    return {name: item for name, item in vars(metrics).items() if isinstance(item, MetricWrapperBase)}


def exposed(metric: MetricWrapperBase) -> str:
    return f"{metric._name}{'_total' if metric._type == 'counter' else ''}"


def row(metric: MetricWrapperBase) -> str:
    labels = ", ".join(metric._labelnames) or "–"
    return f"| `{exposed(metric)}` | {metric._type} | {labels} | {metric._documentation} |"


def source(*, but: str = "") -> dict[Path, str]:
    return {path: path.read_text() for path in sorted(SERVICE.rglob("*.py")) if path.name != but}


def test_the_document_lists_each_metric_as_the_code_has_it() -> None:
    documented = re.findall(r"^\| `chat_.*$", DOCUMENT.read_text(), re.M)
    assert sorted(documented) == sorted(row(metric) for metric in defined().values())


def test_the_names_that_outside_checks_use_are_there() -> None:
    found = {exposed(metric): tuple(metric._labelnames) for metric in defined().values()}
    assert {name: found.get(name) for name in FIRM} == FIRM


def test_names_follow_prometheus() -> None:
    for metric in defined().values():
        name = exposed(metric)
        assert name.startswith("chat_")
        assert name.endswith("_total") is (metric._type == "counter"), name
        if metric._type == "histogram":
            assert name.endswith("_seconds"), name
        assert set(metric._labelnames) <= BOUNDED, name


def test_every_metric_is_fed() -> None:
    code = "\n".join(source(but="metrics.py").values())
    unfed = {name for name in defined() if not re.search(rf"\bmetrics\.{name}\b", code)}
    # set once, where the series are made; the master's, in memory of its own
    assert unfed == {"build_info", "worker_deaths"}


def test_every_reason_for_a_failed_attempt_has_a_series_from_the_start() -> None:
    kinds = set()
    for text in source().values():
        kinds |= set(re.findall(r'\b(?:kind=|unavailable\(\s*)"([a-z_]+)"', text))
    windows = {f"limit_{window}" for window in ("rpm", "rpd", "tpm", "tpd", "itpm", "otpm")}
    timeouts = {"first_token_timeout", "idle_timeout", "turn_timeout"}
    assert kinds | windows | timeouts == set(metrics.KINDS)


def test_every_operation_on_the_store_has_a_series_from_the_start() -> None:
    operations: set[str] = set()
    for text in source().values():
        operations |= set(re.findall(r'\.(?:run|many|batch)\(\s*"([a-z_]+)"', text))
        operations |= set(re.findall(r'redis_errors\.labels\(operation="([a-z_]+)"', text))
    assert operations - {*counted()} == set(metrics.COMMANDS)


def test_every_background_loop_has_a_series_from_the_start() -> None:
    places = set()
    for text in source().values():
        places |= set(re.findall(r'\.loop\("([a-z_]+)"', text))
        places |= set(re.findall(r'where="([a-z_]+)"', text))
    assert places == set(metrics.PLACES)


def test_every_control_that_lets_requests_pass_has_a_series_from_the_start_and_no_other() -> None:
    controls = set(re.findall(r'bypassed\.labels\(control="([a-z]+)"', "\n".join(source().values())))
    assert controls == set(metrics.CONTROLS)
    (told,) = re.findall(r"^.*`control` is what .*$", DOCUMENT.read_text(), re.M)
    assert controls == set(re.findall(r"`([a-z]+)` \(", told.partition("`control` is")[2]))


RULES = sorted((ROOT / "deploy" / "prometheus").glob("*.yml"))


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_rules_and_alerts_use_metrics_that_exist(file: Path) -> None:
    used = set(re.findall(r"\bchat_[a-z_]+", re.sub(r"#.*|#chat\w+", "", file.read_text())))
    names = {exposed(metric) for metric in defined().values()}
    names |= {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}
    assert used - names == set()
