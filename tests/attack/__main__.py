"""`python -m tests.attack`: each attacker beside a well-behaved tenant, as figures for docs/security.md.

Takes some 25 minutes; `--only many` runs the attackers with that in their name. Writes the table
between the markers of docs/security.md with `--write`. Exit code 1 when anything did not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.attack.attack import ATTACKERS
from tests.attack.run import Arena, Plan, Row, chosen, quantile
from tests.attack.stand import Size, limits, shipped_maxmemory
from tests.support.processes import ROOT

START: Final = "<!-- attacks -->"
END: Final = "<!-- /attacks -->"
PLAN: Final = Plan(Size(workers=2, maxmemory=shipped_maxmemory(), share=1), quiet=10, attack=15, patient=75)


def milliseconds(row: Row, share: float) -> str:
    return f"{quantile(row.before, share) * 1e3:.0f} → {quantile(row.during, share) * 1e3:.0f}"


def line(row: Row) -> str:
    memory = " / ".join(f"{row.peaks[name] >> 20}" for name in limits())
    wrong = row.verdict()
    cells = (
        row.attacker.sentence,
        f"{row.made:,}",
        f"{row.refused:,}",
        milliseconds(row, 0.5),
        milliseconds(row, 0.99),
        f"{len(row.failed)} of {len(row.during)}",
        memory,
        "holds" if not wrong else "; ".join(wrong[:2]).replace("|", "/")[:200],
    )
    return f"| {' | '.join(cells)} |"


def head() -> list[str]:
    allowed = " / ".join(f"{limit >> 20}" for limit in limits().values())
    return [
        "| attacker | requests | refused | tenant p50, ms | tenant p99, ms | tenant failed "
        f"| MiB nginx / replica / Redis, of {allowed} | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]


def write(rows: list[Row]) -> None:
    """Put lines into the table of the page; those of attackers that have not run now stay."""
    page = ROOT / "docs" / "security.md"
    before, _, rest = page.read_text().partition(START)
    had, _, after = rest.partition(END)
    lines = {text.split(" | ")[0].removeprefix("| "): text for text in had.strip().splitlines()}
    lines |= {row.attacker.sentence: line(row) for row in rows}
    known = [lines[one.sentence] for one in ATTACKERS.values() if one.sentence in lines]
    page.write_text("\n".join([before + START, *head(), *known, END + after]))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/security.md")
    parser.add_argument(
        "--only", default="", help="run only attackers whose name has one of these in it: a,b"
    )
    parser.add_argument("--seconds", type=float, default=PLAN.attack, help="of each attack (15)")
    wishes = parser.parse_args()
    plan = replace(PLAN, attack=wishes.seconds)
    rows = []
    with tempfile.TemporaryDirectory(prefix="chat-attack-") as directory:
        arena = Arena(Path(directory), plan)
        try:
            for place, attacker in enumerate(chosen(wishes.only)):
                rows.append(row := arena.attack(attacker, place))
                say(f"{attacker.name}\n{line(row)}")
                say(f"    answers {row.answers}")
                for wrong in row.verdict()[:8]:
                    say(f"    {wrong}")
        finally:
            arena.close()
    if wishes.write:
        write(rows)
    return 1 if any(row.verdict() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
