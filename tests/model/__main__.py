"""`python -m tests.model [--seconds N] [--seed N]`: random callers, random faults, one oracle.

Two replicas of two workers on a real Redis that syncs each write. What callers do and what goes wrong is
chosen by the seed, which is printed; the interleaving is the machine's. Exit status 1 where a rule broke.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import secrets
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx

from tests.model.actors import SESSIONS, Caller
from tests.model.faults import LEASE_SECONDS, Faults
from tests.model.oracle import Oracle
from tests.support.identity import bearer
from tests.support.issuer import SECRET, token
from tests.support.processes import Replica
from tests.support.readers import client
from tests.support.redis import RedisServer
from tests.support.sse import Parser
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

PRINCIPALS: Final = ("ann", "bob", "cem")
CALLERS_EACH: Final = 2
_QUIET_SECONDS: Final = 90
SETTINGS: Final[dict[str, Any]] = {
    "workers": 2,
    "lease_seconds": LEASE_SECONDS,
    "max_attempts": 20,
    "drain_seconds": 5,
    "limit_sends": "",
    "auth": "jwt",
    "jwt_key": SECRET,
    "jwt_algorithms": "HS256",
    "retry_budget_seconds": 10,
    "first_token_timeout_seconds": 2,
    "max_running_turns_per_principal": 20,
    "limit_reads": "",
}


class Model:
    def __init__(self, stack: contextlib.ExitStack, folder: Path, seed: int) -> None:
        """What it starts ends with the stack."""
        self._chance = Random(seed)
        self.oracle = Oracle()
        self.done: Counter[str] = Counter()
        self.store = RedisServer(folder / "redis", "--appendfsync", "always")
        stack.callback(self.store.close)
        self.upstream = DoubleProcess()
        stack.callback(self.upstream.close)
        self.replicas = []
        settings = {"redis_url": self.store.url, "GROQ_BASE_URL": self.upstream.url, **SETTINGS}
        for number in range(2):
            self.replicas.append(Replica(folder / f"replica{number}", **settings))
            stack.callback(self.replicas[-1].kill)
        self._urls = [replica.url for replica in self.replicas]

    async def run(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        numbers = itertools.count()
        async with contextlib.AsyncExitStack() as stack:
            https = {name: await stack.enter_async_context(client()) for name in PRINCIPALS}
            callers = []
            for name, http in https.items():
                http.headers.update(bearer(token(name, lives=86_400)))
                callers += [
                    Caller(
                        name, http, self._urls, self.oracle, Random(self._chance.random()), numbers, self.done
                    )
                    for _ in range(CALLERS_EACH)
                ]
            faults = Faults(self.replicas, self.store, Random(self._chance.random()), self.done)
            await asyncio.gather(faults.cause(until), *(caller.act(until) for caller in callers))
            for name, http in https.items():
                for session in SESSIONS:
                    await self._check_session(http, name, session)
            await self._check_turns(https)
            await eventually_async(self._nothing_is_held, within=_QUIET_SECONDS)

    async def _get(self, http: httpx.AsyncClient, path: str) -> httpx.Response:
        """From a replica that is well again."""

        async def answered() -> httpx.Response | None:
            with contextlib.suppress(httpx.TransportError):
                answer = await http.get(f"{self._urls[0]}{path}")
                if answer.status_code not in (429, 502, 503):
                    return answer
            return None

        return await eventually_async(answered, within=_QUIET_SECONDS, what=path)

    async def _check_session(self, http: httpx.AsyncClient, name: str, session: str) -> None:
        path = f"/v1/sessions/{session}"

        async def quiet() -> bool:
            found = await self._get(http, path)
            return found.status_code == 404 or found.json()["active_turn"] is None

        await eventually_async(quiet, within=_QUIET_SECONDS, what=f"{name} {path} is quiet")
        messages, cursor = [], ""
        while True:
            found = await self._get(http, f"{path}/messages?limit=100{cursor}")
            if found.status_code == 404:
                return
            messages += found.json()["data"]
            if not found.json()["next"]:
                break
            cursor = f"&cursor={found.json()['next']}"
        self.oracle.history(name, session, messages)

    async def _check_turns(self, https: dict[str, httpx.AsyncClient]) -> None:
        """Every turn that is still there, against what its readers were shown and the provider was asked."""
        attempts: Counter[int] = Counter()
        gone: set[int] = set()
        for (name, path), sent in self.oracle.turns.items():
            turn = await self._get(https[name], path)
            log = await self._get(https[name], f"{path}/events")
            if 404 in (turn.status_code, log.status_code):
                gone.add(sent.number)
                if (name, sent.session) not in self.oracle.deleted:
                    self.oracle.broken("a turn is gone, and nobody has deleted its session:", path)
                continue
            events = list(Parser().feed(log.content))
            self.oracle.log(name, path, events, turn.json())
            self.done[f"turns {turn.json()['state']}"] += 1
            attempts[sent.number] += sum(frame.event == "attempt.started" for frame in events)
        asked = [str(call["messages"][-1]["content"]) for call in self.upstream.calls() if call["messages"]]
        for sent in self.oracle.turns.values():
            if sent.number not in gone and (sent.principal, sent.session) not in self.oracle.deleted:
                made = sum(sent.marker in message for message in asked)
                self.oracle.calls(sent, made, attempts[sent.number])

    async def _nothing_is_held(self) -> bool:
        """Places, reservations and deadlines: all are gone when no turn runs any more."""
        with self.store.client() as store:
            held = [key for name in ("running", "reserved") for key in store.scan_iter(f"chat:{{*}}:{name}")]
            return not held and not store.zcard("chat:turns:deadlines")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    given = parser.parse_args(arguments)
    sys.stdout.write(f"model: seed {given.seed}, {given.seconds:g} s\n")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-model-"))
        model = Model(stack, Path(folder), given.seed)
        asyncio.run(asyncio.wait_for(model.run(given.seconds), given.seconds + 3 * _QUIET_SECONDS))
    for what, count in sorted(model.done.items()):
        sys.stdout.write(f"  {count:6} {what}\n")
    for broken in model.oracle.wrong:
        sys.stdout.write(f"BROKEN {broken}\n")
    sys.stdout.write(f"model: {len(model.oracle.wrong)} rules broken\n")
    return 1 if model.oracle.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
