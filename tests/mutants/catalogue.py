"""The planted faults as faults.toml keeps them, and what is wrong with an entry."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.support.running import ROOT

FILE = Path(__file__).with_name("faults.toml")


@dataclass(frozen=True)
class Fault:
    """A change of some words in one file, what a user would see of it, and the tests that notice."""

    file: str
    old: str
    new: str
    seen: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{Path(self.file).name}: {self.seen}"

    def planted(self, text: str) -> str:
        """The file's text with the fault in it."""
        return text.replace(self.old, self.new)

    def rotten(self, root: Path = ROOT) -> str:
        """Why it cannot be planted any more, '' where it can."""
        path = root / self.file
        if not path.is_file():
            return f"{self.file} is not there"
        times = path.read_text().count(self.old)
        if times != 1:
            return f"{self.file} has `{self.old}` {times} times"
        missing = [test for test in self.tests if not (root / test).is_file()]
        return f"no file {missing[0]}" if missing else ""


def faults(file: Path = FILE) -> list[Fault]:
    entries = tomllib.loads(file.read_text())["fault"]
    return [Fault(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]
