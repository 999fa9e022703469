"""P1 to P3 where a failover loses what Redis had acknowledged: nobody is told a wrong text as right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.cluster_loss import stall_and_move
from tests.fault.store_loss import lose_writes

pytestmark = pytest.mark.fault


@pytest.mark.timeout(240)
async def test_a_failover_that_loses_acknowledged_writes_contradicts_nothing_that_was_shown(
    tmp_path: Path,
) -> None:
    found = await lose_writes(tmp_path, rounds=2, turns=14)
    assert found.wrong == []
    assert sum(found.readers.values()) == 28
    assert found.readers["WRONG"] == 0


@pytest.mark.timeout(240)
async def test_with_replicas_that_are_waited_for_a_lost_master_is_a_pause(tmp_path: Path) -> None:
    found = await lose_writes(tmp_path, rounds=2, turns=14, redis_wait_replicas=1)
    assert (found.wrong, found.affected) == ([], [])
    assert sum(found.readers.values()) == 28


@pytest.mark.timeout(240)
async def test_a_cluster_that_stands_still_in_part_while_slots_are_moved_tells_nobody_a_wrong_text(
    tmp_path: Path,
) -> None:
    found = await stall_and_move(tmp_path, rounds=1, turns=14)
    assert found.wrong == []
    assert sum(found.readers.values()) == 14
    assert found.turns["completed"] == 14
