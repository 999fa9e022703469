"""Users: what they ask for, what they do when they are told no or nothing, and what they were shown.

They go the way of the routes (service/api/sending.py, service/api/turn_response.py): a known key first, then
begin, then follow; a reader whose connection breaks comes back with its cursor, at any worker. Invariants
checked here: what a reader is shown has no gap, ends with the terminal event and in no other clean way,
and is then what the log says; errors are answers that a client may get.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from service.engine.engine import Engine
from service.engine.reader import Reconnect
from service.engine.sends import Attached, Send
from service.errors import ServiceError
from service.events import FAILED, RESTARTED
from service.events import Event as Logged
from service.store.turn_records import LIFE, TurnRef
from tests.simulation.plan import Event
from tests.simulation.seen import text_of

if TYPE_CHECKING:
    from tests.simulation.world import Worker, World

PRINCIPAL: Final = "p"
# A client's own patience: tries of a send with a key, comings back of a reader, and between them.
_TRIES: Final = 12
_PAUSE_SECONDS: Final = 0.4
# What nobody may ever be told.
_NEVER: Final = ("internal",)
# What nobody is told where nothing has gone wrong.
_NOT_IN_CALM: Final = ("store_unavailable", "events_lost", "events_expired", "draining", "cursor_ahead")
# A stop is answered when its turn is sealed: by its owner in 0.2 s, else by who was asked.
_STOP_SECONDS: Final = 1.0


class Gone(Exception):
    """The connection to a worker broke."""


class View:
    """What one client was shown of a turn."""

    def __init__(self, world: World, ref: TurnRef) -> None:
        self._world = world
        self.ref = ref
        self.events: list[Logged] = []
        self.cursor = 0
        self.since = world.loop.time()
        self.slow = False
        self.resumes = False  # it comes by the route that reads the events of a known turn

    def take(self, batch: list[Logged]) -> Awaitable[None] | None:
        oracle = self._world.oracle
        for event in batch:
            if event.id != self.cursor + 1 and not self._crosses(event):
                oracle.broken("a reader is not told of a gap", self.ref.turn_id, self.cursor, event.id)
            if self.events and self.events[-1].terminal:
                oracle.broken("a reader was shown something behind the end", self.ref.turn_id, event.id)
            self.cursor = event.id
            self.events.append(event)
            oracle.show(self.ref.turn_id, event, self.since)
        return asyncio.sleep(0.02) if self.slow and batch else None

    def _crosses(self, event: Logged) -> bool:
        """A new life of the log begins with what makes void what was shown, or goes on where that ended."""
        if event.id % LIFE or not event.id:
            return False
        if event.name in (RESTARTED, FAILED):
            return True
        network = self._world.network
        base = self._world.key_of(self.ref)
        kept = network.redis.hash(base).get(b"kept")
        return kept is not None and int(kept) == self.cursor

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1].terminal

    def check_end(self) -> None:
        if not self.ended:
            self._world.oracle.broken("a reader ended cleanly before the end", self.ref.turn_id)
        elif self.events[0].id == 1 and (self.events[-1].name != FAILED or self.cursor < LIFE):
            text = self._world.oracle.ended.get((self.ref.turn_id, self.events[-1].id))
            known = self.ref.turn_id not in self._world.oracle.forgotten
            if known and text != text_of(self.events):
                self._world.oracle.broken(
                    "a reader has another text than the log", self.ref.turn_id, text_of(self.events), text
                )


class Users:
    def __init__(self, world: World) -> None:
        self._world = world
        self._begun: dict[int, Attached] = {}  # by the number of the event that began it
        self._sent: dict[int, Event] = {}
        self._busy: dict[asyncio.Task[None], str] = {}

    @property
    def waiting(self) -> str:
        """Who has not been answered yet."""
        return ", ".join(self._busy.values())

    def do(self, event: Event) -> None:
        act: Coroutine[Any, Any, None] = getattr(self, f"_{event.kind}")(event)
        task = self._world.loop.create_task(act)
        self._busy[task] = str(event)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        what = self._busy.pop(task)
        error = task.exception()
        if error is not None:
            self._world.oracle.broken("an error that no client may get", f"{error!r} for {what}")

    def _worker(self, event: Event, tried: int = 0) -> Worker:
        workers = self._world.workers
        number: int = event.what["worker"] + tried
        return workers[number % len(workers)]

    def _told(self, error: ServiceError, event: Event) -> None:
        oracle = self._world.oracle
        oracle.outcomes[error.code] += 1
        if error.code in _NEVER or (oracle.calm and error.code in _NOT_IN_CALM):
            oracle.broken("an answer that no client may get", error.code, error.message, event)

    # What they do

    async def _send(self, event: Event) -> None:
        self._sent[event.number] = event
        await self._begin(event, event, event.number)

    async def _repeat(self, event: Event) -> None:
        """The same send again, perhaps while the first is under way."""
        first = self._sent.get(event.what["of"])
        if first is not None and first.what["key"]:
            await self._begin(event, first, first.number)

    async def _edit(self, event: Event) -> None:
        first = self._sent.get(event.what["of"])
        if first is not None and first.kind == "send" and first.what["session"] is not None:
            self._sent[event.number] = event
            await self._begin(event, event, event.number)

    async def _evict(self, event: Event) -> None:
        """A session that answers a later question than the first is lost; the first is edited at once."""
        first = self._sent.get(event.what["of"])
        if first is not None and self._world.evict(first.what["session"]):
            await self._edit(event)

    def _make(self, first: Event) -> Send:
        what, number = first.what, first.number
        key = f"k{number}" if what["key"] else None
        if "of" in what:
            edited = self._sent[what["of"]]
            again = what["regenerate"]
            return Send(
                route="turns",
                principal=PRINCIPAL,
                content="" if again else f"q{number}",
                key=key,
                session_id=edited.what["session"],
                mode="regenerate" if again else "edit",
                must_exist=what.get("must_exist", True),
                message_id=f"m{edited.number}",
                on_busy=what["on_busy"],
            )
        return Send(
            route="turns",
            principal=PRINCIPAL,
            content=f"q{number}",
            key=key,
            session_id=what["session"],
            message_id=f"m{number}",
            on_busy=what["on_busy"],
        )

    async def _begin(self, event: Event, first: Event, number: int) -> None:
        for tried in range(_TRIES):
            worker, send = self._worker(event, tried), self._make(first)
            try:
                attached = await worker.ask(partial(_enter, send=send))
            except Gone:
                pass
            except ServiceError as error:
                self._told(error, event)
                if error.code not in ("store_unavailable", "draining"):
                    return
            else:
                self._check_known(number, attached)
                self._begun.setdefault(number, attached)
                await self._read(event, attached.ref, first.what.get("reads", "all"), tried)
                return
            if not first.what["key"]:
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    def _check_known(self, number: int, attached: Attached) -> None:
        self._begun[number] = attached

    async def _stop(self, event: Event) -> None:
        attached = self._begun.get(event.what["of"])
        if attached is None:
            return
        begin, losses = self._world.loop.time(), self._world.oracle.losses
        try:
            turn = await self._worker(event).ask(lambda engine: engine.stop(attached.ref))
        except Gone:
            return
        except ServiceError as error:
            self._told(error, event)
            return
        if not turn.sealed and losses == self._world.oracle.losses:
            self._world.oracle.broken("a stop is answered before its turn has ended", turn.state)
        if self._world.oracle.calm and self._world.loop.time() - begin > _STOP_SECONDS:
            self._world.oracle.broken("a stop takes long", self._world.loop.time() - begin)

    async def _delete(self, event: Event) -> None:
        try:
            await self._worker(event).ask(lambda engine: engine.delete(PRINCIPAL, event.what["session"]))
        except Gone:
            pass
        except ServiceError as error:
            self._told(error, event)

    async def _follow(self, event: Event) -> None:
        attached = self._begun.get(event.what["of"])
        if attached is not None:
            await self._read(event, attached.ref, "all", resumes=True)

    # Reading

    async def _read(
        self, event: Event, ref: TurnRef, how: str, tried: int = 0, *, resumes: bool = False
    ) -> None:
        if how == "none":
            return
        oracle = self._world.oracle
        view = View(self._world, ref)
        view.slow = event.number % 5 == 0
        view.resumes = resumes
        for again in range(_TRIES):
            worker, begin, losses = self._worker(event, tried + again), view.cursor, oracle.losses
            try:
                if how == "some":
                    await self._leave_in_the_middle(worker, view, event.number)
                    return
                await worker.ask(partial(_follow, view=view))
                view.check_end()
                return
            except (Gone, Reconnect):
                pass
            except ServiceError as error:
                if self._over(error, event, view):
                    return
                if error.code == "events_lost":
                    known = ref.turn_id not in oracle.forgotten
                    if known and begin == 0 and losses == oracle.losses:
                        oracle.broken("a replay from the start is refused", ref.turn_id)
                    view = View(self._world, ref)
            await asyncio.sleep(_PAUSE_SECONDS)
            view.resumes = True
            view.since = self._world.loop.time()

    def _over(self, error: ServiceError, event: Event, view: View) -> bool:
        self._told(error, event)
        oracle = self._world.oracle
        if error.code == "cursor_ahead" and not oracle.losses:
            oracle.broken("a reader's cursor is ahead of the log", view.ref.turn_id, view.cursor)
        return error.code in ("turn_not_found", "cursor_ahead", "events_expired", "session_not_found")

    async def _leave_in_the_middle(self, worker: Worker, view: View, number: int) -> None:
        reading = asyncio.create_task(worker.ask(lambda engine: _follow(engine, view)))
        await asyncio.wait([reading], timeout=0.05 * (number % 8))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _enter(engine: Engine, send: Send) -> Attached:
    return await engine.beginning.repeats.known(send) or await engine.beginning.begin(send)


async def _follow(engine: Engine, view: View) -> None:
    if view.resumes and not await engine.readers.check(view.ref, view.cursor):
        return
    await engine.readers.follow(view.ref, view.cursor, view.take)
