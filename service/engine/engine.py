"""The engine: a turn's life, and the only place with chat rules.

begin, follow, stop, read. Everything a worker holds in memory is here and none of it is needed
for correctness: another worker finds the same in the store. Knows no HTTP, no Redis commands
and no Groq.
"""

from __future__ import annotations

import asyncio
from typing import Final

from service.engine.admission import Admission
from service.engine.background import Background
from service.engine.beginning import Beginning
from service.engine.booking import Booking
from service.engine.budgets import Budgets
from service.engine.context import Contexts
from service.engine.exchanges import was_before
from service.engine.flusher import Flusher
from service.engine.history import History, session_not_found, turn_not_found
from service.engine.live import Answer
from service.engine.live_turns import LiveTurns
from service.engine.pacing.provider_keys import ProviderKeys
from service.engine.pictures import Pictures
from service.engine.process_stats import ProcessStats
from service.engine.reader import Readers
from service.engine.recovery import Recovery
from service.engine.runner import Runner
from service.engine.running import Running
from service.engine.sealing import Sealer
from service.engine.session_watch import SessionWatches
from service.engine.stopping import Stops
from service.engine.storage import Storage
from service.engine.tail_cache import FAREWELL_SECONDS, TailCaches
from service.engine.titles import Titles
from service.engine.tokens import Tokens
from service.engine.webhooks import Webhooks
from service.errors import ServiceError
from service.parts import Part
from service.store.connection.notifications_cluster import make_notifications
from service.store.store import Store
from service.store.turn_records import Turn, TurnRef
from service.upstream.base import Upstream
from service.upstream.models import Catalogue

_TELL_SECONDS: Final = 0.5  # half of the time that a drain leaves for it
_IDLE_POLL_SECONDS: Final = 0.05


class Engine:
    def __init__(self, store: Store, upstream: Upstream, catalogue: Catalogue) -> None:
        self.settings = settings = store.settings
        self.store = store
        self.catalogue = catalogue
        self._upstream = upstream
        self._background = Background()
        self.tokens = Tokens()
        self.history = History(store)
        self.health = store.health
        self.storage = Storage(store.account, store.sessions)
        self.pictures = Pictures(settings, store.images, self.storage, catalogue)
        self.contexts = Contexts(store.sessions, self.tokens)
        self.budgets = Budgets(
            settings, store.ledger, store.send_admission, self.contexts, self.storage, catalogue.currency
        )
        self.admission = Admission(settings.max_running_turns)
        self.governor = ProviderKeys(settings, store.pacing, self._background)
        self._notifications = make_notifications(settings, self._notified, self._missed)
        self.tails = TailCaches(settings, store, self._notifications, self._background)
        self.readers = Readers(settings, store, self.tails)
        self.watches = SessionWatches(settings, store, self._notifications)
        self._webhooks = Webhooks(settings, store)
        self.sealer = Sealer(settings, store, self.tails, self.budgets, self._webhooks)
        self._flusher = Flusher(settings, store.log, self._background)
        self._titles = Titles(
            catalogue.titles,
            upstream,
            store,
            self.storage,
            self.budgets,
            self.tokens,
            self.governor,
            self._background,
        )
        self._booking = Booking(store, self.budgets, self._webhooks)
        self.running = self._make_running()
        self._recovery = Recovery(settings, store, self.running, self.tails, self.budgets, self.admission)
        self._stops = Stops(store, self.readers, self.sealer, self.running)
        self.live_turns = LiveTurns(store, self._stops)
        self.beginning = Beginning(
            store,
            catalogue,
            self.contexts,
            self.pictures,
            self.budgets,
            self.admission,
            self.running,
            self._stops,
            self._background,
        )
        self._channel = store.keys.worker_channel(store.worker)

    def _make_running(self) -> Running:
        runner = Runner(
            self.settings,
            self.catalogue,
            self._upstream,
            self.contexts,
            self.pictures,
            self._flusher,
            self.governor,
            self.sealer,
        )
        return Running(
            self.store,
            runner,
            self._titles,
            self.tails,
            self.budgets,
            self._booking,
            self.admission,
            self.pictures,
            self._background,
        )

    async def open(self) -> None:
        self.tails.start()
        self._background.loop("process_stats", ProcessStats(self.store).run)
        self._background.loop("clock", self.store.clock.run)
        self._background.loop("health", self.store.health.run)
        self._recovery.start(self._background)
        self._webhooks.start(self._background)
        self.governor.start()
        self._notifications.start(self._channel)

    def drain(self, *, refuse: bool = True) -> None:
        """Take no turn over from now on, and begin none where the whole replica goes."""
        self.beginning.closed = self.beginning.closed or refuse
        self.running.closed = True
        self._titles.close()
        self.watches.close()

    @property
    def draining(self) -> bool:
        return self.beginning.closed

    async def release(self) -> None:
        """Leave what still runs to others, and tell all readers to reconnect.

        Where the store is silent they are told all the same, before the server cuts their connections.
        """
        releasing = asyncio.create_task(self.running.release(self.settings.redis_timeout_seconds + 1))
        await asyncio.wait({releasing}, timeout=_TELL_SECONDS)
        self.readers.close()
        await releasing

    async def close(self) -> None:
        """End everything; the store outlives the engine."""
        self.drain()
        await self.release()
        self.running.cancel()
        await self._notifications.close()
        await self._background.close()
        await self._upstream.close()

    async def idle(self) -> None:
        """Returns when this worker runs no turn and has no reader any more. For drains only."""
        while True:
            if self.running.idle and not any(tail.readers for tail in self.tails.all()):
                return
            await asyncio.sleep(_IDLE_POLL_SECONDS)

    def _notified(self, channel: str, data: bytes) -> None:
        if channel != self._channel:
            if not self.watches.notify(channel):
                self.tails.notify(channel, int(data))
            return
        live = self.running.find(TurnRef.parse(data.decode()))
        if live is not None:
            live.interrupt("stop")

    def _missed(self) -> None:
        self.tails.reset()
        self.watches.reset()

    # Stop and read

    async def stop(self, ref: TurnRef) -> Turn:
        """Returns the sealed turn: by its owner, or by us where the owner does not within 200 ms."""
        if not await self._stops.carry_out(ref):
            raise turn_not_found()
        return await self.turn(ref)

    def left(self, ref: TurnRef) -> None:
        """The only possible reader of an answer has left: the answer ends soon, unless somebody reads it."""
        self._background.task("left", self._recovery.end_unread(ref))

    async def turn(self, ref: TurnRef) -> Turn:
        turn = await self.store.turns.get(ref)
        if turn is None:
            raise turn_not_found()
        return turn

    async def runs(self, principal: str, session_id: str, turn_id: str | None) -> bool:
        """Has the turn, or without an id any turn of the session, not ended yet?"""
        if turn_id is None:
            session = await self.store.sessions.get(principal, session_id)
            return session is not None and session.active_turn is not None
        turn = await self.store.turns.get(TurnRef(principal, session_id, turn_id))
        return turn is not None and not turn.sealed

    async def delete(self, principal: str, session_id: str) -> tuple[int, int]:
        """Stop what runs, book what is not booked, then remove every key. Raises session_not_found.

        Returns how many turns and messages it had.
        """
        stopped = False
        for tried in range(self._stops.most):
            # Turns first, then the session: a turn that begins in between is not in the list, and the delete
            # fails.
            turns = await self.store.sessions.turns(principal, session_id)
            session = await self.store.sessions.get(principal, session_id)
            if session is None:
                if tried:
                    return 0, 0  # another delete was faster
                raise session_not_found()
            if session.active_turn:
                ref = TurnRef(principal, session_id, session.active_turn)
                stopped = await self._stops.carry_out(ref) or stopped
                continue
            if stopped:
                await asyncio.sleep(FAREWELL_SECONDS)
            await self._booking.book_ended([TurnRef(principal, session_id, turn_id) for turn_id in turns])
            messages = await self.store.sessions.count(principal, session_id)
            if await self.store.sessions.delete(principal, session_id, turns):
                return len(turns), messages
        raise ServiceError("turn_in_progress", "The session goes on answering; try again.", retry_after=1)

    async def said_before(self, turn: Turn) -> list[Part]:
        """The parts, before a turn, of the answer that it goes on with."""
        return await was_before(self.store.sessions, turn, await self.text(turn)) if turn.goes_on else []

    async def text(self, turn: Turn) -> str:
        """The answer so far, or the whole of it; of a turn that went on with an answer only its own part."""
        if turn.sealed and not turn.goes_on:
            message = await self.store.sessions.message(
                turn.ref.principal, turn.ref.session_id, turn.answer_id
            )
            if message is not None and message.turn_id == turn.ref.turn_id:
                return message.content
        answer = Answer()
        answer.replay(await self.store.log.read_all(turn.ref))
        return "".join(answer.text)
