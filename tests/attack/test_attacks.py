"""Each attacker for two seconds beside the tenant: `make attack` in the size of CI.

No request of the tenant may fail, and everything has to hold that is no time: how late a request is
depends on the machine, and is measured by `make attack` on an idle one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attack.attack import ATTACKERS, Attacker
from tests.attack.run import Arena, Plan
from tests.attack.stand import Size
from tests.support.needed import program

pytestmark = [pytest.mark.alone, pytest.mark.fault, pytest.mark.timeout(120)]

#: An eighth of the shipped store, and quotas with it.
SMALL = Plan(Size(workers=1, maxmemory="96mb", share=0.125), quiet=0.3, attack=2, patient=2)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    program("nginx")
    arena = Arena(tmp_path_factory.mktemp("attack"), SMALL)
    yield arena
    arena.close()


@pytest.mark.parametrize("attacker", ATTACKERS.values(), ids=list(ATTACKERS))
def test_the_tenant_notices_nothing_of(attacker: Attacker, arena: Arena) -> None:
    row = arena.attack(attacker, list(ATTACKERS).index(attacker.name))
    assert row.faults() == []
    assert row.made > 0, "the attacker asked nothing"
