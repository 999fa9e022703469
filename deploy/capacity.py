"""What a number of concurrent answers needs: docs/capacity.md has the table and what it means.

    python deploy/capacity.py                        the table of docs/capacity.md
    python deploy/capacity.py --streams 5000 --rate 30 --window 0.1

Inputs are measured costs (`Costs`) and assumptions about use (`Use`); everything else is
arithmetic. Change an input, run it, and put the result into the document: a test compares them.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Costs:
    """Measured: one worker, 250 answers at 50 tokens/s with a reader each, on 2 shared cores."""

    worker_us_per_token: float = 40.0
    redis_us_per_append: float = 31.0  # with what turns cost that begin and end
    worker_kib: float = 94_000.0  # a worker at rest
    stream_kib: float = 94.0  # a running answer with a reader
    session_bytes: float = 4_600.0  # a session with one turn of 300 tokens, after its log is gone
    log_bytes: float = 3_600.0  # the log of that turn
    redis_connections: int = 2  # per worker: commands, and notifications
    redis_in_bytes_per_token: float = 165.0
    groq_bytes_per_token: float = 250.0
    client_bytes_per_token: float = 60.0


@dataclass(frozen=True)
class Use:
    """Assumed: how answers look, and how full things may be."""

    rate: float = 50.0  # tokens per second of an answer
    tokens: float = 300.0  # of an answer
    prompt_tokens: float = 1_000.0
    window: float = 0.04  # CHAT_FLUSH_WINDOW_SECONDS
    mean_of_peak: float = 0.25  # the day's mean load, as a share of its peak
    log_ttl: float = 86_400.0
    session_ttl: float = 30 * 86_400.0
    worker_share: float = 0.6  # of a core that a worker may use at the peak
    redis_share: float = 0.6
    workers_per_replica: int = 4


@dataclass(frozen=True)
class Plan:
    streams: int
    tokens: float  # per second
    turns: float  # per second
    workers: int
    replicas: int
    memory_gib: float  # of all workers
    shards: int
    logs_gib: float
    sessions_gib: float
    redis_connections: int
    redis_mbit: float
    client_mbit: float
    groq_tokens_per_minute: float


def plan(streams: int, use: Use | None = None, costs: Costs | None = None) -> Plan:
    use, costs = use or Use(), costs or Costs()
    tokens = streams * use.rate
    turns = tokens / use.tokens
    # One append takes what came within a window, so a stream makes no more than one per window.
    appends = streams * min(use.rate, 1 / use.window)
    workers = _whole(tokens * costs.worker_us_per_token / 1e6 / use.worker_share)
    kept = turns * use.mean_of_peak
    gib = 2.0**30
    return Plan(
        streams=streams,
        tokens=tokens,
        turns=turns,
        workers=workers,
        replicas=max(2, _whole(workers / use.workers_per_replica)),
        memory_gib=(workers * costs.worker_kib + streams * costs.stream_kib) * 1024 / gib,
        shards=_whole(appends * costs.redis_us_per_append / 1e6 / use.redis_share),
        logs_gib=kept * use.log_ttl * costs.log_bytes / gib,
        sessions_gib=kept * use.session_ttl * costs.session_bytes / gib,
        redis_connections=workers * costs.redis_connections,
        redis_mbit=tokens * costs.redis_in_bytes_per_token * 8 / 1e6,
        client_mbit=tokens * costs.client_bytes_per_token * 8 / 1e6,
        groq_tokens_per_minute=60 * (tokens + turns * use.prompt_tokens),
    )


def _whole(value: float) -> int:
    return math.ceil(round(value, 6))  # 7.000000001 is 7


def short(value: float) -> str:
    """Three digits, as a person would say them."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


ROWS = (
    ("tokens per second", "tokens"),
    ("turns per second", "turns"),
    ("workers (processes, one core each)", "workers"),
    ("replicas of 4 workers", "replicas"),
    ("memory of the workers, GiB", "memory_gib"),
    ("Redis shards", "shards"),
    ("logs kept for 24 h, GiB", "logs_gib"),
    ("sessions kept for 30 d, GiB", "sessions_gib"),
    ("connections to each Redis shard", "redis_connections"),
    ("into Redis, Mbit/s", "redis_mbit"),
    ("to clients, Mbit/s", "client_mbit"),
    ("Groq tokens per minute", "groq_tokens_per_minute"),
)


def table(plans: list[Plan]) -> str:
    head = "| concurrent answers | " + " | ".join(short(plan.streams) for plan in plans) + " |"
    lines = [head, "|---" * (len(plans) + 1) + "|"]
    lines += [
        f"| {label} | " + " | ".join(short(float(getattr(plan, name))) for plan in plans) + " |"
        for label, name in ROWS
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a number of concurrent answers needs.")
    parser.add_argument("--streams", type=int, nargs="*", default=[1_000, 100_000, 10_000_000])
    parser.add_argument("--rate", type=float, default=Use.rate, help="tokens per second of an answer")
    parser.add_argument("--tokens", type=float, default=Use.tokens, help="tokens of an answer")
    parser.add_argument("--window", type=float, default=Use.window, help="CHAT_FLUSH_WINDOW_SECONDS")
    parser.add_argument("--log-ttl", type=float, default=Use.log_ttl, help="CHAT_LOG_TTL_SECONDS")
    wishes = parser.parse_args()
    use = replace(Use(), rate=wishes.rate, tokens=wishes.tokens, window=wishes.window, log_ttl=wishes.log_ttl)
    sys.stdout.write(table([plan(streams, use) for streams in wishes.streams]) + "\n")


if __name__ == "__main__":
    main()
