"""Callers: each sends, repeats, stops, edits, regenerates and deletes in sessions that others use too.

What a caller does is chosen by the seed; when it happens is not. Every refusal that the contract allows is
fine here, anything else is told to the oracle.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import httpx

from tests.model.oracle import Oracle, Sent, follows
from tests.support.readers import TERMINAL
from tests.support.sse import Frame, frames

SESSIONS: Final = ("s0", "s1", "s2")
# What a service in trouble says: its store is away, it drains, the provider is limited or fails.
_TROUBLE: Final = (429, 502, 503)
# A turn of another caller is busy, or the session or message was deleted meanwhile.
_TOO_LATE: Final = (404, 409)
_READER_SECONDS: Final = 60.0
_FAULTS: Final = (
    "500",
    "503",
    "cut after=0",
    "cut after=9",
    "garbage after=5",
    "silence",
    "429_rpm retry_after=0.3",
)


class Caller:
    def __init__(
        self,
        name: str,
        http: httpx.AsyncClient,
        urls: Sequence[str],
        oracle: Oracle,
        chance: Random,
        numbers: itertools.count[int],
        done: Counter[str],
    ) -> None:
        self._name = name
        self._http = http
        self._urls = urls
        self._oracle = oracle
        self._chance = chance
        self._numbers = numbers
        self._done = done
        self._sent: list[Sent] = []
        self._readers: set[asyncio.Task[None]] = set()

    async def act(self, until: float) -> None:
        """One thing after the other until the time is over, then wait for the own readers."""
        actions = (self._send, self._send, self._send, self._repeat, self._stop, self._change, self._delete)
        while asyncio.get_running_loop().time() < until:
            await self._chance.choices(actions, (5, 5, 5, 3, 3, 2, 1))[0]()
            await asyncio.sleep(self._chance.uniform(0, 0.4))  # callers are people
        await asyncio.gather(*self._readers)

    async def _call(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """At any replica; None where the connection broke, and nobody knows what came of it."""
        try:
            answer = await self._http.request(method, f"{self._chance.choice(self._urls)}{path}", **options)
        except httpx.TransportError:
            return None
        if answer.status_code >= 400 and answer.status_code not in (*_TROUBLE, *_TOO_LATE):
            self._oracle.broken(
                "an answer that nothing allows:", method, path, answer.status_code, answer.text
            )
        return answer

    async def _send(self) -> None:
        number, tokens = next(self._numbers), self._chance.choice((5, 40, 120))
        fault = f" fault={self._chance.choice(_FAULTS)} times=1" if self._chance.random() < 0.15 else ""
        content = f"[[tokens={tokens} rate=60 vary{fault}]] {self._name} n{number}."
        body = {"content": content, "on_busy": self._chance.choice(("reject", "interrupt", "queue"))}
        sent = Sent(number, self._name, self._chance.choice(SESSIONS), tokens, body, f"k{number}")
        self._sent.append(sent)
        await self._begin(sent)

    async def _begin(self, sent: Sent) -> None:
        """Send it, and again with its key for as long as nobody knows whether it has begun."""
        headers = {"Prefer": "respond-async", "Idempotency-Key": sent.key}
        for _ in range(5):
            answer = await self._call(
                "POST", f"/v1/sessions/{sent.session}/turns", json=sent.body, headers=headers
            )
            if answer is not None and answer.status_code == 202:
                self._done["sends"] += 1
                self._oracle.began(sent, answer.headers["location"])
                for _ in range(self._chance.choice((0, 1, 2))):
                    reader = asyncio.create_task(self._read(answer.headers["location"]))
                    self._readers.add(reader)
                    reader.add_done_callback(self._readers.discard)
                return
            if answer is not None and answer.status_code in _TOO_LATE:
                self._done["refused"] += 1
                return
            await asyncio.sleep(self._chance.uniform(0.05, 0.3))  # before it is tried again

    async def _repeat(self) -> None:
        if self._sent:
            self._done["repeats"] += 1
            await self._begin(self._chance.choice(self._sent[-8:]))

    async def _stop(self) -> None:
        begun = [sent for sent in self._sent[-4:] if sent.turn]
        if not begun:
            return
        answer = await self._call("POST", f"{self._chance.choice(begun).turn}/stop")
        if answer is not None and answer.status_code == 200:
            self._done["stops"] += 1
            if answer.json()["state"] in ("running", "queued"):
                self._oracle.broken("a stop was answered before its seal:", answer.text)

    async def _change(self) -> None:
        """Edit a message, or have the last one answered again."""
        session = self._chance.choice(SESSIONS)
        found = await self._call("GET", f"/v1/sessions/{session}/messages")
        if found is None or found.status_code != 200:
            return
        asked = [message for message in found.json()["data"] if message["role"] == "user"]
        if not asked:
            return
        number = next(self._numbers)
        edit = {
            "message_id": self._chance.choice(asked)["id"],
            "content": f"[[tokens=20 vary]] {self._name} n{number}.",
        }
        sent = Sent(number, self._name, session, 20, {"edit": edit}, f"k{number}")
        self._sent.append(sent)
        self._done["edits"] += 1
        await self._begin(sent)

    async def _delete(self) -> None:
        session = self._chance.choice(SESSIONS)
        self._oracle.deleted.add((self._name, session))
        answer = await self._call("DELETE", f"/v1/sessions/{session}")
        self._done["deletes"] += answer is not None and answer.status_code == 204

    async def _read(self, path: str) -> None:
        """Follow a turn to its end, cut by chance; it may be deleted meanwhile."""
        try:
            async with asyncio.timeout(_READER_SECONDS):
                last = 0
                while not (end := await self._read_once(path, last)) or end.event not in TERMINAL:
                    last = end.id or last if end else last
                    await asyncio.sleep(0.05)  # as an EventSource waits
                self._done["reads"] += 1
        except Gone:
            self._done["reads of what was deleted"] += 1
        except TimeoutError:
            self._oracle.broken("a reader was never told of an end:", path)

    async def _read_once(self, path: str, after: int) -> Frame | None:
        """Events from a cursor on until the connection ends; the last of them."""
        last: Frame | None = None
        url = f"{self._chance.choice(self._urls)}{path}/events"
        try:
            async with self._http.stream("GET", url, headers={"Last-Event-ID": str(after)}) as answer:
                if answer.status_code in (404, 410):
                    raise Gone
                if answer.status_code == 200:
                    async for frame in frames(answer):
                        if not follows(last.id or 0 if last else after, frame.id or 0):
                            self._oracle.broken("a reader was shown a gap:", path, after, last, frame)
                        last = frame
                        self._oracle.heard(self._name, path, frame)
                        if self._chance.random() < 0.03:
                            break
        except httpx.TransportError:
            pass
        return last


class Gone(Exception):
    """The turn that was read has been deleted."""
