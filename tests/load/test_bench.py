"""The bench runs: it asks the API for what few others do, and its whole run takes a quarter of an hour."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.running import ROOT


def test_a_look_at_turns_and_long_histories_ends_with_each_of_their_figures(tmp_path: Path) -> None:
    words = ["--quick", "--turns", "50", "--case", "history", "--case", "turns", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.load", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "performance.json").read_text())
    assert (found["shed"], found["wrong"]) == (0, [])
    assert [figure["figure"] for figure in found["figures"] if figure["case"].startswith("history")] == [
        "a turn with 10: CPU of worker and Redis",
        "a turn with 10: time, median",
        "a turn with 10000: CPU of worker and Redis",
        "a turn with 10000: time, median",
        "10,000 / 10, CPU",
    ]
