"""An upgrade while people talk: a replica of 0.1.0 and one of this version on one Redis, and both are killed.

Each user talks in sessions of their own, and asks a replica of either version at random; each text is
compared to the byte, and after each answer the history as either version tells it. A repeat has the key of
the first time, so nothing may fail: a worker or a whole replica that is killed is taken over by whoever is
left, mostly the other version. `Talk.wrong` and `Talk.failed` have a sentence for each case and have to
stay empty.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import httpx

from tests.double import expected_text
from tests.support.dialects import AiSdkResetting, Dialect, OpenAIWhole, Text
from tests.support.old_version import old_version
from tests.support.processes import Replica
from tests.support.readers import client, follow, start_turn
from tests.support.redis import RedisServer
from tests.support.service import Served
from tests.support.sse import text_of
from tests.support.tool_clients import WEATHER
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

RATE: Final = 60  # tokens a second of each answer
TALKED: Final = 8  # answers in a session, then another one is begun
LONGER: Final = 60  # seconds at most, where a version has not taken over yet
TRIES: Final = 40  # of one send, each at a replica that may be dead
DIALECTS: Final[tuple[Dialect, ...]] = (Text(), OpenAIWhole(), AiSdkResetting())
LATER: Final = (429, 502, 503)  # a client that is told this asks again


@dataclass
class Talk:
    """What all users have seen; `did` counts what they did, by its name."""

    did: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    takeovers: dict[str, int] = field(default_factory=dict)  # by the version that took over
    # Held for a round of tools and while something is killed.
    calm: asyncio.Lock = field(default_factory=asyncio.Lock)


class User:
    """One person in one session; `said` is what the history has to be."""

    def __init__(self, http: httpx.AsyncClient, urls: dict[str, str], name: str, talk: Talk) -> None:
        self.http = http
        self.urls = urls  # by version
        self.session = name
        self.talk = talk
        self.said: list[tuple[str, str]] = []
        self.numbers = itertools.count()

    async def talks(self, go_on: Callable[[], bool]) -> None:
        ways = (
            self.sends,
            self.in_a_dialect,
            self.regenerates,
            self.edits,
            self.stops,
            self.tools,
        )
        for _ in range(TALKED):
            if not go_on():
                return
            way = random.choice(ways) if self.said else self.sends
            try:
                await way()
            except AssertionError as error:  # a status that no client asks again after
                self.talk.failed.append(f"{self.session} {way.__name__}: {error}")
                return
            self.talk.did[way.__name__] += 1
            if not await self.is_as_said(way.__name__):
                return

    def question(self, tokens: int) -> tuple[str, str]:
        """A question and the answer to it."""
        seed = random.getrandbits(30)
        return f"[[tokens={tokens} rate={RATE} seed={seed}]]", expected_text(tokens, seed)

    async def sends(self) -> None:
        asked, answer = self.question(random.randint(20, 120))
        await self._turn({"content": asked}, answer)
        self.said += [("user", asked), ("assistant", answer)]

    async def regenerates(self) -> None:
        asked, answer = self.question(random.randint(20, 120))
        await self._turn({"content": asked}, answer)
        await self._turn({"regenerate": True}, answer)
        self.said += [("user", asked), ("assistant", answer)]

    async def edits(self) -> None:
        page = (await self._get("/messages?limit=100"))["data"]
        place = random.choice([number for number, one in enumerate(page) if one["role"] == "user"])
        asked, answer = self.question(random.randint(20, 120))
        await self._turn({"edit": {"message_id": page[place]["id"], "content": asked}}, answer)
        self.said = [*self.said[:place], ("user", asked), ("assistant", answer)]

    async def stops(self) -> None:
        asked, whole = self.question(400)
        path = await self._start({"content": asked})
        await asyncio.sleep(random.uniform(0.1, 1.5))  # stops fall anywhere into an answer
        turn = await self._ask("POST", f"{path}/stop")
        text = text_of(await follow(self.http, list(self.urls.values()), path))
        if (
            turn["text"] != text
            or not whole.startswith(text)
            or turn["state"] not in ("stopped", "completed")
        ):
            self.talk.wrong.append(f"{path}: {turn['state']} with {turn['text']!r}, and its log has {text!r}")
        self.said += [("user", asked), *([("assistant", text)] if text else [])]

    async def tools(self) -> None:
        """A round of tools, which only this version keeps as one exchange; either reads its text.

        Nothing is killed meanwhile: 0.1.0 takes the answer over without the results (docs/decisions/0021).
        """
        async with self.talk.calm:
            await self._round()

    async def _round(self) -> None:
        asked = "[[tool=weather say=It rains.]]"
        new = [self.urls["new"]]
        path = await start_turn(
            self.http, new, self.session, {"content": asked, "tools": [WEATHER]}, self._key()
        )
        events = await follow(self.http, list(self.urls.values()), path)
        ids = [event.data["id"] for event in events if event.event == "tool_call"]
        results = [{"tool_call_id": one, "content": "rain"} for one in ids[-1:]]
        body = {"tool_results": results, "tools": [WEATHER]}
        path = await start_turn(self.http, new, self.session, body, self._key())
        self._compare(path, text_of(await follow(self.http, list(self.urls.values()), path)), "It rains.")
        self.said += [("user", asked), ("assistant", "It rains.")]

    async def in_a_dialect(self) -> None:
        """A client that knows no cursor sends again, under its key, until it has all of the answer."""
        dialect, key = random.choice(DIALECTS), self._key()
        asked, answer = self.question(random.randint(20, 120))
        for _ in range(TRIES):
            # A connection of its own: whatever it is told ends with it.
            async with httpx.AsyncClient(
                base_url=random.choice(list(self.urls.values())), timeout=60, verify=False
            ) as http:
                served = cast(Served, SimpleNamespace(client=http))
                try:
                    found = await dialect.send(served, asked, self.session, headers={"Idempotency-Key": key})
                except httpx.TransportError:
                    await asyncio.sleep(0.05)  # as clients wait before they send again
                    continue
            if found.end == "completed":
                self._compare(f"{self.session} {dialect.name}", found.text, answer)
                break
            assert found.status == 200 or found.status in LATER, f"{dialect.name} {found.status} {found.body}"
            await asyncio.sleep(0.2)  # as above
        else:
            raise AssertionError(f"{dialect.name}: no answer in {TRIES} tries")
        self.said += [("user", asked), ("assistant", answer)]

    async def is_as_said(self, after: str) -> bool:
        for version in self.urls:
            page = (await self._get("/messages?limit=100", version))["data"]
            found = [(one["role"], one["content"]) for one in page]
            if found != self.said:
                self.talk.wrong.append(
                    f"{self.session} after {after}: {version} tells {found}, not {self.said}"
                )
                return False
        return True

    def _key(self) -> str:
        return f"{self.session}-{next(self.numbers)}"

    async def _start(self, body: dict[str, Any]) -> str:
        return await start_turn(self.http, list(self.urls.values()), self.session, body, self._key())

    async def _turn(self, body: dict[str, Any], answer: str) -> None:
        path = await self._start(body)
        events = await follow(self.http, list(self.urls.values()), path, cut=0.02)
        assert events[-1].event == "turn.completed", f"{path}: {events[-1].event} {events[-1].data}"
        self._compare(path, text_of(events), answer)

    def _compare(self, what: str, text: str, answer: str) -> None:
        if text != answer:
            self.talk.wrong.append(f"{what}: {text!r}, not {answer!r}")

    async def _get(self, path: str, version: str | None = None) -> dict[str, Any]:
        return await self._ask("GET", f"/v1/sessions/{self.session}{path}", version)

    async def _ask(self, method: str, path: str, version: str | None = None) -> dict[str, Any]:
        """From any replica, or from the one of a version once it is there again."""
        while True:
            url = self.urls[version or random.choice(list(self.urls))]
            try:
                answer = await self.http.request(method, f"{url}{path}")
            except httpx.TransportError:
                await asyncio.sleep(0.05)  # as clients wait before they ask again
                continue
            if answer.status_code == 200:
                found: dict[str, Any] = answer.json()
                return found
            assert answer.status_code in LATER, f"{method} {path}: {answer.status_code} {answer.text}"
            await asyncio.sleep(0.05)  # as above


async def attacks(replicas: list[Replica], calm: asyncio.Lock, go_on: Callable[[], bool]) -> None:
    """By turns at each version: its host is lost, a worker dies, it is restarted as a deploy does."""
    for number in itertools.count():
        await asyncio.sleep(2)  # of load between two of them
        if not go_on():
            return
        victim = replicas[number % len(replicas)]
        kind = ("host", "worker", "deploy")[number // len(replicas) % 3]
        async with calm:
            if kind == "worker":
                os.kill(random.choice(victim.workers()), signal.SIGKILL)
            elif kind == "host":
                victim.kill()
            else:
                victim.signal(signal.SIGTERM)
        if kind == "worker":
            continue
        await asyncio.to_thread(victim.wait, 60)
        await asyncio.sleep(2)  # a lease: by then the other version has what it ran
        await asyncio.to_thread(victim.start)


def takeovers(replicas: dict[str, Replica]) -> dict[str, int]:
    return {version: replica.log().count('"turn.taken_over"') for version, replica in replicas.items()}


async def upgrade_under_load(directory: Path, seconds: float, users: int) -> Talk:
    """So many seconds, and on a slow machine until each version has taken over from the other."""
    talk = Talk()
    code = old_version(directory / "code")
    redis, upstream = RedisServer(directory / "redis"), DoubleProcess()
    replicas: dict[str, Replica] = {}
    settings: dict[str, Any] = {
        "redis_url": redis.url,
        "GROQ_BASE_URL": upstream.url,
        "workers": 2,
        "lease_seconds": 1.5,
        "max_attempts": 20,
        "drain_seconds": 2,
        "drain_delay_seconds": 0.2,
    }
    try:
        replicas["old"] = Replica(directory / "old", code=code, **settings)
        replicas["new"] = Replica(directory / "new", **settings)
        urls = {version: replica.url for version, replica in replicas.items()}
        until = time.monotonic() + seconds

        def go_on() -> bool:
            now = time.monotonic()
            return now < until or (now < until + LONGER and 0 in takeovers(replicas).values())

        async def person(http: httpx.AsyncClient, number: int) -> None:
            for session in itertools.count():
                if not go_on():
                    return
                await User(http, urls, f"p{number}-{session}", talk).talks(go_on)

        async with client() as http:
            attacking = asyncio.create_task(attacks(list(replicas.values()), talk.calm, go_on))
            await asyncio.gather(*(person(http, number) for number in range(users)))
            await attacking
        store = redis.client()
        await eventually_async(lambda: store.zcard("chat:turns:deadlines") == 0, within=30)
        talk.takeovers = takeovers(replicas)
    finally:
        for replica in replicas.values():
            replica.kill()
        upstream.close()
        redis.close()
    return talk
