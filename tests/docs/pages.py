"""The pages of the documentation as tests see them: fenced blocks, tables, headings, links.

Conventions (docs/contributing.md): a `sh` block is run, `sh norun` is not and has a comment with
its reason on the line before, `sh server` runs on while the page goes on, `sh exit=N` ends with
that status; a `text` block right after it is what it prints. Nothing here runs anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.running import ROOT

SHELL = ("sh", "bash", "shell", "console", "zsh")

_FENCE = re.compile(r"^(`{3,})\s*(.*?)\s*$")
_LINK = re.compile(
    r"(?<!\!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|<(?:img|a)[^>]+(?:src|href)=\"([^\"]+)\""
)
_IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)|srcset=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block; `before` is the line above it that is not empty, `printed` the text below it."""

    page: Path
    line: int
    language: str
    marks: tuple[str, ...]
    text: str
    before: str
    printed: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def exit(self) -> int:
        """The status with which the last command is to end."""
        return next((int(mark[5:]) for mark in self.marks if mark.startswith("exit=")), 0)


def pages() -> list[Path]:
    """Everything that people read, in the order in which they would."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def lines_outside_blocks(page: Path) -> Iterator[str]:
    fence = ""
    for line in page.read_text().splitlines():
        found = _FENCE.match(line.strip())
        if fence:
            if found and found[1] == fence and not found[2]:
                fence = ""
        elif found:
            fence = found[1]
        else:
            yield line


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page; what a shell block prints goes with it."""
    found: list[Block] = []
    lines = page.read_text().splitlines()
    before, since_last, at = "", "", 0
    while at < len(lines):
        opening = _FENCE.match(lines[at].strip())
        if opening is None:
            before = lines[at].strip() or before
            since_last += lines[at].strip()
            at += 1
            continue
        end = at + 1
        while end < len(lines) and lines[end].strip() != opening[1]:
            end += 1
        language, *marks = opening[2].split() or [""]
        text = "\n".join(lines[at + 1 : end])
        last = found[-1] if found else None
        if language == "text" and last and last.language in SHELL and not since_last and last.printed is None:
            found[-1] = Block(last.page, last.line, last.language, last.marks, last.text, last.before, text)
        else:
            found.append(Block(page, at + 1, language, tuple(marks), text, before))
        before, since_last, at = "", "", end + 1
    return found


def shell_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in SHELL]


def rows(page: Path, under: str = "") -> list[list[str]]:
    """The cells of all table rows below a heading (of the whole page unless given), without heads."""
    found: list[list[str]] = []
    heading = ""
    previous: list[str] | None = None
    for line in lines_outside_blocks(page):
        if line.startswith("#"):
            heading = line.lstrip("# ").strip()
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not line.startswith("|"):
            previous = None
        elif all(set(cell) <= set(":- ") for cell in cells):
            if previous is not None and found and found[-1] is previous:
                found.pop()
        elif not under or heading == under:
            found.append(cells)
            previous = cells
    return found


def code(cell: str) -> list[str]:
    """What stands in `code` in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub makes of a page's headings, and explicit ones."""
    found: set[str] = set()
    for line in lines_outside_blocks(page):
        found.update(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", line))
        if line.startswith("#"):
            title = re.sub(r"[`*]|\]\([^)]*\)|\[", "", line.lstrip("#").strip())
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            found.add(slug if slug not in found else f"{slug}-1")
    return found


def links(page: Path) -> list[str]:
    """Targets of links and images, outside of code."""
    found = []
    for line in lines_outside_blocks(page):
        line = re.sub(r"`[^`]*`", "", line)
        for pattern in (_LINK, _IMAGE):
            found += [first or second for first, second in pattern.findall(line)]
    return found
