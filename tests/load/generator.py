"""Open-loop load: streams begin when the plan says so, whatever became of those before them.

`offer` holds a number of streams of a rate open for a time and measures between two moments
while all of them flow: tokens that arrived, CPU time of the processes looked at, lateness.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.load.clients import Client, Tally, connect
from tests.load.processes import Sample, sample

#: port, tokens, rate, tally -> a client that asks for such an answer
Ask = Callable[[int, int, Tally], Client]

# A stream that has not ended so long after its plan is reported, not waited for.
_PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Load:
    streams: int
    rate: int
    tokens: int
    seconds: float

    @property
    def length(self) -> float:
        """Seconds of one answer."""
        return self.tokens / self.rate


@dataclass
class Offered:
    """What came of it: of the measured time, except texts, which are of all streams."""

    tokens: int
    seconds: float
    used: Mapping[str, Sample]
    tally: Tally = field(repr=False)

    def microseconds(self, process: str) -> float:
        """CPU time per token."""
        return self.used[process].cpu / max(1, self.tokens) * 1e6

    def lateness(self, quantile: float) -> float:
        return quantile_of(self.tally.lateness, quantile)


def quantile_of(values: object, quantile: float) -> float:
    ordered = sorted(values)  # type: ignore[call-overload]  # an array or a list of floats
    return float(ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]) if ordered else float("nan")


async def offer(load: Load, port: int, ask: Ask, processes: Mapping[str, int]) -> Offered:
    tally = Tally()
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def stream() -> None:
        try:
            client = await connect(lambda: ask(load.tokens, load.rate, tally), port)
        except OSError as error:
            tally.wrong.append(f"no connection: {error}")
            return
        await client.done.wait()
        client.close()

    begin = loop.time()
    pause = load.length / load.streams
    flowing, end = begin + load.length, begin + load.length + load.seconds
    before: dict[str, Sample] = {}
    tokens_before = 0
    measured_from = 0.0
    started = 0
    while (now := loop.time()) < end:
        if now >= flowing and not before:
            before, tokens_before, measured_from = _samples(processes), tally.tokens, time.monotonic()
            tally.noting = True
        while begin + started * pause <= now:
            started += 1
            task = loop.create_task(stream())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(max(0.0, min(begin + started * pause, end if before else flowing) - loop.time()))
    tally.noting = False
    after, tokens, seconds = (
        _samples(processes),
        tally.tokens - tokens_before,
        time.monotonic() - measured_from,
    )
    if tasks:
        _, late = await asyncio.wait(list(tasks), timeout=load.length + _PATIENCE_SECONDS)
        for task in late:
            task.cancel()
            tally.wrong.append("never ended")
    used = {name: after[name] - before[name] for name in processes}
    return Offered(tokens, seconds, used, tally)


def _samples(processes: Mapping[str, int]) -> dict[str, Sample]:
    return {name: sample(pid) for name, pid in processes.items()}
