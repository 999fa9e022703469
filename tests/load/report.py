"""The findings as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import orjson

from tests.load.cases import Figure, Findings

_ROOT = Path(__file__).resolve().parents[2]


def surroundings(started: float) -> dict[str, Any]:
    """What the figures depend on. Others at work on the machine show as load."""
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "revision": revision.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "kernel": platform.release().partition("-")[0],
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "minutes": round((time.monotonic() - started) / 60, 1),
    }


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"{'>=' if figure.at_least else '<='} {_number(figure.target)}"


def _verdict(figure: Figure) -> str:
    return {None: "", True: "met", False: "**missed**"}[figure.met]


def markdown(found: Findings, about: dict[str, Any]) -> str:
    lines = [
        f"{about['date']}, revision {about['revision']}, Python {about['python']}, Linux {about['kernel']}, "
        f"{about['cores']} cores, load {' '.join(map(str, about['load']))} at the end, "
        f"{about['minutes']} minutes.",
        "",
        f"Answers compared with the exact text: {found.exact} right, {len(found.wrong)} wrong; "
        f"{found.shed} requests shed.",
        "",
        "| case | figure | value | target | |",
        "|---|---|---|---|---|",
    ]
    before = ""
    for figure in found.figures:
        case = figure.case if figure.case != before else ""
        before = figure.case
        lines.append(
            f"| {case} | {figure.what} | {_number(figure.value)} {figure.unit} | {_target(figure)} "
            f"| {_verdict(figure)} |"
        )
    return "\n".join(lines) + "\n"


def write(found: Findings, about: dict[str, Any], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    figures = [
        {
            "case": f.case,
            "figure": f.what,
            "value": round(f.value, 4),
            "unit": f.unit,
            "target": f.target,
            "met": f.met,
        }
        for f in found.figures
    ]
    document = {
        "about": about,
        "exact": found.exact,
        "wrong": found.wrong[:20],
        "shed": found.shed,
        "figures": figures,
    }
    (directory / "performance.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    (directory / "performance.md").write_text(markdown(found, about))
