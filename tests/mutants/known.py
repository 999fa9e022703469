"""Outcomes of runs before, by what they depend on: the fault, its file and its tests as they were."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict
from pathlib import Path

from tests.mutants.catalogue import Fault
from tests.mutants.tries import Outcome
from tests.support.running import ROOT


class Known:
    """Written after each outcome, so that a run can be ended at any time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._held: dict[str, dict[str, object]] = {}
        if file.is_file():
            self._held = json.loads(file.read_text())

    def get(self, fault: Fault) -> Outcome | None:
        """None where it is not known, and where the fault has passed: it is tried again then."""
        held = self._held.get(_key(fault))
        return Outcome(str(held["by"]), str(held["what"]), float(str(held["seconds"]))) if held else None

    def put(self, fault: Fault, outcome: Outcome) -> None:
        with self._lock:
            if outcome.by:
                self._held[_key(fault)] = asdict(outcome)
                self._file.write_text(json.dumps(self._held, indent=1))


def _key(fault: Fault) -> str:
    texts = [(ROOT / name).read_text() for name in (fault.file, *fault.tests) if (ROOT / name).is_file()]
    return hashlib.sha256(json.dumps([asdict(fault), texts]).encode()).hexdigest()[:32]
