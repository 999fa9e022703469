"""`python -m tests.attack.attacker <name> <json>`: one attacker, a process of its own.

Says `ready`, begins when a line comes on stdin, and at its end says what became of it as JSON.
It steps back from the processor (nice): another machine's attacker would not use ours at all.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from typing import Final

import orjson

from tests.attack import callers, costs, strangers
from tests.attack.attack import ATTACKERS, Attack, Attacker, Context, Tally

#: importing these registers their attackers
MODULES: Final = (strangers, callers, costs)

# Whatever an attacker has open, it is to end soon after its time.
_FAREWELL_SECONDS = 25.0


async def _run(attacker: Attacker, context: Context) -> Tally:
    attack = Attack(context)
    try:
        async with asyncio.timeout(context.seconds + _FAREWELL_SECONDS):
            await attacker.act(attack)
            await attack.pause(attack.left)
    except (TimeoutError, AssertionError, OSError, KeyError, ValueError) as error:
        attack.tally.check(False, f"the attacker itself failed: {type(error).__name__} {error}")
    return attack.tally


def main() -> None:
    attacker, context = ATTACKERS[sys.argv[1]], Context(**orjson.loads(sys.argv[2]))
    os.nice(10)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    tally = asyncio.run(_run(attacker, context))
    sys.stdout.write(orjson.dumps(tally).decode() + "\n")


if __name__ == "__main__":
    main()
