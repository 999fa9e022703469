"""The chat page's parser of Markdown gives up in time, whatever a model says, and shows the text as it is."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.needed import program
from tests.support.running import ROOT

WEB = ROOT / "service" / "web"
RUN = """
import { blocks, parser } from "./js/parse.js";
const { text, clock } = JSON.parse(await new Promise((done) => {
  let all = "";
  process.stdin.on("data", (part) => (all += part)).on("end", () => done(all));
}));
const begin = performance.now();
const real = performance.now.bind(performance);
let looks = 0;
if (clock !== null) performance.now = () => clock * looks++;
const found = blocks(parser({}), text);
console.log(JSON.stringify({
  costly: found.costly ?? false, kinds: found.map((one) => one.type),
  whole: found.map((one) => one.raw).join("") === text,
  milliseconds: real() - begin, looks,
}));
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the modules that node takes for what they are."""
    made = tmp_path_factory.mktemp("web")
    for part in ("js", "vendor"):
        shutil.copytree(WEB / part, made / part)
    (made / "package.json").write_text('{"type": "module"}')
    (made / "run.mjs").write_text(RUN)
    return made


def parse(folder: Path, text: str, clock: float | None = None) -> dict[str, Any]:
    """What the page's parser makes of a text; `clock`: milliseconds that pass between two looks at it."""
    done = subprocess.run(
        [program("node"), "run.mjs"],
        cwd=folder,
        input=json.dumps({"text": text, "clock": clock}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


WIDE = "|" + "a|" * 10_000 + "\n|" + "-|" * 10_000 + "\n" + ("|x" * 100 + "|\n") * 250

# Each took 8 to 90 s, on an idle laptop.
COSTLY = {
    "emphasis inside words": "a_b" * 33_000,
    "emphasis that never ends": "_a" * 50_000,
    "strong that never ends": "**a" * 33_000,
    "stars after letters": "a*" * 50_000,
    "headings by underlines": "a\n-\n" * 25_000,
    "quotes with lazy lines": "> a\nb\n" * 16_000,
    "quotes in quotes": "> " * 50_000,
    "a table of 10,000 columns": WIDE,
}


@pytest.mark.parametrize("what", COSTLY)
def test_a_text_that_takes_a_parser_minutes_is_given_up_soon(folder: Path, what: str) -> None:
    found = parse(folder, COSTLY[what])
    assert found["whole"]
    assert found["milliseconds"] < 6_000


@pytest.mark.parametrize(
    "piece", ["_a_ ", "**a", "[[[[", "[a](", "`a", "~~a", "<", "![", "- [ ] a\n", "a  \n", "> ", "1. "]
)
def test_a_parser_that_is_out_of_time_leaves_the_text_as_it_is(folder: Path, piece: str) -> None:
    text = piece * (100_000 // len(piece))
    found = parse(folder, text, clock=10.0)
    assert found == {**found, "costly": True, "kinds": ["text"], "whole": True}
    # 200 ms and 5 µs a character, at 10 ms a look
    assert found["looks"] <= (200 + len(text) * 0.005) / 10 + 3


def test_while_there_is_time_all_is_parsed(folder: Path) -> None:
    text = (
        "# Title\n\nSome *words* and `code`.\n\n- one\n- two\n\n|a|b|\n|-|-|\n|c|d|\n\n```js\nlet a_b;\n```\n"
    )
    found = parse(folder, text, clock=0.0)
    kinds = [kind for kind in found["kinds"] if kind != "space"]
    assert kinds == ["heading", "paragraph", "list", "table", "code"]
    assert (found["costly"], found["whole"]) == (False, True)
    assert parse(folder, "_a_ " * 2_000, clock=0.0)["costly"] is False


def test_a_table_may_have_as_many_cells_as_a_page_can_show(folder: Path) -> None:
    def kinds(columns: int, rows: int) -> list[str]:
        text = "|" + "a|" * columns + "\n|" + "-|" * columns + "\n" + "|x|\n" * rows
        return [str(kind) for kind in parse(folder, text, clock=0.0)["kinds"]]

    assert kinds(20, 500) == ["table"]
    assert "table" not in kinds(200, 200)
