"""Links lead somewhere, every page can be found, and no page says where it was written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import anchors, blocks, lines_outside_blocks, links, pages
from tests.support.running import ROOT


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=_id)
def test_every_relative_link_resolves(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, fragment = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{link} leads nowhere"
        assert file.is_relative_to(ROOT), f"{link} leads out of the project"
        if fragment and file.suffix == ".md":
            assert fragment in anchors(file), f"{link}: {file.name} has no such heading"


@pytest.mark.parametrize("page", pages(), ids=_id)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """`service/...`, `tests/...`, `deploy/...` and `docs/...` in code are paths of this project."""
    for line in lines_outside_blocks(page):
        for path in re.findall(r"`((?:service|tests|deploy|docs)/[\w./-]*)`", line):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_every_page_is_linked_from_the_readme_or_its_index() -> None:
    readme, index = ROOT / "README.md", ROOT / "docs" / "decisions" / "README.md"
    linked = {(readme.parent / link.partition("#")[0]).resolve() for link in links(readme)}
    linked |= {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert [page for page in pages() if page != readme and page not in linked] == []


def test_pages_name_no_machine() -> None:
    for page in pages():
        assert not re.search(r"(?<![\w.])/(?:work|home|root|Users)/\w", page.read_text()), page


def test_blocks_name_their_language() -> None:
    for page in pages():
        for block in blocks(page):
            assert block.language, f"{block.place} has no language"


def test_ten_questions_are_answered_by_files_in_which_the_answer_stands() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| .+\? \| (.+) \| (.+) \|$", text, re.M)
    assert len(rows) == 10
    for answer, names in rows:
        files = [(ROOT / path).read_text() for path in re.findall(r"`(service/[\w/.]+)`", answer)]
        assert files, answer
        for name in re.findall(r"`(\w+)`", names):
            assert any(re.search(rf"\b{name}\b", file) for file in files), name


def test_the_file_map_names_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for folder in sorted((ROOT / "service").iterdir()):
        if folder.is_dir() and any(folder.iterdir()) and not folder.name.startswith("__"):
            assert f"`service/{folder.name}/`" in text, folder.name
    for module in sorted((ROOT / "service").glob("*.py")):
        known = f"`service/{module.name}`" in text
        assert known or module.stem in ("__init__", "errors", "ids", "settings", "keys_cli"), module.name
