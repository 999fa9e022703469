"""Of several workers each gauge is added up or the newest counts; series with known labels begin at zero."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client import REGISTRY, Gauge

from service import __version__
from service.telemetry import metrics, worker_deaths

SERVICE: Final = Path(metrics.__file__).parents[1]
SUMS: Final = {"chat_turns_running", "chat_readers_open", "chat_workers", "chat_process_resident_bytes"}
MODES: Final = {
    **dict.fromkeys(SUMS, "livesum"),
    "chat_build_info": "livemax",
}


def test_what_all_workers_have_is_added_up_and_of_what_they_share_the_newest_counts() -> None:
    gauges: list[Any] = [one for one in vars(metrics).values() if isinstance(one, Gauge)]
    found = {gauge._name: gauge._multiprocess_mode for gauge in gauges}
    assert found == {name: MODES.get(name, "livemostrecent") for name in found}
    assert set(MODES) <= set(found)


@pytest.mark.parametrize(
    ("metric", "label", "known"),
    [
        ("limit_rejections", "limit", metrics.LIMITS),
        ("bypassed", "control", metrics.CONTROLS),
        ("internal_errors", "where", metrics.PLACES),
        ("auth_refusals", "reason", metrics.AUTH_REFUSALS),
    ],
)
def test_each_label_that_the_code_names_has_a_series_from_the_start(
    metric: str, label: str, known: tuple[str, ...]
) -> None:
    metrics.prepare(__version__, [])
    text = "".join(path.read_text() for path in SERVICE.rglob("*.py"))
    named = set(re.findall(rf'{metric}\.labels\({label}="(\w+)"\)', text))
    assert named
    assert named <= set(known)
    for name in known:
        assert REGISTRY.get_sample_value(f"{getattr(metrics, metric)._name}_total", {label: name}) is not None


def test_what_is_told_of_the_present_has_a_value_before_anything_happens() -> None:
    metrics.prepare(__version__, [])
    for name, reasons in (
        ("chat_upstream_circuit_open", metrics.CIRCUITS),
        ("chat_store_refuses_writes", metrics.REFUSALS),
    ):
        assert [REGISTRY.get_sample_value(name, {"reason": one}) for one in reasons] == [0] * len(reasons)
    for outcome in ("completed", "stopped", "failed"):
        assert REGISTRY.get_sample_value("chat_turns_ended_total", {"outcome": outcome}) is not None


def test_each_death_of_a_worker_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_deaths, "_PAGE", memoryview(bytearray(8)).cast("Q"))
    worker_deaths.add()
    worker_deaths.add()
    assert worker_deaths.count() == 2
