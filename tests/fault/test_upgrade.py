"""Version 0.1.0 and this one share a Redis while one replaces the other: nobody is told a wrong text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.upgrade import upgrade_under_load

pytestmark = pytest.mark.fault


@pytest.mark.timeout(240)
async def test_old_and_new_replicas_take_over_from_each_other(tmp_path: Path) -> None:
    talk = await upgrade_under_load(tmp_path, seconds=20, users=8)
    assert talk.wrong == []
    assert talk.failed == []
    assert sum(talk.did.values()) >= 8, talk.did
    assert min(talk.takeovers.values()) > 0, talk.takeovers
