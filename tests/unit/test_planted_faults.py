"""The planted faults of tests/mutants fit the code as it is: data that nobody looks at rots."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.catalogue import Fault, faults

FAULTS = faults()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name[:60])
def test_a_fault_can_be_planted(fault: Fault) -> None:
    assert fault.rotten() == ""
    assert fault.new != fault.old
    assert len(fault.seen) > 10


def test_there_are_enough_of_them_and_none_twice() -> None:
    assert len({(fault.file, fault.old, fault.new) for fault in FAULTS}) == len(FAULTS) >= 60


def test_a_fault_whose_line_has_changed_is_told(tmp_path: Path) -> None:
    fault = Fault("service/a.py", "x = 1", "x = 2", "x is wrong for a user", ("tests/test_a.py",))
    assert fault.rotten(tmp_path) == "service/a.py is not there"
    (tmp_path / "service").mkdir()
    (tmp_path / "service/a.py").write_text("x = 1\nx = 1\n")
    assert fault.rotten(tmp_path) == "service/a.py has `x = 1` 2 times"
    (tmp_path / "service/a.py").write_text("x = 1\n")
    assert fault.rotten(tmp_path) == "no file tests/test_a.py"
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").touch()
    assert fault.rotten(tmp_path) == ""
    assert fault.planted("x = 1\n") == "x = 2\n"
