"""`python -m tests.load.profile`: where a worker's time goes, by py-spy, under a steady load or whole turns.

Samples of the Python stack, 100 a second, while all streams flow (or, with --turns, while one durable turn
of one token after the other is asked for on 16 connections). Each sample counts for the part
of the way that its innermost known function belongs to; what no part knows is `other`. Shares
are of samples in which the worker ran, so preemption by other processes counts as well.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

import uvloop

from tests.load.cases import Cases, Scale
from tests.load.clients import Tally
from tests.load.generator import Load
from tests.load.processes import Bench, running, sample

# Parts of the way, by file (or function) of the innermost frame that has one.
_PARTS: Final = (
    ("httptools_impl.py", "writing to clients (uvicorn, one system call per reader and window)"),
    ("store/connection/connection.py", "Redis: packing, writing, parsing replies"),
    ("store/", "Redis: packing, writing, parsing replies"),
    ("upstream/chunks.py", "decoding tokens"),
    ("upstream/transport.py", "reading from the provider, opening and closing its gate"),
    ("upstream/", "calling the provider (SDK, httpx)"),
    ("groq/", "calling the provider (SDK, httpx)"),
    ("httpx/", "calling the provider (SDK, httpx)"),
    ("engine/flusher.py", "collecting a window's appends, acknowledging them"),
    ("engine/live.py", "collecting a window's appends, acknowledging them"),
    ("engine/tail_cache.py", "readers: giving them what is new, following the log"),
    ("engine/reader.py", "readers: giving them what is new, following the log"),
    ("api/turn_response.py", "encoding and sending on"),
    ("dialects/", "encoding and sending on"),
    ("engine/runner.py", "the runner"),
    ("service/engine/", "begin and end of turns, leases, limits"),
    ("service/api/", "begin and end of turns, leases, limits"),
    ("structlog/", "logs and metrics"),
    ("service/telemetry/logs.py", "logs and metrics"),
    ("prometheus_client/", "logs and metrics"),
    ("service/telemetry/multiprocess.py", "logs and metrics"),
    ("fastapi/", "FastAPI, Starlette, pydantic"),
    ("starlette/", "FastAPI, Starlette, pydantic"),
    ("pydantic/", "FastAPI, Starlette, pydantic"),
    ("asyncio/runners.py", "uvloop itself: waiting, reading sockets, running callbacks"),
)


def part_of(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        for mark, part in _PARTS:
            if mark in frame:
                return part
    return "other"


def shares(raw: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if "_bootstrap" not in stack:  # threads that wait for work
            found[part_of(stack)] += int(count)
    return found


async def _sampled(bench: Bench, seconds: int) -> Counter[str]:
    raw = bench.directory / "stacks"
    command = [str(Path(sys.prefix, "bin", "py-spy")), "record", "--rate", "100", "--format", "raw"]
    command += ["--duration", str(seconds), "--output", str(raw), "--pid", str(bench.pids["service"])]
    spy = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await spy.wait()
    return shares(raw.read_text())


async def _streams(directory: Path, load: Load) -> tuple[Counter[str], float]:
    """Samples, and microseconds per token."""
    with running(directory, replicas=1) as bench:
        offered = asyncio.create_task(Cases(bench, Scale()).load("service", load))
        await asyncio.sleep(load.length + 1)  # until all of them flow
        found = await _sampled(bench, int(load.seconds) - 2)
        return found, (await offered).microseconds("service")


async def _turns(directory: Path, number: int) -> tuple[Counter[str], float]:
    """Samples, and microseconds per turn, those of their first fifth left out."""
    with running(directory, replicas=1) as bench:
        cases, tally = Cases(bench, Scale()), Tally()
        await cases.ask_turns(tally, number // 5)
        before = sample(bench.pids["service"])
        asked = asyncio.create_task(cases.ask_turns(tally, number))
        spied = asyncio.create_task(_sampled(bench, number // 500))
        await asked
        cost = (sample(bench.pids["service"]) - before).cpu / number * 1e6
        return await spied, cost


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load.profile", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=250)
    parser.add_argument("--rate", type=int, default=50, help="tokens per second and stream")
    parser.add_argument("--seconds", type=int, default=22)
    parser.add_argument(
        "--turns", type=int, help="whole turns of one token instead; 10,000 take half a minute"
    )
    wishes = parser.parse_args()
    load = Load(wishes.streams, wishes.rate, wishes.rate * 6, wishes.seconds)
    with tempfile.TemporaryDirectory(prefix="chat-profile-") as directory:
        place = Path(directory)
        found, cost = uvloop.run(_turns(place, wishes.turns) if wishes.turns else _streams(place, load))
    total = sum(found.values())
    what, unit = f"{wishes.streams} x {wishes.rate} tokens/s", "us/token"
    if wishes.turns:
        what, unit = f"{wishes.turns} turns of one token", "us/turn"
    print(f"{what}, {cost:.1f} {unit}, {total} samples\n")
    print(f"| part | share | {unit} |\n|---|---|---|")
    for part, count in found.most_common():
        print(f"| {part} | {count / total:.0%} | {cost * count / total:.1f} |")


if __name__ == "__main__":
    main()
