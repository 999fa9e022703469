"""`python -m tests.attack.tenant <json>`: the well-behaved tenant, a process of its own.

Five requests a second, begun when the plan says so whatever became of those before: what a chat
page does. The list, a history, a message with its streamed answer (every second one is cut in its
middle and resumed), a turn, the rest of an answer from a cursor on. Every answer is checked
exactly. One JSON line per request on stdout: `{"at", "kind", "seconds", "wrong"}`, `at` in s of
CLOCK_MONOTONIC, `wrong` empty when all is right. `seconds` is from the request to what was asked
for; of a stream, how much later its last token came than the model's pace allows. The time for
which this process was ready to run and had no core is taken off.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import orjson

from tests.attack.connection import Answer, Connection, Cut, request
from tests.double import expected_text
from tests.support.lag import waited
from tests.support.readers import TERMINAL
from tests.support.sse import Frame, Parser, check_gapless, text_of

ADDRESS: Final = "127.0.9.1"
PER_SECOND: Final = 5
#: One of each a second: 60 sends and 240 reads a minute, of 100 and 1,200 that a key may have.
KINDS: Final = ("list", "history", "send", "turn", "resume")
# A session is written to by every tenth send, so each 10 s; an answer takes 0.2 s.
_SESSIONS: Final = 10
_FIRST: Final = 3  # messages before anything is measured: there is something to read
_TOKENS, _RATE = 40, 200
_CUT_AFTER: Final = 5  # events: a reader leaves in the middle of an answer
_RESUMED_AFTER: Final = 3  # of an ended one: the turn, its attempt and a first token at least
_PATIENCE_SECONDS: Final = 15.0
# nginx closes a connection that was idle for 75 s; one that is used in that moment would be cut.
_IDLE_SECONDS: Final = 30.0


@dataclass(eq=False)
class Session:
    """What the tenant knows of a session; `said` is all texts, oldest first."""

    id: str
    said: list[str] = field(default_factory=list)
    turn: str = ""
    users: int = 0  # requests about it that run; a message goes into one that has none


class Wrong(Exception):
    """An answer is not what it has to be."""


def check(holds: bool, what: object) -> None:
    if not holds:
        raise Wrong(str(what)[:300])


class Tenant:
    def __init__(self, port: int, key: str, name: str) -> None:
        self._port = port
        self._key = key
        self._name = name
        self._sessions = [Session(f"{name}-s{number}") for number in range(_SESSIONS)]
        self._seeds = itertools.count(1)
        self._picks = itertools.count()
        self._idle: list[tuple[float, Connection]] = []  # the one used last is at the end

    async def run(self) -> None:
        """Until it is killed."""
        for _ in range(_FIRST):
            await self._send()
        loop = asyncio.get_running_loop()
        running: set[asyncio.Task[None]] = set()
        begin = loop.time()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, begin + number / PER_SECOND - loop.time()))
            task = asyncio.create_task(self._one(KINDS[number % len(KINDS)]))
            running.add(task)
            task.add_done_callback(running.discard)

    async def _one(self, kind: str) -> None:
        wrong, begin, had_waited = "", time.monotonic(), waited()
        planned = 0.0
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                planned = await getattr(self, f"_{kind}")()
        except TimeoutError:
            wrong = f"not within {_PATIENCE_SECONDS:g} s"
        except (Wrong, Cut, OSError, KeyError, ValueError, AssertionError) as error:
            wrong = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - begin - (waited() - had_waited) - planned
        line = {"at": begin, "kind": kind, "seconds": max(0.0, seconds), "wrong": wrong}
        sys.stdout.write(orjson.dumps(line).decode() + "\n")
        sys.stdout.flush()

    # What a page does; each gives the seconds that the model was to take

    async def _list(self) -> float:
        known = {session.id for session in self._sessions if session.said}
        answer = await self._get("/v1/sessions?limit=100")
        listed = {item["id"] for item in answer.json()["data"]}
        check(known <= listed, f"{len(known - listed)} of {len(known)} sessions are not listed")
        return 0.0

    async def _history(self) -> float:
        with self._written() as session:
            answer = await self._get(f"/v1/sessions/{session.id}/messages?limit=20&order=desc")
            said = [item["content"] for item in answer.json()["data"]][::-1]
            check(said == session.said[-20:], f"the history of {session.id} is {said}")
        return 0.0

    async def _turn(self) -> float:
        with self._written() as session:
            turn = (await self._get(f"/v1/sessions/{session.id}/turns/{session.turn}")).json()
            check((turn["state"], turn["text"]) == ("completed", session.said[-1]), turn)
        return 0.0

    async def _resume(self) -> float:
        with self._written() as session:
            frames: list[Frame] = []
            await self._follow(self._events(session.id, session.turn, _RESUMED_AFTER), frames)
            check_gapless(frames, _RESUMED_AFTER + 1)
            check(session.said[-1].endswith(text_of(frames)), f"another text: {text_of(frames)!r}")
            check(frames[-1].event == "turn.completed", frames[-1])
        return 0.0

    @contextlib.contextmanager
    def _written(self) -> Iterator[Session]:
        """A session that has something; nothing is written to it meanwhile."""
        written = [one for one in self._sessions if one.said and one.turn]
        if not written:
            raise Wrong("there is nothing to read yet")
        session = written[next(self._picks) % len(written)]
        session.users += 1
        try:
            yield session
        finally:
            session.users -= 1

    async def _send(self) -> float:
        seed = next(self._seeds)
        session = next((one for one in self._sessions if not one.users), Session(f"{self._name}-{seed}"))
        if session in self._sessions:
            self._sessions.remove(session)  # to the end: the others have their turn before it
        question = f"[[tokens={_TOKENS} rate={_RATE} seed={seed}]] A question."
        path = f"/v1/sessions/{session.id}/turns"
        headers = {"Idempotency-Key": f"k{seed}"}
        data = request("POST", path, key=self._key, body={"content": question}, headers=headers)
        frames: list[Frame] = []
        turn = await self._follow(data, frames, seed % 2 * _CUT_AFTER)
        if frames[-1].event not in TERMINAL:
            await self._follow(self._events(session.id, turn, len(frames)), frames)
        check_gapless(frames)
        check(frames[-1].event == "turn.completed", frames[-1])
        text = expected_text(_TOKENS, seed)
        check(text_of(frames) == text, f"another text: {text_of(frames)!r}")
        session.said += [question, text]
        session.turn = turn
        # Not before: of one that failed nobody knows what became of it, and one fault is to count once.
        self._sessions.append(session)
        return (_TOKENS - 1) / _RATE

    def _events(self, session: str, turn: str, after: int) -> bytes:
        path = f"/v1/sessions/{session}/turns/{turn}/events"
        return request("GET", path, key=self._key, headers={"Last-Event-ID": f"{after}"})

    async def _follow(self, data: bytes, frames: list[Frame], most: int = 0) -> str:
        """Read a stream into `frames`, to its end or to so many; gives the turn's id."""
        async with await Connection.open(self._port, ADDRESS) as line:
            await line.send(data)
            status, headers = await line.head()
            if status != 200:
                raise Wrong(f"{status} {b''.join([piece async for piece in line.pieces(headers)])!r}")
            parser = Parser()
            async for piece in line.pieces(headers):
                frames += parser.feed(piece)
                if most and len(frames) >= most:
                    break
        return headers["x-turn-id"]

    async def _get(self, path: str) -> Answer:
        line = await self._connection()
        try:
            await line.send(request("GET", path, key=self._key))
            answer = await line.answer()
        except BaseException:
            line.abort()
            raise
        if line.usable:
            self._idle.append((time.monotonic(), line))
        check(answer.status == 200, f"{answer.status} {answer.body!r}")
        return answer

    async def _connection(self) -> Connection:
        while self._idle and self._idle[0][0] < time.monotonic() - _IDLE_SECONDS:
            self._idle.pop(0)[1].abort()
        return self._idle.pop()[1] if self._idle else await Connection.open(self._port, ADDRESS)


if __name__ == "__main__":
    asyncio.run(Tenant(**orjson.loads(sys.argv[1])).run())
