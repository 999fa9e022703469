"""The cases of the benchmark: each measures one row of the table and checks every text.

A case returns (what, target, seen). Figures are CPU time per token of single processes, set
against R0, a TCP relay measured in the same minute; wall times only where the row is about time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx

from tests.load import wire
from tests.load.clients import Client, EventsClient, GroqClient, Tally, connect
from tests.load.generator import Load, Offered, offer, quantile_of
from tests.load.processes import SMALL_MODEL, Bench, sample

Row = tuple[str, str, str]
Case = Callable[[Bench, bool], Awaitable[list[Row]]]

_IDLE_READERS: Final = 2_000
_TURNS: Final = 3_000


def direct(tokens: int, rate: int, tally: Tally) -> Client:
    return GroqClient(wire.groq_request("bench", wire.wish(tokens, rate)), tokens, rate, tally)


def chat(tokens: int, rate: int, tally: Tally) -> Client:
    return Client(wire.chat_request("bench", wire.wish(tokens, rate)), tokens, rate, tally)


def texts(offered: Offered) -> str:
    tally = offered.tally
    return f"{tally.exact} texts exact, {len(tally.wrong)} wrong, {tally.shed} shed"


async def _against_relay(bench: Bench, load: Load) -> list[Offered]:
    """Relay, service, baseline, relay again: the first and the last tell the machine's noise."""
    return [
        await offer(load, bench.relay, direct, bench.pids),
        await offer(load, bench.service, chat, bench.pids),
        await offer(load, bench.baseline, chat, bench.pids),
        await offer(load, bench.relay, direct, bench.pids),
    ]


def _ratios(what: str, target: str, runs: list[Offered]) -> list[Row]:
    first, service, baseline, last = runs
    relay = (first.microseconds("relay") + last.microseconds("relay")) / 2
    noise = abs(first.microseconds("relay") - last.microseconds("relay")) / relay
    own, redis = service.microseconds("service"), service.microseconds("redis")
    obvious = baseline.microseconds("baseline")
    return [
        (
            what, target,
            f"{own / relay:.2f} x R0 ({own:.0f} of {relay:.0f} us), "
            f"with Redis {(own + redis) / relay:.2f} x; "
            f"the obvious way {obvious / relay:.1f} x; noise of R0 {noise:.0%}; {texts(service)}",
        )
    ]  # fmt: skip


async def groq_speed(bench: Bench, quick: bool) -> list[Row]:
    runs = await _against_relay(bench, Load(5, 500, 1000, 3 if quick else 8))
    return _ratios("500 tokens/s per stream, 5 streams", "<= 1.5 x R0, <= 2 x with Redis", runs)


async def slower(bench: Bench, quick: bool) -> list[Row]:
    runs = await _against_relay(bench, Load(20, 100, 300, 3 if quick else 8))
    return _ratios("100 tokens/s per stream, 20 streams", "<= 3 x R0", runs)


async def many_streams(bench: Bench, quick: bool) -> list[Row]:
    load = Load(500, 50, 200, 4 if quick else 10)
    run = await offer(load, bench.service, chat, bench.pids)
    share = run.used["service"].cpu / run.seconds
    return [
        (
            "500 streams x 50 tokens/s on one worker", "p99 lateness < 100 ms",
            f"{run.tokens / run.seconds:.0f} tokens/s, lateness p50 {run.lateness(0.5) * 1e3:.0f} ms, "
            f"p99 {run.lateness(0.99) * 1e3:.0f} ms, worker {share:.0%} of a core; {texts(run)}",
        )
    ]  # fmt: skip


async def first_token(bench: Bench, quick: bool) -> list[Row]:
    load = Load(250, 50, 200, 3 if quick else 8)
    alone = await offer(load, bench.upstream, direct, bench.pids)
    through = await offer(load, bench.service, chat, bench.pids)
    added = [
        (quantile_of(through.tally.first_after, q) - quantile_of(alone.tally.first_after, q)) * 1e3
        for q in (0.5, 0.99)
    ]
    return [
        ("added time to first token, 250 streams", "p50 <= 3 ms, p99 <= 10 ms",
         f"p50 {added[0]:.1f} ms, p99 {added[1]:.1f} ms; {texts(through)}")
    ]  # fmt: skip


async def one_token(bench: Bench, quick: bool) -> list[Row]:
    tally = Tally()
    turns = 500 if quick else _TURNS
    before = sample(bench.pids["service"])

    async def client() -> None:
        connection = await connect(lambda: chat(1, 0, tally), bench.service)
        for _ in range(turns // 10):
            await connection.done.wait()
            connection.ask(wire.chat_request("bench", wire.wish(1, 0)))
        await connection.done.wait()
        connection.close()

    await asyncio.gather(*(client() for _ in range(10)))
    used = sample(bench.pids["service"]) - before
    return [
        ("1-token answers, whole durable turns", ">= 400 per core-second",
         f"{tally.exact / used.cpu:.0f} per core-second of the worker; {len(tally.wrong)} wrong"),
        (f"memory of the worker over {tally.exact} such turns", "flat", f"{used.resident:+d} KiB"),
    ]  # fmt: skip


async def further_reader(bench: Bench, quick: bool) -> list[Row]:
    """Five running turns, each read by one reader on the other replica."""
    tokens = 1500 if quick else 4000
    tally = Tally()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bench.service}") as http:
        paths = []
        for number in range(5):
            answer = await http.post(
                f"/v1/sessions/further-{number}-{time.time_ns()}/turns",
                json={"content": wire.wish(tokens, 500)}, headers={"Prefer": "respond-async"},
            )  # fmt: skip
            paths.append(answer.headers["location"] + "/events")
    before = sample(bench.pids["replica"])
    relay = await offer(Load(5, 500, 1000, 2), bench.relay, direct, bench.pids)
    readers = [
        await connect(
            lambda path=path: EventsClient(wire.events_request("bench", path), tokens, 500, tally),  # type: ignore[misc]
            bench.replicas[1].port,
        )
        for path in paths
    ]  # fmt: skip
    await asyncio.gather(*(asyncio.wait_for(reader.done.wait(), 60) for reader in readers))
    used = sample(bench.pids["replica"]) - before
    own = used.cpu / max(1, tally.tokens) * 1e6
    unit = relay.microseconds("relay")
    return [
        ("a further reader on another replica, 500 tokens/s", "<= +1 x R0 per token",
         f"{own / unit:.2f} x R0 ({own:.0f} us); {tally.exact} exact, {len(tally.wrong)} wrong")
    ]  # fmt: skip


async def idle_readers(bench: Bench, quick: bool) -> list[Row]:
    count = 300 if quick else _IDLE_READERS
    pid = bench.pids["replica"]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bench.service}") as http:
        answer = await http.post(
            "/v1/sessions/idle/turns", json={"content": wire.wish(1, 1, first_delay=25)},
            headers={"Prefer": "respond-async"},
        )  # fmt: skip
    path = answer.headers["location"] + "/events"
    tally = Tally()
    before = sample(pid)
    readers = []
    for _ in range(count):
        readers.append(
            await connect(
                lambda: EventsClient(wire.events_request("bench", path), 1, 0, tally), bench.replicas[1].port
            )
        )
    await asyncio.sleep(2)  # until all are open and quiet
    opened = sample(pid)
    await asyncio.sleep(5)  # the time that is measured
    later = sample(pid)
    for reader in readers:
        reader.close()
    return [
        (f"{count} open idle readers on one worker", "<= 40 KiB each, no measurable CPU",
         f"{(opened - before).resident / count:.1f} KiB each, {(later - opened).cpu / 5:.1%} of a core")
    ]  # fmt: skip


async def long_history(bench: Bench, quick: bool) -> list[Row]:
    """Begin with 10 and with 10,000 messages, a model with a small window."""
    took: dict[int, list[float]] = {}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bench.service}", timeout=60) as http:
        for count in (10, 200, 10_000):
            session = f"long-{count}-{time.time_ns()}"
            history = [
                {"role": ("user", "assistant")[n % 2], "content": f"message {n}"} for n in range(count)
            ]
            body: dict[str, Any] = {
                "model": SMALL_MODEL, "session_id": session, "user_query": wire.wish(1, 0)
            }  # fmt: skip
            await http.post("/chat-with-history", json={**body, "history": history})
            took[count] = []
            for _ in range(20 if quick else 100):
                begin = time.perf_counter()
                await http.post("/chat", json=body)
                took[count].append(time.perf_counter() - begin)
    few, full, many = (quantile_of(took[count], 0.5) * 1e3 for count in (10, 200, 10_000))
    return [
        ("a turn in a history of 10,000 messages", "as with fewer",
         f"{many:.1f} ms; {full:.1f} ms with 200 (the window full too), {few:.1f} ms with 10 (p50)")
    ]  # fmt: skip


async def log_memory(bench: Bench, quick: bool) -> list[Row]:
    store = bench.client()
    seen = []
    for name, rate in (("fast", 500), ("slow", 50)):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bench.service}", timeout=60) as http:
            await http.post(
                "/chat", json={"user_query": wire.wish(500, rate), "session_id": f"memory-{name}"}
            )
        [log] = list(store.scan_iter(f"*memory-{name}*:log:*"))
        whole = sum(int(store.memory_usage(key) or 0) for key in store.scan_iter(f"*memory-{name}*"))
        seen.append(
            f"{int(store.memory_usage(log) or 0) / 1024:.1f} KiB at {rate} tokens/s "
            f"(session and turn in all {whole / 1024:.1f} KiB)"
        )
    return [("the log of a 500-token answer", "<= 8 KiB", "; ".join(seen))]


CASES: Final[tuple[Case, ...]] = (
    groq_speed, slower, further_reader, many_streams, first_token, one_token, idle_readers, long_history,
    log_memory,
)  # fmt: skip
