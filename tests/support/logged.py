"""What a module logs, whatever an earlier test has made structlog leave out or keep."""

from __future__ import annotations

from types import ModuleType

import pytest
import structlog
from structlog.testing import LogCapture
from structlog.typing import EventDict


def logged_by(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[EventDict]:
    """Its lines from now on. `capture_logs` misses those of a level that a service of a test leaves out."""
    capture = LogCapture()
    every = structlog.make_filtering_bound_logger(0)
    monkeypatch.setattr(module, "log", structlog.wrap_logger(None, [capture], every))
    return capture.entries
