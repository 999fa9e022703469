"""The world: several engines, their users and what goes wrong, from a plan to its end.

Everything that a user waits for ends, and after the last event all is settled within a bound: if not, the
history is broken as well. Users know what a client knows: answers, events and errors, and that a
connection broke. Nothing here looks into an engine; what must hold of the store is oracle.py's.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import cache
from typing import Any, Final, TypeVar

from service.config.settings import Settings
from service.engine.engine import Engine
from service.money import Price
from service.store.store import Store
from service.store.turn_records import TurnRef
from service.upstream.models import Catalogue, Model
from tests.simulation import store as stores
from tests.simulation.clock import Broken, Loop, Process, Stuck, virtual
from tests.simulation.network import Network, Transport
from tests.simulation.oracle import Oracle
from tests.simulation.plan import Event, Plan
from tests.simulation.provider import PROMPT_NANOS, WORD_NANOS, Provider, Upstream
from tests.simulation.seen import Kept
from tests.simulation.users import PRINCIPAL, Gone, Users

T = TypeVar("T")

LEASE: Final = 1.0
# So long after the last event all users have what they waited for, or were told that they will not. A reader
# who was shown what the store has forgotten may wait for a minute (reader.py).
_USERS_SECONDS: Final = 90.0
# And so long after that nothing is left to be done: three leases, a sweep and what it finds.
_SETTLED_SECONDS: Final = 15.0
# And so long takes a worker's end, when the store answers.
_CLOSED_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.1
_BACK_SECONDS: Final = 0.3  # until a worker that has ended is replaced


@cache
def settings(on_takeover: str, max_running: int) -> Settings:
    return Settings(
        _env_file=None,
        redis_url="redis://simulated",
        lease_seconds=LEASE,
        orphan_seconds=2.0,
        redis_timeout_seconds=0.5,
        store_hold_seconds=3.0,
        first_token_timeout_seconds=3.0,
        idle_timeout_seconds=2.0,
        turn_timeout_seconds=10.0,
        retry_budget_seconds=3.0,
        heartbeat_seconds=2.0,
        max_attempts=3,
        max_queued_turns=2,
        max_running_turns=max_running,
        max_running_turns_per_principal=3,
        budget_tokens_per_day=1_000_000,
        on_takeover=on_takeover,
    )


def catalogue(on_takeover: Any) -> Catalogue:
    common: dict[str, Any] = {
        "context_window": 8000,
        "max_completion_tokens": 1000,
        "default_completion": 500,
        "capabilities": frozenset(),
        "reasoning_efforts": (),
        "aliases": (),
        "on_takeover": on_takeover,
        "owned_by": "simulation",
        "price": Price("USD", PROMPT_NANOS * 1_000, PROMPT_NANOS * 1_000, WORD_NANOS * 1_000),
    }
    return Catalogue([Model(id="one", fallbacks=("two",), **common), Model(id="two", fallbacks=(), **common)])


class Worker:
    """One process with an engine, and those who wait for what it does."""

    def __init__(self, world: World, number: int, generation: int) -> None:
        self.number = number
        self.process = Process(world.loop, f"w{number}:{generation}", 100 * number + generation)
        self._world = world
        self._asked: dict[asyncio.Future[None], None] = {}
        self.engine: Engine | None = None
        self.leaving = False
        self.started = world.loop.create_future()
        self.process.run(self._start())

    async def _start(self) -> None:
        world, name = self._world, self.process.name
        self.store = Store(world.settings, name)
        stores.learn(self.store.scripts)
        upstream = Upstream(world.provider, self.process, LEASE)
        self.engine = Engine(self.store, upstream, world.catalogue)
        await self.engine.open()

    async def ask(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """What the engine answers. Raises Gone where the process dies, and what the engine raises."""
        if self.process.dead or self.engine is None:
            raise Gone
        task = self.process.run(work(self.engine))
        done = asyncio.get_running_loop().create_future()
        self._asked[done] = None

        def ended(_: object) -> None:
            if not done.done():
                done.set_result(None)

        task.add_done_callback(ended, context=Context())
        try:
            await done
        except asyncio.CancelledError:  # the client hangs up: a request is cancelled where it runs
            self.process.call_at(asyncio.get_running_loop().time(), task.cancel)
            raise
        finally:
            self._asked.pop(done, None)
        if task.cancelled():
            raise Gone
        result: T = task.result()
        return result

    def kill(self) -> None:
        self.process.kill()
        for done in self._asked:
            if not done.done():
                done.set_exception(Gone())

    async def leave(self, seconds: float) -> None:
        """As on SIGTERM: nothing new; what runs has some time, and is then released."""
        self.leaving = True
        engine = self.engine
        if engine is None:
            return
        engine.drain()
        try:
            async with asyncio.timeout(seconds):
                await engine.idle()
        except TimeoutError:
            pass
        await engine.release()
        await self.close()

    async def close(self) -> None:
        if self.engine is not None:
            await self.engine.close()
            await self.store.close()


class World:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = Loop()
        self.settings = settings(plan.on_takeover, plan.max_running)
        self.catalogue = catalogue(plan.on_takeover)
        self.network = Network(self.loop, str(plan.seed))
        self.network.after = self._after
        self.provider = Provider(str(plan.seed), kind=plan.kind, slow=plan.slow)
        self.oracle = Oracle(self.loop, self.network, self.provider, self.settings, calm=plan.calm)
        self.workers: list[Worker] = []
        self._all: list[Worker] = []
        self._generations = [0] * plan.workers
        self._ending: list[asyncio.Task[None]] = []
        self._trips: list[list[Any]] = []  # [times left, event]
        self._snapshots: dict[int, tuple[stores.Snapshot, Kept]] = {}
        self.users = Users(self)

    def outcome(self) -> str:
        """Why the history is broken, '' where it is not."""
        try:
            self._run()
        except (Broken, Stuck) as broken:
            return str(broken)
        return ""

    def _run(self) -> None:
        collecting = gc.isenabled()
        gc.disable()  # what the collector ends, it ends at a moment that no seed knows
        try:
            with virtual(self.loop, f"world/{self.plan.seed}"):
                try:
                    self.loop.run_until_complete(self.loop.create_task(self._history()))
                finally:
                    self.loop.bury()
                    self.loop.close()
        finally:
            if collecting:
                gc.enable()

    async def _history(self) -> None:
        for number in range(self.plan.workers):
            self.workers.append(self._begin(number))
        await asyncio.sleep(0.05)
        begin = self.loop.time()
        for event in self.plan.events:
            if event.kind == "lose":
                self.loop.call_at(begin + event.at - event.what["back"], self._remember, event.number)
            self.loop.call_at(begin + event.at, self._happen, event)
        last = max((event.at for event in self.plan.events), default=0.0)
        await asyncio.sleep(last)
        await self._until(lambda: self.users.waiting, _USERS_SECONDS, "a wait does not end")
        self._heal()
        await self._until(self._unsettled, _SETTLED_SECONDS, "something is left undone")
        self.oracle.at_the_end()
        await asyncio.sleep(2 * _BACK_SECONDS)
        self._ending += [worker.process.run(worker.close(), "close") for worker in self.workers]
        await self._until(self._still_ending, _CLOSED_SECONDS, "a worker does not end")
        await self._until(self._left, _CLOSED_SECONDS, "a task is left")

    def _unsettled(self) -> str:
        return self.oracle.unsettled([one.process.name for one in self.workers if not one.process.dead])

    def _heal(self) -> None:
        """Nothing more goes wrong."""
        self._trips.clear()
        for worker in self.workers:
            worker.process.disarm()

    async def _until(self, left: Callable[[], str], seconds: float, rule: str) -> None:
        """Wait until nothing is left, for so long at most."""
        until = self.loop.time() + seconds
        await asyncio.sleep(_LOOK_SECONDS)
        while what := left():
            if self.loop.time() > until:
                raise Broken(f"{rule}: {what}")
            await asyncio.sleep(_LOOK_SECONDS)

    def _still_ending(self) -> str:
        left = [task for task in self._ending if not task.done()]
        return ", ".join(str(task.get_coro()) for task in left if not self.loop.of_the_dead(task))

    def _left(self) -> str:
        """Tasks of workers that have ended, though none of them died."""
        tasks = self.loop.tasks.items()
        left = [task for task, process in tasks if process is not None and not task.done()]
        return ", ".join(str(task.get_coro()) for task in left if not self.loop.of_the_dead(task))

    def _begin(self, number: int) -> Worker:
        self._generations[number] += 1
        worker = Worker(self, number, self._generations[number])
        self._all.append(worker)
        return worker

    def key_of(self, ref: TurnRef) -> bytes:
        """The key of a turn's hash."""
        return f"chat:{{{ref.principal}/{ref.session_id}}}:turn:{ref.turn_id}".encode()

    # What happens

    def _happen(self, event: Event) -> None:
        act = getattr(self, f"_{event.kind}", None)
        if act is not None:
            act(event)
        else:
            self.users.do(event)

    def _worker(self, event: Event) -> Worker:
        number: int = event.what["worker"]
        return self.workers[number]

    def _impair(self, worker: Worker, seconds: float = 0.0) -> None:
        self.oracle.impaired[worker.process.name] = self.loop.time() + seconds

    def _crash(self, event: Event) -> None:
        worker = self._worker(event)
        worker.process.after_steps(event.what["steps"], lambda: self.kill(worker))

    def kill(self, worker: Worker) -> None:
        if worker.process.dead:
            return
        self._impair(worker, float("inf"))
        worker.kill()
        self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        def replace() -> None:
            if self.workers[worker.number] is worker:
                self.workers[worker.number] = self._begin(worker.number)

        self.loop.call_later(_BACK_SECONDS, replace, context=Context())

    def _drain(self, event: Event) -> None:
        worker = self._worker(event)
        if worker.leaving or worker.process.dead:
            return
        self._impair(worker, float("inf"))
        leaving = worker.process.run(worker.leave(event.what["seconds"]), "leave")
        self._ending.append(leaving)
        leaving.add_done_callback(lambda _: worker.kill(), context=Context())
        self._replace(worker)

    def _freeze(self, event: Event) -> None:
        worker = self._worker(event)
        worker.process.after_steps(event.what["steps"], lambda: self.freeze(worker, event.what["seconds"]))

    def freeze(self, worker: Worker, seconds: float) -> None:
        self._impair(worker, seconds)
        worker.process.freeze(seconds)

    def _cut(self, event: Event) -> None:
        self._impair(self._worker(event))
        self.network.cut(self._worker(event).process)

    def _hold(self, event: Event) -> None:
        self._impair(self._worker(event), event.what["seconds"])
        self.network.hold(self._worker(event).process, event.what["seconds"])

    def _stall(self, event: Event) -> None:
        for worker in self.workers:
            self._impair(worker, event.what["seconds"])
        self.network.stall(event.what["seconds"])

    def _remember(self, number: int) -> None:
        self._snapshots[number] = stores.Snapshot(self.network.redis), self.oracle.remember()

    def _lose(self, event: Event) -> None:
        self._come_back(event.number, event.what["down"])

    def _come_back(self, number: int, down: float) -> None:
        found = self._snapshots.pop(number, None)
        if found is None:
            return
        for worker in self.workers:
            self._impair(worker, down + 1)
        self.network.go_down(down)
        found[0].come_back(self.network.redis)
        self.oracle.lose(found[1])

    def evict(self, session_id: str) -> bool:
        """The hash of a session whose later question is being answered; the rest of the session stays."""
        redis, base = self.network.redis, f"chat:{{{PRINCIPAL}/{session_id}}}".encode()
        session = base + b":session"
        asked = self.oracle.kept.sessions.get(session, [])
        active = redis.hash(session).get(b"active", b"").decode()
        if redis.value(base + b":queue") or active not in [one.turn for one in asked[1:]]:
            return False
        redis.evict(session)
        self.oracle.evicted.add(base)
        self.oracle.losses += 1
        return True

    def _trip(self, event: Event) -> None:
        if event.what["then"] == "lose":
            self._remember(event.number)
        self._trips.append([event.what["times"], event])

    def _after(self, transport: Transport, name: str) -> None:
        """A script was carried out for somebody, who has not heard of it yet."""
        for trip in list(self._trips):
            left, event = trip
            worker = next((one for one in self._all if one.process is transport.process), None)
            if name != event.what["script"] or worker is None or worker.number != event.what["worker"]:
                continue
            trip[0] = left - 1
            if left > 1:
                continue
            self._trips.remove(trip)
            what = event.what["then"]
            if what == "crash":
                self.kill(worker)
            elif what == "cut":
                self._impair(worker)
                self.network.cut(worker.process)
            elif what == "freeze":
                self.freeze(worker, 1.5 * LEASE)
            else:
                self._come_back(event.number, 0.05)


def run(plan: Plan) -> str:
    return World(plan).outcome()
