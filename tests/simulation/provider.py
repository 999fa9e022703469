"""The provider: answers of its own words, in real bytes, late, cut, refused or silent as the seed has it.

It stands in for service/upstream/groq.py down to the connection: its bytes go through the service's own
decoder and its refusals through the service's own reading of them. Each call says words that no other call
says, so whoever reads a text knows which calls it is of. What a call was asked and what became of it is
kept for the oracle. Invariant: a call's fate depends on the question and on how many calls the question
has had, not on when it comes, so a history that lost some of its events keeps the rest of its story.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, cast

import httpx
import orjson

from service.upstream.base import Request
from service.upstream.groq import GroqAnswer
from service.upstream.models import Model
from service.upstream.refusals import refusal
from service.upstream.transport import Body, Head
from tests.simulation.clock import Process

#: what may become of a call besides a whole answer, and how often (of 100)
FATES: Final = {
    "refused": 5,  # 503
    "limited": 4,  # 429
    "unreachable": 3,
    "cut": 4,  # the connection, in the middle
    "no_end": 3,  # a clean end without a finish_reason
    "error": 3,  # inside the stream
    "garbled": 2,
    "silent": 2,  # from some word on
    "late": 4,  # the first word, by more than a lease
    "gap": 4,  # in the middle, longer than a lease
    "length": 3,  # whole, but cut by its completion limit
}
#: what the provider says of every prompt
PROMPT_TOKENS: Final = 10
# What a token costs at every model: of a prompt, of an answer.
PROMPT_NANOS: Final = 2
WORD_NANOS: Final = 5


@dataclass(eq=False)
class Call:
    """One call of one process for one turn."""

    number: int
    turn_id: str
    process: Process
    words: list[str]
    pause: float  # leases from read to read, at most
    fate: str
    given: list[str] = field(default_factory=list)  # what its runner was given
    accepted: bool = False
    billable: bool = False  # it was sent, and not refused
    reported: bool = False  # its usage

    @property
    def text(self) -> str:
        return "".join(self.words)


class Provider:
    def __init__(self, seed: str, *, kind: bool, slow: bool) -> None:
        self.seed = seed
        self.slow = slow
        self.kind = kind  # nothing ever goes wrong with it
        self.calls: list[Call] = []
        self.given_at: dict[str, float] = {}  # words, and when their runner was given them
        #: called with a turn and what its model is asked
        self.told: Callable[[str, list[dict[str, Any]]], None] | None = None
        self._asked: Counter[str] = Counter()

    def of(self, turn_id: str) -> list[Call]:
        return [call for call in self.calls if call.turn_id == turn_id]

    def begin(self, process: Process, request: Request) -> tuple[Call, Random]:
        question = _question(request.messages)
        self._asked[question] += 1
        chance = Random(f"{self.seed}/{question}/{self._asked[question]}")
        number = len(self.calls)
        count = chance.choice((16, 32, 48) if self.slow else (1, 2, 4, 8, 16, 32))
        words = [f"{number}.{i} " for i in range(count)]
        pause = chance.choice((0.1, 0.2) if self.slow else (0.002, 0.02, 0.06, 0.1))
        call = Call(number, request.turn_id, process, words, pause, self._fate(chance))
        if self.told is not None:
            self.told(request.turn_id, request.messages)
        self.calls.append(call)
        return call, chance

    def _fate(self, chance: Random) -> str:
        drawn = chance.randrange(100)
        for fate, share in FATES.items():
            drawn -= share
            if drawn < 0:
                return "whole" if self.kind and fate not in ("late", "gap", "length") else fate
        return "whole"


def _question(messages: list[dict[str, Any]]) -> str:
    return str(next(one["content"] for one in reversed(messages) if one["role"] == "user"))


class Upstream:
    """The provider as one process sees it."""

    def __init__(self, provider: Provider, process: Process, lease: float) -> None:
        self._provider = provider
        self._process = process
        self._lease = lease

    async def close(self) -> None:
        pass

    def streams(self, model: Model, params: dict[str, Any]) -> bool:
        return True

    @asynccontextmanager
    async def call(self, request: Request) -> AsyncIterator[GroqAnswer]:
        call, chance = self._provider.begin(self._process, request)
        await asyncio.sleep(chance.uniform(0.001, 0.02))
        if call.fate == "unreachable":
            raise refusal(0, {}, {})
        request.billable = call.billable = True
        await asyncio.sleep(chance.uniform(0.001, 0.1))
        if call.fate in ("refused", "limited"):
            request.billable = call.billable = False
            raise _refused(call.fate, chance)
        call.accepted = True
        body = _Body(call, chance, self._lease, self._provider.given_at)
        try:
            yield GroqAnswer(Head(200, [], {}, cast(Body, body)))
        finally:
            body.close()


def _refused(fate: str, chance: Random) -> Exception:
    if fate == "refused":
        return refusal(503, {"error": {"message": "over capacity"}}, {})
    wait = chance.choice(("0.2", "0.5", "1"))
    return refusal(
        429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, {"retry-after": wait}
    )


class _Body:
    """The bytes of one answer as service/upstream/transport.py gives them."""

    def __init__(self, call: Call, chance: Random, lease: float, given_at: dict[str, float]) -> None:
        self._given_at = given_at
        self._call = call
        self._chance = chance
        self._lease = lease
        self._parts = _parts(call, chance)
        self._open = asyncio.Event()
        self._open.set()

    def pause(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    def let_go(self) -> None:
        """The connection could be kept."""

    def close(self) -> None:
        self._parts = iter(())

    async def read_into(self, push: Callable[[bytes], bool]) -> bool:
        """As Body.read_into: False at the end."""
        call = self._call
        for words, data, pause in self._parts:
            await asyncio.sleep(pause * self._lease)
            await self._open.wait()
            call.given += words
            now = asyncio.get_running_loop().time()
            self._given_at.update((word.strip(), now) for word in words)
            call.reported = call.reported or b'"usage"' in data
            if push(data):
                return True
        if call.fate == "cut":
            raise httpx.ReadError("the connection was cut")
        if call.fate == "silent":
            await asyncio.get_running_loop().create_future()
        return False


def _parts(call: Call, chance: Random) -> Any:
    """(words, their bytes, leases to wait before) until the end, or until what goes wrong."""
    words = list(call.words)
    broken = call.fate in ("cut", "no_end", "error", "garbled", "silent")
    ends_at = chance.randint(0, len(words)) if broken else len(words)
    gap_at = chance.randint(1, len(words)) if call.fate == "gap" else -1
    at = 0
    while at < ends_at:
        size = min(chance.choice((1, 1, 2, 4)), ends_at - at)
        some = words[at : at + size]
        pause = chance.uniform(0, call.pause)
        if at == 0 and call.fate == "late":
            pause = 1.8
        elif at <= gap_at < at + size:
            pause = 1.2
        data = b"".join(_event({"content": word}) for word in some)
        if chance.random() < 0.1:  # a read ends anywhere
            cut = chance.randint(1, len(data) - 1)
            whole = data[:cut].count(b"\n\n")
            yield some[:whole], data[:cut], pause
            some, data, pause = some[whole:], data[cut:], 0.002
        at += size
        yield some, data, pause
    if call.fate == "error":
        yield [], b'event: error\ndata: {"error":{"message":"it broke"}}\n\n', 0.01
    elif call.fate == "garbled":
        yield [], b"data: {garbled\n\n", 0.01
    elif not broken:
        reason = "length" if call.fate == "length" else "stop"
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(words)}
        yield [], _event({}, reason, usage) + b"data: [DONE]\n\n", 0.005


def _event(delta: dict[str, str], reason: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    chunk: dict[str, Any] = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    if usage is not None:
        chunk["usage"] = usage
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
