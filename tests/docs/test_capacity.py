"""docs/capacity.md has what deploy/capacity.py computes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import yaml

from service.config.settings import Settings
from tests.support.running import ROOT

SCRIPT = ROOT / "deploy" / "capacity.py"


def computed(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout


def test_both_tables_are_the_scripts() -> None:
    text = (ROOT / "docs" / "capacity.md").read_text()
    assert computed() in text
    assert computed("--window", "0.1", "--log-ttl", "3600") in text


def test_what_it_assumes_of_the_settings_are_their_defaults() -> None:
    settings = Settings(_env_file=None)
    assert (settings.flush_window_seconds, settings.log_ttl_seconds, settings.session_ttl_seconds) == (
        0.04,
        86_400,
        30 * 86_400,
    )


def test_twice_the_answers_need_twice_as_much() -> None:
    def tokens(streams: int) -> str:
        [line] = [
            row for row in computed("--streams", str(streams)).splitlines() if "tokens per second" in row
        ]
        return line.split("|")[2].strip()

    assert (tokens(1000), tokens(2000)) == ("50 k", "100 k")


def test_the_autoscalers_target_leaves_room_to_take_over_a_lost_pod() -> None:
    manifest: Any = yaml.safe_load((ROOT / "deploy/k8s/horizontalpodautoscaler.yaml").read_text())
    target = int(manifest["spec"]["metrics"][0]["pods"]["target"]["averageValue"])
    lines = (ROOT / "deploy/k8s/settings.env").read_text().splitlines()
    config = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    share = target / int(config["CHAT_WORKERS"]) * 50 * 40e-6  # tokens/s and seconds of docs/capacity.md
    assert 0.3 < share < 0.5
