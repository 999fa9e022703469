"""Of several workers each gauge is added up or the newest counts; series with known labels begin at zero."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client import REGISTRY, Gauge, Histogram

from service import __version__
from service.telemetry import metrics, worker_deaths
from tests.support.running import clean_environment

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


def test_what_is_known_of_models_routes_prices_and_scripts_has_series_from_the_start() -> None:
    """Names that nothing else has: the registry is the process's."""
    model, route, script = "model-of-a-test", "/route-of-a-test", "script_of_a_test"
    metrics.prepare(__version__, [model], [(route, "PUT")], [(model, "XTS")], [script])
    found = {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "le"))
        for family in REGISTRY.collect()
        for sample in family.samples
        if {model, route, script} & set(sample.labels.values())
        if sample.name.endswith(("_total", "_count"))
    }
    of_model = (
        *("chat_cached_tokens_total", "chat_reasoning_tokens_total", "chat_unpriced_turns_total"),
        *("chat_governor_waits_total", "chat_governor_failovers_total", "chat_upstream_attempts_total"),
        *("chat_upstream_time_to_first_chunk_seconds_count", "chat_upstream_time_per_token_seconds_count"),
    )
    assert found == {
        *((name, model) for name in of_model),
        *(("chat_model_tokens_total", direction, model) for direction in ("input", "output")),
        ("chat_cost_total", "XTS", model),
        ("chat_http_time_to_first_byte_seconds_count", route),
        *(("chat_http_requests_total", "PUT", route, status) for status in ("200", "500", "503")),
        *((f"chat_redis_{what}_total", script) for what in ("operations", "errors")),
    }


@pytest.mark.parametrize(
    ("name", "label", "known"),
    [
        ("chat_build_info", "version", ("1",)),
        ("chat_turns_ended_total", "outcome", ("completed", "stopped", "failed")),
        ("chat_turn_duration_seconds_count", "outcome", ("completed", "stopped", "failed")),
        ("chat_tokens_total", "direction", ("input", "output")),
        ("chat_readers_open", "dialect", ("text", "native", "openai", "aisdk", "responses")),
        ("chat_webhooks_total", "outcome", ("delivered", "failed", "given_up", "full")),
        ("chat_upstream_errors_total", "kind", metrics.KINDS),
        ("chat_redis_operations_total", "operation", metrics.COMMANDS),
        ("chat_redis_errors_total", "operation", metrics.COMMANDS),
    ],
)
def test_a_fresh_process_shows_a_zero_for_all_that_may_happen(
    name: str, label: str, known: tuple[str, ...], fresh: dict[str, set[str]]
) -> None:
    assert set(known) <= fresh[f"{name} {label}"]


@pytest.fixture(scope="module")
def fresh() -> dict[str, set[str]]:
    """Of a process in which nothing has happened: "metric label" and the label's values."""
    code = (
        "from prometheus_client import REGISTRY; from service.telemetry import metrics; "
        "metrics.prepare('1', []); print(*("
        "f'{s.name} {n} {v}' "
        "for m in REGISTRY.collect() for s in m.samples for n, v in s.labels.items()), sep='\\n')"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    found: dict[str, set[str]] = {}
    for line in said.stdout.splitlines():
        key, _, value = line.rpartition(" ")
        found.setdefault(key, set()).add(value)
    return found


def test_times_fall_into_buckets_that_tell_fast_from_slow() -> None:
    fast = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]
    answer = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0]
    turn = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0]
    histograms: list[Any] = [one for one in vars(metrics).values() if isinstance(one, Histogram)]
    found = {histogram._name: histogram._kwargs["buckets"] for histogram in histograms}
    of_turns = {"chat_turn_duration_seconds": turn}
    short = (
        *("chat_stop_duration_seconds", "chat_event_append_seconds", "chat_upstream_time_per_token_seconds"),
        "chat_event_loop_lag_seconds",
    )
    known = {**of_turns, **dict.fromkeys(short, fast)}
    assert {name: list(buckets) for name, buckets in found.items()} == {
        name: known.get(name, answer) for name in found
    }
    assert set(known) < set(found)
