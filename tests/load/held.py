"""Cases about what is kept rather than moved: idle readers, long histories, memory in Redis."""

from __future__ import annotations

import asyncio
import statistics
from typing import Final

import httpx

from tests.load import wire
from tests.load.cases import Cases
from tests.load.clients import Client, EventsClient, Tally, connect
from tests.load.processes import SMALL_MODEL, sample

_SILENT_TURNS: Final = 20
_SILENCE_SECONDS: Final = 28  # under the time that the first token may take
_ANSWER: Final = 500  # tokens, for sizes in Redis
_HISTORIES: Final = (10, 10_000)  # messages
_ITEMS: Final = 20
_ROUNDS: Final = 5


def _http(cases: Cases) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{cases.bench.service}",
        timeout=60,
        headers={"Authorization": f"Bearer {cases.bench.key}"},
    )


async def idle_readers(cases: Cases) -> None:
    """Readers of turns whose model says nothing yet."""
    case = f"{cases.scale.readers} idle readers"
    tally = Tally()
    pid = cases.bench.pids["service"]
    async with _http(cases) as http:
        paths = []
        for place in range(_SILENT_TURNS):
            session = f"silent-{place}"
            made = await http.post(
                f"/v1/sessions/{session}/turns",
                json={"content": wire.wish(2, 100, _SILENCE_SECONDS)},
                headers={"Prefer": "respond-async"},
            )
            paths.append(f"/v1/sessions/{session}/turns/{made.raise_for_status().json()['id']}/events")
        quiet = sample(pid)
        await asyncio.sleep(3)  # the time measured without readers
        alone = sample(pid)

        async def open_one(place: int) -> Client:
            request = wire.events_request(cases.bench.key, paths[place % len(paths)])
            return await connect(lambda: EventsClient(request, 2, 100, tally), cases.bench.service)

        readers: list[Client] = []
        for begin in range(0, cases.scale.readers, 100):
            places = range(begin, min(begin + 100, cases.scale.readers))
            readers += await asyncio.gather(*(open_one(place) for place in places))
        await asyncio.sleep(2)  # until what opening them took is over
        opened = sample(pid)
        await asyncio.sleep(6)  # the time measured with them
        later = sample(pid)
        await asyncio.wait_for(asyncio.gather(*(reader.done.wait() for reader in readers)), 120)
        for reader in readers:
            reader.close()
    kib = (opened.resident - alone.resident) / cases.scale.readers
    cases.found.add(case, "memory each", kib, "KiB", 40)
    cases.found.add(case, "CPU without them", (alone - quiet).cpu / 3 * 100, "% of a core")
    cases.found.add(case, "CPU with them", (later - opened).cpu / 6 * 100, "% of a core", 1.0)
    cases.found.take(tally)


async def long_history(cases: Cases) -> None:
    """The same turn in a session of 10 and in one of 10,000 messages."""
    case = "history of 10,000 messages"
    pids = [cases.bench.pids[who] for who in ("service", "redis")]
    spent: dict[int, list[float]] = {size: [] for size in _HISTORIES}  # CPU time of each round
    took: dict[int, list[float]] = {size: [] for size in _HISTORIES}  # time of each turn
    turns = 8 if cases.scale.quick else 40
    async with _http(cases) as http:
        for size in _HISTORIES:
            await _session_of(http, f"history-{size}", size)
        again = {"regenerate": True, "model": SMALL_MODEL}
        loop = asyncio.get_running_loop()
        for size in _HISTORIES * _ROUNDS:  # in turns, because the machine's speed drifts
            before = sum(sample(pid).cpu for pid in pids)
            for _ in range(turns):
                begin = loop.time()
                answer = await http.post(f"/v1/sessions/history-{size}/turns", json=again)
                answer.raise_for_status()
                took[size].append(loop.time() - begin)
            spent[size].append(sum(sample(pid).cpu for pid in pids) - before)
    for size in _HISTORIES:
        cpu = sum(spent[size]) / turns / _ROUNDS * 1e3
        cases.found.add(case, f"a turn with {size}: CPU of worker and Redis", cpu, "ms")
        cases.found.add(case, f"a turn with {size}: time, median", statistics.median(took[size]) * 1e3, "ms")
    few, many = (sum(spent[size]) for size in _HISTORIES)
    cases.found.add(case, "10,000 / 10, CPU", many / few, "x", 1.25)


async def _session_of(http: httpx.AsyncClient, session: str, messages: int) -> None:
    """A session with so many messages and a turn behind them. One request adds _ITEMS of them at most."""
    # About a hundred tokens each: ten of them fill the small model's window.
    word = "Small talk, said again and again and again. " * 9
    items = [
        {"role": ("user", "assistant")[place % 2], "content": f"{place} {word}"} for place in range(messages)
    ]
    (await http.post("/v1/sessions", json={"id": session})).raise_for_status()
    for begin in range(0, messages, _ITEMS):
        body = {"items": items[begin : begin + _ITEMS]}
        (await http.post(f"/v1/conversations/{session}/items", json=body)).raise_for_status()
    first = {"content": wire.wish(1, 0), "model": SMALL_MODEL}
    (await http.post(f"/v1/sessions/{session}/turns", json=first)).raise_for_status()


async def memory_in_redis(cases: Cases) -> None:
    """Bytes of an answer of 500 tokens, by how fast it came: an entry has what a window brought."""
    case = f"an answer of {_ANSWER} tokens in Redis"
    store = cases.bench.client()
    async with _http(cases) as http:
        for rate in (50, 100, 500):
            session = f"memory-{rate}"
            content = {"content": wire.wish(_ANSWER, rate)}
            answer = await http.post(f"/v1/sessions/{session}/turns", json=content)
            answer.raise_for_status()
            names = list(store.scan_iter(f"*{session}*", count=1000))
            sizes = {str(name): int(store.memory_usage(str(name), samples=0) or 0) for name in names}
            log = sum(size for name, size in sizes.items() if ":log:" in name)
            cases.found.add(case, f"its log at {rate} tokens/s", log / 1024, "KiB", 8)
            rest = sum(sizes.values()) - log
            cases.found.add(case, f"the rest of its session at {rate} tokens/s", rest / 1024, "KiB")
    store.close()
