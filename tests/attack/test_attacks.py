"""Each attacker for two seconds beside the tenant: `make attack` in the size of CI.

The whole rule holds here too. Two seconds are ten requests of the tenant, and one that the machine itself
holds up is their p99: so an attack whose tenant was late is taken again, at most twice. What an attacker
does to the tenant it does each time.
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
TAKINGS = 3


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    program("nginx")
    arena = Arena(tmp_path_factory.mktemp("attack"), SMALL)
    yield arena
    arena.close()


@pytest.mark.parametrize("attacker", ATTACKERS.values(), ids=list(ATTACKERS))
def test_the_tenant_notices_nothing_of(attacker: Attacker, arena: Arena) -> None:
    late: list[str] = []
    while len(late) < TAKINGS:
        row = arena.attack(attacker, list(ATTACKERS).index(attacker.name))
        assert row.faults() == []
        assert row.made > 0, "the attacker asked nothing"
        if not row.late:
            return
        late += row.verdict()
    pytest.fail(f"late in each of {TAKINGS} takings: {late}")
