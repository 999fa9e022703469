"""Turns that end in every possible way, and what the ledger has to say of them.

"To the token", and to the nano of what tokens cost, means, for each call that the double has recorded:

- refused (an HTTP error): nothing; Groq does not bill it;
- its usage was told to us: what was told, prompt and completion;
- sent, and ended without usage (stop, orphan, timeout, cut, garbage, kill -9): the prompt as our own
  estimate counts the messages in the double's record, and the tokens that the double had sent; of an
  answer that came garbled, those before the garbage, since there we hang up.

Every end comes after what the double had sent is shown (it stalls there, or closes in good order), so that
no token is on its way when the call is cut. Prompts are shorter than those from which the
estimate learns (engine/context.py), so that all workers count alike.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, cast

import httpx

from service import ids
from service.engine.context import Contexts
from service.engine.tokens import Tokens
from service.money import NANOS
from service.store.turn_records import Turn, TurnRef
from service.upstream.models import load_catalogue
from tests.double import expected_text
from tests.support.processes import Replica
from tests.support.readers import follow, start_turn
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

#: of the replicas: failures that heal by waiting do so within a test, orphans are found at once
SETTINGS: Final[dict[str, Any]] = {
    "first_token_timeout_seconds": 8,
    "idle_timeout_seconds": 6,
    "orphan_seconds": 1,
    "lease_seconds": 2,
    "max_attempts": 4,
    "retry_budget_seconds": 30,
    "budget_tokens_per_day": 500_000_000,
    "budget_money_per_day": "100000",
    "log_level": "info",
}
SAFEGUARD: Final = "openai/gpt-oss-safeguard-20b"
_AT_ONCE: Final = 30
_CATALOGUE: Final = load_catalogue(None, None)
_NUMBER: Final = re.compile(r"turn n(\d+)\.")


@dataclass(frozen=True)
class Ending:
    """A wish to the double, what to do once `shown` tokens are, and how the turn ends ('' = in any way)."""

    name: str
    wish: str
    state: Literal["completed", "stopped", "failed", ""]
    act: Literal["read", "stop", "leave", "kill"] = "read"
    shown: int = 0
    model: str | None = None


ENDINGS: Final = (
    Ending("whole", "tokens=9", "completed"),
    Ending("with reasoning", "tokens=4 reasoning=6", "completed"),
    Ending("usage the old way", "tokens=5 fault=old_usage", "completed"),
    Ending("stopped before the first token", "fault=silence", "stopped", "stop"),
    Ending("stopped before the head", "header_delay=60", "stopped", "stop"),
    Ending("stopped after some", "tokens=30 fault=stall after=7", "stopped", "stop", 7),
    Ending("nobody reads, before the first token", "fault=silence", "stopped", "leave"),
    Ending("nobody reads, after some", "tokens=30 fault=stall after=8", "stopped", "leave", 8),
    Ending("no first token, then whole", "tokens=6 fault=silence times=1", "completed"),
    Ending("no head, then whole", "tokens=6 fault=hang times=1", "completed"),
    Ending("silent in the middle", "tokens=30 fault=stall after=5", "failed"),
    Ending("cut in the middle", "tokens=30 fault=cut after=11", "failed"),
    Ending("cut inside of an event", "tokens=30 fault=cut_inside after=3", "failed"),
    Ending("cut before the first token, then whole", "tokens=3 fault=cut after=0 times=1", "completed"),
    Ending("reset before the first token, then whole", "tokens=3 fault=rst after=0 times=1", "completed"),
    Ending("an end without a reason", "tokens=30 fault=eof after=4", "failed"),
    Ending("done without a reason", "tokens=30 fault=done after=4", "failed"),
    Ending("garbage in the middle", "tokens=30 fault=garbage after=6", "failed", shown=6),
    Ending("torn in the middle", "tokens=30 fault=torn after=6", "failed", shown=6),
    Ending("an error in the stream", "tokens=30 fault=error_event after=6", "failed"),
    Ending("a bare error in the stream", "tokens=30 fault=error_data after=0 times=2", "completed"),
    Ending("refused: 400", "fault=400", "failed"),
    Ending("refused: 413", "fault=413_bytes", "failed"),
    Ending("refused: 500, then whole", "tokens=5 fault=500 times=1", "completed"),
    # A model of its own: a limit that is learned from these must not hold up the others.
    Ending("refused: 429", "tokens=5 fault=429_rpm times=1 retry_after=0.2", "", model=SAFEGUARD),
    Ending("over capacity, the fallback answers", "tokens=5 fault=503 times=1", "completed"),
    Ending("bad gateway, again and again", "fault=502", "failed"),
    Ending("kill -9 before the first token", "tokens=7 fault=silence times=1", "completed", "kill"),
    Ending("kill -9 after some", "tokens=7 fault=stall after=5 times=1", "completed", "kill", 5),
)


@dataclass
class Told:
    """Tokens by who says so, the double's calls, and the turns whose own usage is not what it cost."""

    double: Counter[str]
    turns: Counter[str]
    ledger: Counter[str]
    budget: int
    calls: int
    wrong: list[str]
    cost: dict[str, Decimal]  # by who says so: double, turns, ledger, budget

    @property
    def equal(self) -> bool:
        total = self.ledger["prompt_tokens"] + self.ledger["completion_tokens"]
        tokens = self.double == self.turns == self.ledger and self.budget == total
        return not self.wrong and tokens and len(set(self.cost.values())) == 1


class Book:
    """Runs turns and compares what is booked with what the double was asked for."""

    def __init__(self, http: httpx.AsyncClient, replicas: Sequence[Replica], upstream: DoubleProcess) -> None:
        self._http = http
        self._replicas = replicas
        self._urls = [replica.url for replica in replicas]
        self._upstream = upstream
        self._ends: dict[int, tuple[Ending, str]] = {}  # by the turn's number: its path
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def run(self, turns: int) -> Told:
        ordinary = [ending for ending in ENDINGS if ending.act != "kill"]
        deadly = [ending for ending in ENDINGS if ending.act == "kill"]
        killed = turns * len(deadly) // len(ENDINGS)
        numbers = range(turns - killed)
        await asyncio.gather(*(self._one(n, ordinary[n % len(ordinary)]) for n in numbers))
        for first in range(turns - killed, turns, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, turns))
            await self._kill({n: deadly[n % len(deadly)] for n in numbers})
        return await self._told()

    async def _begin(self, number: int, ending: Ending) -> str:
        padding = "word " * (number % 17)
        body = {"content": f"[[{ending.wish}]] {padding}turn n{number}.", "model": ending.model}
        path = await start_turn(self._http, self._urls, f"s{number}", body, f"k{number}")
        self._ends[number] = ending, path
        return path

    async def _one(self, number: int, ending: Ending) -> None:
        async with self._gate:
            if ending.act == "leave":
                await self._leave(number, ending)
                return
            path = await self._begin(number, ending)
            if ending.act == "stop":
                await self._until_shown(number, ending, path)
                stopped = await self._http.post(f"{self._url(number)}{path}/stop")
                assert stopped.status_code == 200, stopped.text
            await asyncio.wait_for(follow(self._http, self._urls, path), 90)

    async def _leave(self, number: int, ending: Ending) -> None:
        """Its session is named by no call, and its only reader goes."""
        body = {"user_query": f"[[{ending.wish}]] turn n{number}."}
        sending = asyncio.create_task(
            self._http.post(f"{self._url(number)}/chat", json=body, headers={"Idempotency-Key": f"k{number}"})
        )
        await self._until_sent(number, ending)
        sending.cancel()
        self._ends[number] = ending, ""

    def _url(self, number: int) -> str:
        return self._urls[number % len(self._urls)]

    async def _until_sent(self, number: int, ending: Ending) -> None:
        def sent() -> bool:
            calls = self._upstream.calls(contains=f"turn n{number}.")
            return bool(calls) and calls[-1]["tokens"] == ending.shown

        what = f"the double's answer to turn {number}, {ending.name}"
        await eventually_async(sent, within=30, every=0.2, what=what)

    async def _until_shown(self, number: int, ending: Ending, path: str) -> None:
        """All that the double has sent is in the log, and so is its call."""
        await self._until_sent(number, ending)

        async def shown() -> bool:
            turn = (await self._http.get(f"{self._url(number)}{path}")).json()
            return bool(turn["attempt"] >= 1 and turn["text"] == expected_text(ending.shown))

        what = f"the tokens of turn {number}, {ending.name}"
        await eventually_async(shown, within=30, every=0.2, what=what)

    async def _kill(self, endings: dict[int, Ending]) -> None:
        """Every process dies at once in the middle of these turns; others take them over."""
        paths = [await self._begin(number, ending) for number, ending in endings.items()]
        for (number, ending), path in zip(endings.items(), paths, strict=True):
            await self._until_shown(number, ending, path)
        for replica in self._replicas:
            replica.kill()
        for replica in self._replicas:
            replica.start()
        follows = (follow(self._http, self._urls, path) for path in paths)
        await asyncio.wait_for(asyncio.gather(*follows), 90)

    # What is told when all is over

    async def _told(self) -> Told:
        await eventually_async(self._settled, within=60, what="the last turn's settlement")
        double, turns, wrong, calls = Counter[str](), Counter[str](), [], self._upstream.calls()
        asked_for, told = Decimal(0), Decimal(0)
        asked: dict[int, list[dict[str, Any]]] = {}
        for call in calls:
            found = _NUMBER.search(call["messages"][-1]["content"])
            assert found, call
            asked.setdefault(int(found[1]), []).append(call)
        for number, (ending, path) in sorted(self._ends.items()):
            turn = await self._turn(number, path)
            cost = Counter[str]()
            for call in asked.get(number, []):
                used = await bill(call, ending)
                cost.update(used)
                asked_for += priced(call["model"], used)
            said = Counter({name: turn["usage"][name] for name in cost} if cost else {})
            if said != cost or turn["state"] != (ending.state or turn["state"]):
                wrong.append(f"n{number} {ending.name}: {turn['state']} {dict(said)}, asked for {dict(cost)}")
            double.update(cost)
            told += amount(turn["cost"])
            turns.update({name: turn["usage"][name] for name in ("prompt_tokens", "completion_tokens")})
        usage = (await self._http.get(f"{self._urls[0]}/v1/usage?days=2")).json()
        ledger = Counter[str]()
        for row in usage["data"]:
            ledger.update({name: row[name] for name in ("prompt_tokens", "completion_tokens")})
        money = {
            "double": asked_for,
            "turns": told,
            "ledger": sum((amount(row["cost"]) for row in usage["data"]), Decimal(0)),
            "budget": Decimal(usage["money"]["day"]["used"]),
        }
        return Told(double, turns, ledger, usage["budgets"]["day"]["used"], len(calls), wrong, money)

    async def _settled(self) -> bool:
        usage = (await self._http.get(f"{self._urls[0]}/v1/usage?days=2")).json()
        return bool(sum(row["turns"] for row in usage["data"]) == len(self._ends))

    async def _turn(self, number: int, path: str) -> dict[str, Any]:
        if not path:
            session = ids.derived_session_id("none.anonymous", f"k{number}")
            url = f"{self._urls[0]}/v1/sessions/{session}"
            message = (await self._http.get(f"{url}/messages")).json()["data"][0]
            path = f"/v1/sessions/{session}/turns/{message['turn_id']}"
        found: dict[str, Any] = (await self._http.get(f"{self._urls[0]}{path}")).json()
        return found


def amount(cost: dict[str, str]) -> Decimal:
    """Of a turn or a row of the ledger; all models that ship have prices, so that none is unknown."""
    return Decimal(cost.get("USD", 0))


def priced(model: str, used: dict[str, int]) -> Decimal:
    found = _CATALOGUE.resolve(model).price
    assert found is not None
    return Decimal(found.nanos(used)) / NANOS


async def bill(call: dict[str, Any], ending: Ending) -> dict[str, int]:
    """What a call of the double's record has cost; see the module's head."""
    if call["status"] >= 400:
        return {"prompt_tokens": 0, "completion_tokens": 0}
    garbled = call["fault"] in ("garbage", "torn")
    prompt = call["prompt_tokens"]
    if garbled or not call["reported"]:
        params = {"messages": call["messages"], **call["params"]}
        turn = Turn(TurnRef("p", "s", "t"), "", 1, 0, "", "", 0, 0, 0, params)
        contexts = Contexts(cast(Any, None), Tokens())
        prompt = (await contexts.build(turn, _CATALOGUE.resolve(call["model"]))).prompt_tokens
    return {"prompt_tokens": prompt, "completion_tokens": ending.shown if garbled else call["tokens"]}
