"""`python -m tests.load.peers`: what others cost between a client and the same model, as a table.

All are asked for the same answers at the same rates, by the same clients, one after the other; each text is
compared with what it has to be. What each keeps of an answer differs, and is said in docs/performance.md.
Times want a machine with nothing else to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from tests.load import wire
from tests.load.clients import Client, Tally, connect
from tests.load.generator import Load, Offered, offer, quantile_of
from tests.load.peers.programs import INSTALLED, Peer, completions, ours
from tests.load.processes import Bench, running

_LOAD: Final = Load(50, 45, 150, 6.0)
_ROUNDS: Final = 3
_PROBES: Final = 200
_PAUSE_SECONDS: Final = 0.02  # between two first tokens


@dataclass
class Measured:
    name: str
    cpu: float  # us per token, of the process itself
    redis: float  # us per token, of Redis for it
    late: tuple[float, float]  # s, p50 and p99
    first: tuple[float, float]  # s from the request to the first token, p50 and p99
    wrong: int


async def _first_tokens(port: int, peer: Peer, tally: Tally) -> tuple[float, float]:
    """One answer of one token after the other, with nothing else running."""
    for _ in range(_PROBES):
        client: Client = await connect(partial(peer.ask, 1, 0, tally), port)
        await client.done.wait()
        client.close()
        await asyncio.sleep(_PAUSE_SECONDS)
    return quantile_of(tally.first_after, 0.5), quantile_of(tally.first_after, 0.99)


async def _measure(peer: Peer) -> Measured:
    print(f"... {peer.name}", file=sys.stderr, flush=True)
    tally = Tally()
    first = await _first_tokens(peer.port, peer, tally)
    rounds = [await offer(_LOAD, peer.port, peer.ask, peer.pids) for _ in range(_ROUNDS)]
    late = [value for offered in rounds for value in offered.tally.lateness]
    return Measured(
        peer.name,
        _cost(rounds, "peer"),
        _cost(rounds, "redis") if "redis" in peer.pids else 0.0,
        (quantile_of(late, 0.5), quantile_of(late, 0.99)),
        first,
        len(tally.wrong) + sum(len(offered.tally.wrong) for offered in rounds),
    )


def _cost(rounds: list[Offered], process: str) -> float:
    return statistics.median(offered.microseconds(process) for offered in rounds)


async def _compare(bench: Bench) -> list[Measured]:
    measured = [await _measure(peer) for peer in ours(bench)]
    for start in INSTALLED:
        with contextlib.ExitStack() as stack:
            measured.append(await _measure(stack.enter_context(start(bench))))
    direct = Peer("the model itself", bench.upstream, partial(completions, wire.COMPLETIONS), {})
    first = await _first_tokens(bench.upstream, direct, Tally())
    for one in measured:
        one.first = (one.first[0] - first[0], one.first[1] - first[1])
    return measured


def _table(measured: list[Measured]) -> str:
    unit = next((one.cpu for one in measured if one.name == "nginx"), float("nan"))
    lines = [
        "| | CPU, µs/token | of nginx | Redis for it, µs/token | lateness p50 / p99, ms "
        "| added to the first token p50 / p99, ms | answers not exact |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        late, first = (" / ".join(f"{value * 1e3:.3g}" for value in pair) for pair in (one.late, one.first))
        lines.append(
            f"| {one.name} | {one.cpu:.3g} | {one.cpu / unit:.3g} x | {one.redis:.3g} | {late} | {first} "
            f"| {one.wrong} |"
        )
    return "\n".join(lines)


def main() -> int:
    gc.disable()  # as in tests.load
    with (
        tempfile.TemporaryDirectory(prefix="chat-bench-") as directory,
        running(Path(directory), replicas=1) as bench,
    ):
        measured = uvloop.run(_compare(bench))
    print(_table(measured))
    return 1 if any(one.wrong for one in measured if one.name == "the service") else 0


if __name__ == "__main__":
    sys.exit(main())
