"""Parts of the chat page that need no browser, in node: sentences, pieces of Markdown, formulas, recovery."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.needed import program
from tests.support.running import ROOT

WEB: Final = ROOT / "service" / "web"
RUN: Final = """
const { module, code, given } = JSON.parse(await new Promise((done) => {
  let all = "";
  process.stdin.on("data", (part) => (all += part)).on("end", () => done(all));
}));
const loaded = await import(`./js/${module}.js`);
const run = new Function("m", "given", `return (async () => { ${code} })()`);
console.log(JSON.stringify((await run(loaded, given)) ?? null));
process.exit(0);
"""
NOW: Final = 1_764_450_000_000  # 29 November 2025, 21:00 UTC


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the modules that node takes for what they are."""
    made = tmp_path_factory.mktemp("web")
    for part in ("js", "vendor"):
        shutil.copytree(WEB / part, made / part)
    (made / "package.json").write_text('{"type": "module"}')
    (made / "run.mjs").write_text(RUN)
    return made


def play(folder: Path, module: str, code: str, given: Any = None) -> Any:
    """What code makes of a module `m` and of what it is given."""
    done = subprocess.run(
        [program("node"), "run.mjs"],
        cwd=folder,
        input=json.dumps({"module": module, "code": code, "given": given}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin:/usr/local/bin"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


DAY: Final = "The budget of 20000 tokens a day is used up; there is room again in 15000 s."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            {"code": "budget_exhausted", "message": DAY, "retryAfter": 15000},
            "Your budget of 20,000 tokens a day is used up."
            " Try again in 4 h 10 min. That is tomorrow at 01:10.",
        ),
        (
            {
                "code": "budget_exhausted",
                "message": "The budget of 9 tokens a day is smaller than this message needs.",
            },
            "The budget of 9 tokens a day is smaller than this message needs.",
        ),
        (
            {
                "code": "upstream_unavailable",
                "message": "The provider refuses this service's key; its operators are told.",
            },
            "The provider refuses this service's key; its operators are told.",
        ),
        (
            {
                "code": "upstream_unavailable",
                "message": "The model is over capacity; try again in a moment.",
                "retryAfter": 5,
            },
            "The model is over capacity. Try again in 5 s.",
        ),
        (
            {"code": "upstream_rate_limited", "message": "x; try again in 7200 s.", "retryAfter": 7200},
            "The provider's limit for this model is used up. Try again in 2 h. That is at 23:00.",
        ),
        (
            {"code": "upstream_rate_limited", "message": "x", "retryAfter": 3},
            "The model is very busy just now. Try again in 3 s.",
        ),
        (
            {"code": "rate_limited", "retryAfter": 200_000},
            "You have sent as many messages as your limit allows for now."
            " Try again in 55 h 34 min. That is on 2 December at 04:33.",
        ),
        ({"code": "of_the_future", "message": "Something new."}, "Something new."),
    ],
)
def test_what_the_service_knows_is_said(folder: Path, error: dict[str, Any], words: str) -> None:
    given = {"error": error, "now": NOW}
    code = "return m.sentence(given.error) + m.when(given.error, given.now)"
    assert play(folder, "words", code, given) == words


CUT: Final = "return m.pieces(given).map(({kind, raw, text, more, head}) => ({kind, raw, text, more, head}))"
LIST: Final = "\n".join(f"- item **{number}** of a long list" for number in range(1000))
TABLE: Final = "| a | b |\n|---|---|\n" + "".join(f"| {number} | some words |\n" for number in range(800))
LINES: Final = "\n".join(f"line {number} of a log without empty lines" for number in range(600))


@pytest.mark.parametrize("text", [LIST, TABLE, LINES], ids=["a list", "a table", "lines"])
def test_a_long_block_is_cut_into_pieces_that_are_drawn_one_by_one(folder: Path, text: str) -> None:
    found = play(folder, "pieces", CUT, text)
    assert "".join(piece["raw"] for piece in found) == text
    assert max(len(piece["raw"]) for piece in found) < 2200
    assert [piece["more"] for piece in found] == [False, *[True] * (len(found) - 1)]
    assert {piece["head"] for piece in found[1:]} == {TABLE[:20] if text is TABLE else ""}


MIXED: Final = (
    "# T\n\npara\nmore\n\n- a\n\n- b\n\n  ```js\n  x\n\n  - y\n  ```\n\nafter\n~~~py\ncode\n\n```\n~~~\n\n"
    "end\n\n    indented\n\n    still\n\n> quote\n\n```\nopen\n\nend"
)


def test_pieces_are_cut_where_nothing_depends_on_what_came_before(folder: Path) -> None:
    found = play(folder, "pieces", CUT, MIXED)
    assert "".join(piece["raw"] for piece in found) == MIXED
    assert [(piece["kind"], piece["raw"].split("\n")[0]) for piece in found if piece["raw"].strip()] == [
        ("prose", "# T"),
        ("prose", "para"),
        ("prose", "- a"),
        ("prose", "after"),
        ("code", "~~~py"),
        ("prose", ""),
        ("prose", "> quote"),
        ("code", "```"),
    ]
    assert [piece["text"] for piece in found if piece["kind"] == "code"] == ["code\n\n```\n", "open\n\nend"]


def test_what_is_cut_stays_cut_while_the_text_grows(folder: Path) -> None:
    """All pieces but the last are final: drawn once, they are never drawn again."""
    code = """
    for (let i = 1; i <= given.length; i++) {
      const now = m.pieces(given.slice(0, i)).slice(0, -1).map((piece) => piece.raw);
      const whole = m.pieces(given).map((piece) => piece.raw);
      for (const [at, raw] of now.entries()) if (whole[at] !== raw) return [i, at, raw, whole[at]];
    }"""
    assert (
        play(folder, "pieces", code, MIXED + "\n\n" + LIST[:6000] + "\n\n- x\n1\n\n1. one\n\n2. two\n")
        is None
    )


@pytest.mark.parametrize("text", ["*a\n" * 30_000, "a\n-\n" * 25_000, "> " * 50_000, "|a" * 50_000])
def test_cutting_is_quick_whatever_a_model_says(folder: Path, text: str) -> None:
    code = "const begin = performance.now(); m.pieces(given); return performance.now() - begin"
    assert play(folder, "pieces", code, text) < 2_000


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("\\(x_1\\) and", "x_1"),
        ("\\[ a \\]", "a"),
        ("$$\nx\n$$", "x"),
        ("$\\alpha$.", "\\alpha"),
        ("\\begin{align}a&=b\\end{align}", "\\begin{align}a&=b\\end{align}"),
        ("$5 and $6", None),
        ("$5 or 6$", None),
        ("$HOME and $PATH", None),
        ("$10-$20", None),
        ("\\(never closed", None),
        ("\\[a\n\nb\\]", None),
        ("$ x $", None),
    ],
)
def test_formulas_are_told_from_money_and_variables(folder: Path, text: str, tex: str | None) -> None:
    found = play(folder, "formulas", "return m.formula(given)", text)
    assert (found and found["tex"]) == tex


def test_what_failed_is_tried_again_until_it_works_and_at_once_when_the_world_has_changed(
    folder: Path,
) -> None:
    code = """
    const heard = [];
    let tries = 0;
    const recovery = new m.Recovery({
      failed: (name) => heard.push(`failed ${name}`), succeeded: (name) => heard.push(`succeeded ${name}`),
    });
    const load = async () => { if (++tries < 3) throw Object.assign(new Error(), {status: 0}); };
    await recovery.load("list", load);
    recovery.nudge();
    await new Promise((done) => setTimeout(done));
    await new Promise((done) => setTimeout(done, 2500));
    return [tries, heard];"""
    assert play(folder, "recovery", code) == [3, ["failed list", "failed list", "succeeded list"]]


def test_a_chat_is_written_as_markdown(folder: Path) -> None:
    session = {"title": "Blue", "system_prompt": "Be brief."}
    messages = [
        {"role": "user", "content": "Why?", "state": "completed"},
        {"role": "assistant", "content": "So.", "state": "stopped", "model": "m"},
    ]
    found = play(folder, "export", "return m.markdown(given)", {"session": session, "messages": messages})
    assert found == "# Blue\n\n> Be brief.\n\n## You\n\nWhy?\n\n## Answer (m), stopped\n\nSo.\n"
