"""What is measured: one function per row of the table, each over the same running processes.

A case knows its load and what it makes of it; how load is made, and how CPU time is read, is
known elsewhere. Every text that comes back is compared with what it has to be.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.load import wire
from tests.load.clients import Client, EventsClient, GroqClient, ResponsesClient, Tally, connect
from tests.load.generator import Ask, Load, Offered, offer, quantile_of
from tests.load.processes import Bench, sample


@dataclass(frozen=True)
class Figure:
    """One number. `target` is what the issue asks for, as a bound on `value`."""

    case: str
    what: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass
class Scale:
    """How much of everything: the whole bench, or a look in two minutes."""

    seconds: float = 6.0
    rounds: int = 3
    turns: int = 20_000
    readers: int = 5_000
    quick: bool = False


QUICK: Final = Scale(seconds=1.5, rounds=1, turns=1_600, readers=1_000, quick=True)


@dataclass
class Findings:
    figures: list[Figure] = field(default_factory=list)
    exact: int = 0
    shed: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(
        self, case: str, what: str, value: float, unit: str, target: float | None = None, **kind: bool
    ) -> None:
        self.figures.append(Figure(case, what, value, unit, target, **kind))

    def take(self, tally: Tally) -> None:
        self.exact += tally.exact
        self.shed += tally.shed
        self.wrong += tally.wrong


class Cases:
    def __init__(self, bench: Bench, scale: Scale) -> None:
        self.bench = bench
        self.scale = scale
        self.found = Findings()

    # Who is asked

    def groq(self, tokens: int, rate: int, tally: Tally) -> Client:
        return GroqClient(wire.groq_request(wire.wish(tokens, rate)), tokens, rate, tally)

    def chat(self, tokens: int, rate: int, tally: Tally) -> Client:
        return Client(wire.chat_request(self.bench.key, wire.wish(tokens, rate)), tokens, rate, tally)

    async def load(self, who: str, load: Load) -> Offered:
        port = getattr(self.bench, who)
        ask = self.groq if who in ("relay", "nginx", "upstream") else self.chat
        offered = await offer(load, port, ask, self.bench.pids)
        if who != "baseline":  # which is not ours, and breaks under load
            self.found.take(offered.tally)
        return offered

    # The rows

    async def per_token(
        self,
        case: str,
        load: Load,
        bound: float,
        with_redis: float | None = None,
        of_nginx: float | None = None,
    ) -> None:
        """CPU per token against R0 and nginx, in rounds that take turns. The bounds are multiples."""
        had: dict[str, list[Offered]] = {"relay": [], "service": [], "baseline": []}
        if self.bench.nginx is not None:
            had["nginx"] = []
        for place in range(self.scale.rounds):
            order = list(had) if place % 2 == 0 else list(reversed(list(had)))
            for who in order:
                had[who].append(await self.load(who, load))
        cost = {who: [offered.microseconds(who) for offered in rounds] for who, rounds in had.items()}
        redis = [offered.microseconds("redis") for offered in had["service"]]
        r0 = statistics.median(cost["relay"])
        add = self.found.add
        add(case, "R0, the bare relay", r0, "us/token")
        add(case, "R0, spread of its rounds", (max(cost["relay"]) / min(cost["relay"]) - 1) * 100, "%")
        add(case, "service", statistics.median(cost["service"]), "us/token")
        add(case, "Redis for it", statistics.median(redis), "us/token")
        add(case, "the obvious implementation", statistics.median(cost["baseline"]), "us/token")
        add(case, "service / R0", statistics.median(cost["service"]) / r0, "x", bound)
        if "nginx" in cost:
            nginx = statistics.median(cost["nginx"])
            add(case, "nginx", nginx, "us/token")
            add(case, "service / nginx", statistics.median(cost["service"]) / nginx, "x", of_nginx)
        if with_redis is not None:
            both = statistics.median(cost["service"]) + statistics.median(redis)
            add(case, "service and Redis / R0", both / r0, "x", with_redis)
        add(case, "obvious / R0", statistics.median(cost["baseline"]) / r0, "x")
        self._lateness(case, "R0", had["relay"])
        self._lateness(case, "service", had["service"])

    def _lateness(self, case: str, who: str, rounds: Sequence[Offered], bound: float | None = None) -> None:
        late = [value for offered in rounds for value in offered.tally.lateness]
        self.found.add(case, f"lateness of a token, {who}, p50", quantile_of(late, 0.5) * 1e3, "ms")
        self.found.add(case, f"lateness of a token, {who}, p99", quantile_of(late, 0.99) * 1e3, "ms", bound)

    async def responses(self) -> None:
        """CPU per token of OpenAI's Responses against the native events, in pairs that take turns."""
        case = "Responses, 50 x 50 tokens/s"
        load = Load(50, 50, 150, self.scale.seconds)
        asks: dict[str, Ask] = {"native": self._native, "responses": self._responses}
        had: dict[str, list[float]] = {who: [] for who in asks}
        for place in range(2 * self.scale.rounds):
            for who in asks if place % 2 == 0 else reversed(list(asks)):
                offered = await offer(load, self.bench.service, asks[who], self.bench.pids)
                self.found.take(offered.tally)
                had[who].append(offered.microseconds("service"))
        for who, costs in had.items():
            self.found.add(case, who, statistics.median(costs), "us/token")
        pairs = [theirs / ours for ours, theirs in zip(had["native"], had["responses"], strict=True)]
        self.found.add(case, "responses / native, median of pairs", statistics.median(pairs), "x", 1.2)
        self.found.add(case, "responses / native, greatest pair", max(pairs), "x")

    def _native(self, tokens: int, rate: int, tally: Tally) -> Client:
        session_id = f"native-{id(tally)}-{tally.asked}"
        request = wire.turn_request(self.bench.key, wire.wish(tokens, rate), session_id)
        return EventsClient(request, tokens, rate, tally)

    def _responses(self, tokens: int, rate: int, tally: Tally) -> Client:
        request = wire.response_request(self.bench.key, wire.wish(tokens, rate))
        return ResponsesClient(request, tokens, rate, tally)

    async def fan_in(self) -> None:
        """500 streams x 50 tokens/s on one worker."""
        await self._fan_in("relay", "service")

    async def obvious(self) -> None:
        """The same for the baseline: the last case, for it is busy long after its clients have left."""
        await self._fan_in("baseline")

    async def _fan_in(self, *who_serves: str) -> None:
        case = "500 x 50 tokens/s"
        load = Load(100 if self.scale.quick else 500, 50, 150, self.scale.seconds * 1.5)
        for who in who_serves:
            offered = await self.load(who, load)
            rate = offered.tokens / offered.seconds
            share = rate / (load.streams * load.rate) * 100
            exact = offered.tally.exact / max(1, offered.tally.exact + len(offered.tally.wrong)) * 100
            bound = 99 if who == "service" else None
            self.found.add(case, f"{who}: delivered of what was due", share, "%", bound, at_least=True)
            self.found.add(case, f"{who}: answers that were exact", exact, "%")
            self.found.add(case, f"{who}: CPU", offered.used[who].cpu / offered.seconds * 100, "% of a core")
            self._lateness(case, who, [offered], 100 if who == "service" else None)

    async def first_token(self) -> None:
        """Added to going to the model directly, beside a few chats, and at half of that load."""
        seconds = self.scale.seconds * 2
        await self._first_token("time to first token beside 50 x 45 tokens/s", Load(50, 45, 150, seconds))
        if not self.scale.quick:
            await self._first_token(
                "time to first token beside 250 x 50 tokens/s", Load(250, 50, 150, seconds)
            )

    async def _first_token(self, case: str, beside: Load) -> None:
        load = asyncio.create_task(self.load("service", beside))
        await asyncio.sleep(beside.length)
        direct, through, named = Tally(), Tally(), Tally()
        model, service, key, wish = self.bench.upstream, self.bench.service, self.bench.key, wire.wish(1, 0)
        for probe in range(int(beside.seconds * 20)):
            session = f"first-{probe // 10}"  # ten turns in each, so 0 to 18 messages before
            for tally, port, kind, request in (
                (direct, model, GroqClient, wire.groq_request(wish)),
                (through, service, Client, wire.chat_request(key, wish)),
                (named, service, Client, wire.chat_request(key, wish, session_id=session)),
            ):
                client = await connect(partial(kind, request, 1, 0, tally), port)
                await client.done.wait()
                client.close()
            await asyncio.sleep(0.02)  # the rate of the probes
        await load
        for quantile, bound in ((0.5, 3.0), (0.99, 10.0)):
            ways = [quantile_of(tally.first_after, quantile) * 1e3 for tally in (direct, through, named)]
            name = f"p{quantile * 100:.0f}"
            self.found.add(case, f"direct, {name}", ways[0], "ms")
            self.found.add(case, f"added, {name}", ways[1] - ways[0], "ms", bound)
            self.found.add(case, f"added in a session, {name}", ways[2] - ways[0], "ms")
        for tally in (direct, through, named):
            self.found.take(tally)

    async def whole_answers(self) -> None:
        """Answers of 200 tokens that come at once: how much later their last byte is than from the model."""
        await self._whole_answers("a whole answer of 200 tokens, nothing else running")
        beside = asyncio.create_task(self.load("service", Load(50, 45, 150, self.scale.seconds * 2)))
        await asyncio.sleep(150 / 45)  # until all of them flow
        await self._whole_answers("the same beside 50 x 45 tokens/s")
        await beside

    async def _whole_answers(self, case: str) -> None:
        direct, through, wish = Tally(), Tally(), wire.wish(200, 0)
        for _ in range(int(self.scale.seconds * 30)):
            for tally, port, kind, request in (
                (direct, self.bench.upstream, GroqClient, wire.groq_request(wish)),
                (through, self.bench.service, Client, wire.chat_request(self.bench.key, wish)),
            ):
                client = await connect(partial(kind, request, 200, 0, tally), port)
                await client.done.wait()
                client.close()
            await asyncio.sleep(0.01)  # the rate of the probes
        for quantile, bound in ((0.5, 4.0), (0.99, 10.0)):
            alone, with_us = (quantile_of(tally.whole_after, quantile) * 1e3 for tally in (direct, through))
            self.found.add(case, f"last byte, direct, p{quantile * 100:.0f}", alone, "ms")
            self.found.add(case, f"last byte, added, p{quantile * 100:.0f}", with_us - alone, "ms", bound)
        self.found.take(direct)
        self.found.take(through)

    async def turns(self) -> None:
        """Whole durable turns of one token, and what they leave in the worker's memory."""
        case = "turns of one token"
        tally = Tally()
        await self.ask_turns(tally, self.scale.turns // 10)
        before, steps = sample(self.bench.pids["service"]), []
        first, redis = before, sample(self.bench.pids["redis"])
        for _ in range(4):
            await self.ask_turns(tally, self.scale.turns // 4)
            steps.append(sample(self.bench.pids["service"]).resident)
        cpu = (sample(self.bench.pids["service"]) - first).cpu
        redis_cpu = (sample(self.bench.pids["redis"]) - redis).cpu
        self.found.add(case, "turns per core-second", self.scale.turns / cpu, "/s", 400, at_least=True)
        self.found.add(case, "service", cpu / self.scale.turns * 1e6, "us/turn", 600)
        self.found.add(case, "Redis for it", redis_cpu / self.scale.turns * 1e6, "us/turn", 200)
        self.found.add(case, "worker memory before", before.resident / 1024, "MiB")
        self.found.add(case, f"worker memory after {self.scale.turns} turns", steps[-1] / 1024, "MiB")
        # The first steps fill what is bounded: caches of names, kept connections, free lists.
        grown = (steps[-1] - steps[1]) * 1024 / (self.scale.turns / 2)
        self.found.add(case, "growth per turn in the second half", grown, "B")
        self.found.take(tally)

    async def ask_turns(self, tally: Tally, number: int, connections: int = 16) -> None:
        """So many, each connection one after the other."""

        async def some() -> None:
            client = await connect(lambda: self.chat(1, 0, tally), self.bench.service)
            await client.done.wait()
            for _ in range(number // connections - 1):
                client.ask(wire.chat_request(self.bench.key, wire.wish(1, 0)))
                await client.done.wait()
            client.close()

        await asyncio.gather(*(some() for _ in range(connections)))

    async def readers_elsewhere(self) -> None:
        """What one more reader costs the worker of another replica."""
        for rate, streams in ((500, 5), (100, 20)):
            case = f"a reader on another replica, {rate} tokens/s"
            load = Load(streams, rate, 500, self.scale.seconds)  # tokens: opening a reader counts, too
            r0 = (await self.load("relay", load)).microseconds("relay")
            tally = Tally()
            follow = Following(self.bench, tally, load.tokens, rate)
            offered = await offer(load, self.bench.service, follow.start, self.bench.pids)
            await follow.finished()
            cost = offered.used["replica"].cpu / max(1, offered.tokens) * 1e6
            self.found.add(case, "worker of the other replica", cost, "us/token")
            self.found.add(case, "of it / R0", cost / r0, "x", 1.0)
            self.found.take(offered.tally)
            self.found.take(tally)

    async def overload(self) -> None:
        """Twice as much as one worker is meant to sustain."""
        case = "overload, 1000 x 50 tokens/s"
        load = Load(200 if self.scale.quick else 1000, 50, 150, self.scale.seconds)
        offered = await self.load("service", load)
        tally = offered.tally
        self.found.add(case, "admitted and exact", tally.exact, "streams")
        self.found.add(case, "shed with Retry-After", tally.shed, "streams")
        self.found.add(case, "admitted and not finished exactly", len(tally.wrong), "streams", 0)
        self.found.add(case, "delivered", offered.tokens / offered.seconds, "tokens/s")
        self._lateness(case, "service", [offered])


class Following:
    """For each stream that begins, a reader of the same turn at the second replica."""

    def __init__(self, bench: Bench, tally: Tally, tokens: int, rate: int) -> None:
        self._bench = bench
        self._tally = tally
        self._wish = (tokens, rate)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, tokens: int, rate: int, tally: Tally) -> Client:
        request = wire.chat_request(self._bench.key, wire.wish(tokens, rate))
        client = Client(request, tokens, rate, tally)
        self._tasks.append(asyncio.create_task(self._follow(client)))
        return client

    async def _follow(self, client: Client) -> None:
        await client.answered.wait()
        if "x-turn-id" not in client.headers:
            return
        session, turn = client.headers["x-session-id"], client.headers["x-turn-id"]
        request = wire.events_request(self._bench.key, f"/v1/sessions/{session}/turns/{turn}/events")
        reader = await connect(
            lambda: EventsClient(request, *self._wish, self._tally), self._bench.replicas[1].port
        )
        await reader.done.wait()
        reader.close()

    async def finished(self) -> None:
        await asyncio.gather(*self._tasks)
