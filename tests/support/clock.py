"""A clock of the event loop that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from types import ModuleType, SimpleNamespace

import pytest


class LoopClock:
    """The time of the running loop as one module sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
        self.now = asyncio.get_running_loop().time()
        loop = SimpleNamespace(time=lambda: self.now)
        seen = SimpleNamespace(get_running_loop=lambda: loop, create_task=asyncio.create_task)
        monkeypatch.setattr(module, "asyncio", seen)
