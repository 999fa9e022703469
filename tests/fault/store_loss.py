"""A failover that loses acknowledged writes: real Redis under Sentinel, and what each reader made of it.

A round: turns in all dialects, and native readers that resume; the replicas are stopped for a moment, the
master killed with what it had not replicated, and Sentinel promotes a replica. In every other round
a worker is killed with it. `Tally` says how each reader ended; `wrong` has to stay empty, and with
CHAT_REDIS_WAIT_REPLICAS `affected` too, which has the turns that the loss of the master was felt by.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx

from tests.double import expected_text
from tests.support.dialects import DIALECTS, Dialect
from tests.support.processes import Replica
from tests.support.readers import TERMINAL, client, start_turn
from tests.support.sentinels import Sentinels
from tests.support.service import Served
from tests.support.sse import Frame, frames, text_of
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

TOKENS = 150
RATE = 50
# Attempts of one turn whose texts count as right: more than a round can make.
ATTEMPTS = 8
# How long the replica hears nothing before its master dies, in seconds.
FROZEN = (0.3, 0.5)


async def lose_the_master(store: Sentinels) -> None:
    for replica in store.replicas:
        replica.stall()
    await asyncio.sleep(random.uniform(*FROZEN))  # what is acknowledged in this time is lost
    store.master.kill()
    for replica in store.replicas:
        replica.go_on()
    await eventually_async(store.promoted, within=30)


@dataclass
class Tally:
    """How readers and turns ended; `wrong` has a sentence for each that was told what is not so.

    `affected` has one for each that noticed more than a pause; where a worker was killed too, restarts
    and the readers that these end do not count.
    """

    readers: Counter[str] = field(default_factory=Counter)
    turns: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    affected: list[str] = field(default_factory=list)

    def judge(self, who: str, text: str, end: str, *, killed: bool) -> None:
        right = [expected_text(TOKENS, attempt) for attempt in range(ATTEMPTS)]
        if not killed and (text, end) != (right[0], "completed"):
            self.affected.append(f"{who}: {end} with {len(text)} characters")
        if end == "completed":
            if text not in right:
                self.wrong.append(f"{who}: completed with {len(text)} characters of no answer")
            self.readers["exact" if text in right else "WRONG"] += 1
        else:
            self.readers["told of a failure"] += 1


class Round:
    def __init__(
        self, http: httpx.AsyncClient, urls: list[str], name: str, tally: Tally, *, killed: bool = False
    ) -> None:
        self._killed = killed  # a worker is killed too
        self._http = http
        self._urls = urls
        self._name = name
        self._tally = tally

    async def turn(self, number: int) -> None:
        session = f"{self._name}-{number}"
        wish = f"[[tokens={TOKENS} rate={RATE} vary]] {session}"
        kind: Dialect | None = ([*DIALECTS, None])[number % (len(DIALECTS) + 1)]
        if kind is None:
            path = await start_turn(self._http, self._urls, session, {"content": wish}, session)
            text, end = await self._resumed(path)
        else:
            text, end = await self._connected(kind, wish, session)
        who = f"{session} {kind.name if kind else 'resuming'}"
        self._tally.judge(who, text, end, killed=self._killed)

    async def _connected(self, kind: Dialect, wish: str, session: str) -> tuple[str, str]:
        async with httpx.AsyncClient(base_url=random.choice(self._urls), timeout=60, verify=False) as http:
            served = cast(Served, SimpleNamespace(client=http))
            try:
                found = await kind.send(served, wish, session, headers={"Idempotency-Key": session})
            except httpx.TransportError:
                return "", "broken"
        return found.text, found.end

    async def _resumed(self, path: str) -> tuple[str, str]:
        """As an EventSource that starts over when it is told that events are lost."""
        events: list[Frame] = []
        while not events or events[-1].event not in TERMINAL:
            after = events[-1].id if events else 0
            try:
                url = f"{random.choice(self._urls)}{path}/events?after={after}"
                async with self._http.stream("GET", url) as answer:
                    if answer.status_code == 404:
                        return "", "gone"
                    if answer.status_code == 410:
                        self._tally.affected.append(f"{path}: events lost")
                        events = []
                        continue
                    if answer.status_code != 200:
                        await asyncio.sleep(0.05)  # between two tries, as an EventSource waits
                        continue
                    async for frame in frames(answer):
                        events.append(frame)
                        if random.random() < 0.02:
                            break
            except httpx.TransportError:
                await asyncio.sleep(0.02)  # as above
        return text_of(events), events[-1].event.removeprefix("turn.")

    async def check(self, count: int) -> None:
        """Each turn that is still known has one terminal event, at its end, and says the same everywhere."""
        for number in range(count):
            session = f"{self._name}-{number}"
            await eventually_async(partial(self._quiet, session), within=40)
            known = await self._get(f"/v1/sessions/{session}/messages")
            ids = {message["turn_id"] for message in known.get("data", []) if message["role"] == "assistant"}
            for turn_id in ids:
                await self._check(f"/v1/sessions/{session}/turns/{turn_id}")

    async def _check(self, path: str) -> None:
        events: list[Frame] = []
        async with self._http.stream("GET", f"{self._urls[0]}{path}/events") as answer:
            if answer.status_code == 200:
                events = [frame async for frame in frames(answer)]
        ends = [frame.event for frame in events if frame.event in TERMINAL]
        turn = await self._get(path)
        if len(ends) != 1 or events[-1].event != ends[0] or ends[0] != f"turn.{turn['state']}":
            self._tally.wrong.append(f"{path}: {turn.get('state')} with the ends {ends}")
        self._tally.turns[turn["state"]] += 1
        if turn["state"] == "failed" or (turn["attempt"] > 1 and not self._killed):
            self._tally.affected.append(f"{path}: {turn['state']} in attempt {turn['attempt']}")
        if turn["state"] == "completed":
            right = [expected_text(TOKENS, attempt) for attempt in range(ATTEMPTS)]
            if text_of(events) not in right or turn["text"] != text_of(events):
                self._tally.wrong.append(f"{path}: its log or its text is of no answer")

    async def _quiet(self, session: str) -> bool:
        found = await self._get(f"/v1/sessions/{session}")
        return found.get("active_turn") is None

    async def _get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def answered() -> bool:
            """Not while the store is failed over."""
            answer = await self._http.get(f"{random.choice(self._urls)}{path}")
            if answer.status_code != 503:
                found.update(answer.json())
            return answer.status_code != 503

        await eventually_async(answered, within=40)
        return found


async def lose_writes(directory: Path, rounds: int, turns: int, **settings: Any) -> Tally:
    """`rounds` failovers, each under `turns` running answers and of servers of its own.

    Where replicas are waited for there is one more of them, which follows the one that is promoted.
    """
    tally = Tally()
    for number in range(rounds):
        await _lose_writes_once(directory / f"round{number}", number, turns, tally, settings)
    return tally


async def _lose_writes_once(
    directory: Path, number: int, turns: int, tally: Tally, settings: dict[str, Any]
) -> None:
    store = Sentinels(directory, replicas=1 + settings.get("redis_wait_replicas", 0))
    upstream = DoubleProcess()
    values = {
        "redis_url": store.url,
        "GROQ_BASE_URL": upstream.url,
        "workers": 2,
        "lease_seconds": 2,
        **settings,
    }
    replicas: list[Replica] = []
    try:
        replicas += [Replica(directory / f"service{one}", **values) for one in range(2)]
        async with client() as http:
            urls = [replica.url for replica in replicas]
            one = Round(http, urls, f"r{number}", tally, killed=bool(number % 2))
            running = [asyncio.create_task(one.turn(turn)) for turn in range(turns)]
            await eventually_async(lambda: len(upstream.calls()) == turns, within=20)
            await asyncio.sleep(TOKENS / RATE / 3)  # a third of each answer has been shown
            if number % 2:
                os.kill(random.choice(replicas[0].workers()), signal.SIGKILL)
            await lose_the_master(store)
            await asyncio.wait_for(asyncio.gather(*running), 90)
            await one.check(turns)
    finally:
        for replica in replicas:
            replica.close()
        upstream.close()
        store.close()
