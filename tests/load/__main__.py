"""`python -m tests.load` (`make bench`): runs the cases, prints one table, writes JSON and Markdown.

`--quick` takes two minutes and rougher figures, `--write` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.load.cases import CASES, Row
from tests.load.processes import running
from tests.support.processes import ROOT

START, END = "<!-- figures -->", "<!-- /figures -->"


async def measure(directory: Path, *, quick: bool, only: str) -> list[Row]:
    rows: list[Row] = []
    with running(directory) as bench:
        for case in CASES:
            if only not in case.__name__:
                continue
            found = await case(bench, quick)
            for row in found:
                sys.stdout.write(" | ".join(("", *row, "")).strip() + "\n")
                sys.stdout.flush()
            rows += found
            await asyncio.sleep(1)  # so that one case's endings are not the next one's load
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="run only the cases whose name contains this")
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rows = uvloop.run(measure(Path(directory), quick=wishes.quick, only=wishes.only))
    table = "\n".join(
        ["| case | target | seen |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    )
    artifacts = ROOT / "artifacts"
    artifacts.mkdir(exist_ok=True)
    names = ("case", "target", "seen")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    (artifacts / "bench.json").write_text(json.dumps(found, indent=1))
    (artifacts / "bench.md").write_text(table + "\n")
    if wishes.write:
        page = ROOT / "docs" / "performance.md"
        before, _, rest = page.read_text().partition(START)
        page.write_text(f"{before}{START}\n{table}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
