"""What all attackers have in common: who they are, what they may know, how they ask, what is counted.

An attacker is an async function with a sentence, registered by `@attacker`; it runs in a process
of its own until its time is over (`python -m tests.attack.attacker`). Nothing here knows what a
single attacker does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.attack.connection import Answer, Connection, Cut, request

#: the operator's address, from which keys are made
OPERATOR: Final = "127.0.9.2"

Act = Callable[["Attack"], Awaitable[None]]
Look = Callable[[int, Answer], None]


@dataclass(frozen=True)
class Attacker:
    """`sentence` goes into the table. One that is `patient` shows only after 75 s what it does."""

    name: str
    sentence: str
    act: Act
    patient: bool = False


ATTACKERS: Final[dict[str, Attacker]] = {}


def attacker(sentence: str, *, patient: bool = False) -> Callable[[Act], Act]:
    def register(act: Act) -> Act:
        name = act.__name__
        assert name not in ATTACKERS, name
        ATTACKERS[name] = Attacker(name, sentence, act, patient)
        return act

    return register


@dataclass(frozen=True)
class Context:
    """What an attacker's process is told: ports of nginx and of the replicas, and where it calls from."""

    port: int
    services: list[int]
    double: str
    admin: str
    address: str
    seconds: float
    pace: float


@dataclass
class Tally:
    """`refused` counts answers of 400 and more, and connections that were closed instead of answered."""

    made: int = 0
    refused: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def take(self, answer: Answer | None) -> None:
        self.refused += answer is None or answer.status >= 400
        self.answers[f"{answer.status}" if answer else "closed"] += 1

    def check(self, holds: object, what: str) -> None:
        if not holds and len(self.wrong) < 5:
            self.wrong.append(what[:300])


class Attack:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.tally = Tally()
        self.deadline = asyncio.get_running_loop().time() + context.seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - asyncio.get_running_loop().time()

    @property
    def everywhere(self) -> tuple[int, ...]:
        """Ports: nginx's and, as from inside the network, those of the replicas."""
        return (self.context.port, *self.context.services)

    async def pause(self, seconds: float) -> None:
        """Wait so long, but not beyond the end of the attack."""
        await asyncio.sleep(max(0.0, min(seconds, self.left)))

    async def key(self, name: str, **fields: Any) -> str:
        """The text of a new API key with the shipped limits, unless `fields` say otherwise."""
        body = {"name": name, **fields}
        async with await Connection.open(self.context.port, OPERATOR) as line:
            await line.send(request("POST", "/v1/keys", key=self.context.admin, body=body))
            answer = await line.answer()
        assert answer.status == 201, answer
        text: str = answer.json()["key"]
        return text

    async def ask(self, data: bytes, port: int = 0) -> Answer | None:
        """One request on a connection of its own. None: closed without an answer, or not answered in time."""
        try:
            async with self.connection(port) as line:
                return await self.exchange(line, data)
        except OSError:
            self.tally.made += 1
            self.tally.take(None)
            return None

    async def exchange(self, line: Connection, data: bytes) -> Answer | None:
        """Send and take the next answer; `data` may be empty when all has been sent before."""
        self.tally.made += 1
        try:
            async with asyncio.timeout_at(self.deadline):
                with contextlib.suppress(OSError):
                    await line.send(data)  # or refused before all of it was sent: the answer may be there
                answer = await line.answer(data.partition(b" ")[0].decode("latin-1"))
        except TimeoutError:
            line.abort()
            self.tally.answers["open at the end"] += 1
            return None
        except Cut:
            self.tally.take(None)
            return None
        self.tally.take(answer)
        return answer

    @contextlib.asynccontextmanager
    async def connection(self, port: int = 0) -> AsyncIterator[Connection]:
        async with await Connection.open(port or self.context.port, self.context.address) as line:
            yield line

    async def flood(
        self,
        make: Callable[[int], bytes],
        *,
        connections: int = 10,
        per_second: float = 200.0,
        ports: tuple[int, ...] = (),
        look: Look | None = None,
    ) -> None:
        """Request after request on kept connections, so many a second together, to the end of the attack."""
        numbers = itertools.count()
        begin = asyncio.get_running_loop().time()
        per_second *= self.context.pace

        async def one(port: int) -> None:
            line: Connection | None = None
            while self.left > 0:
                number = next(numbers)
                await self.pause(begin + number / per_second - asyncio.get_running_loop().time())
                try:
                    if line is None or not line.usable:
                        line = await Connection.open(port, self.context.address)
                except OSError:
                    self.tally.made += 1
                    self.tally.take(None)
                    continue
                answer = await self.exchange(line, make(number))
                if answer is not None and look is not None:
                    look(number, answer)
                if not line.usable:
                    line.abort()
            if line is not None:
                line.abort()

        targets = ports or (self.context.port,)
        await asyncio.gather(*(one(targets[number % len(targets)]) for number in range(connections)))

    async def hold(self, data: bytes, *, connections: int, port: int = 0, drip: bytes = b"") -> int:
        """Open so many, send `data` on each, then a byte of `drip` a second; wait to be let go.

        Gives how many the other side has ended, by an answer or a close, before the attack was over.
        """
        ended = 0

        async def one() -> None:
            nonlocal ended
            self.tally.made += 1
            try:
                async with self.connection(port) as line, asyncio.timeout_at(self.deadline):
                    dripping = asyncio.create_task(self._drip(line, drip))
                    try:
                        await line.send(data)
                        self.tally.take(await line.answer())
                    finally:
                        dripping.cancel()
            except TimeoutError:
                self.tally.answers["open at the end"] += 1
                return
            except (Cut, OSError):
                self.tally.take(None)
            ended += 1

        await asyncio.gather(*(one() for _ in range(connections)))
        return ended

    async def _drip(self, line: Connection, drip: bytes) -> None:
        for place in itertools.count():
            await asyncio.sleep(1)  # a byte a second is the attack
            if not drip:
                continue
            await line.send(drip[place % len(drip) :][:1])
