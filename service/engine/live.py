"""Live: a turn while this worker runs it; what upstream brought and the log has not yet.

Deltas are buffered here between flushes and joined, so that one flush writes one event. Once
taken, payloads keep their ids until they are acknowledged: a repeated append is the same append.
`interrupt` ends the attempt from outside (stop, fenced, orphan, lost, timeout, drain).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from service import events
from service.config.provider_keys import ProviderKey
from service.engine import billing
from service.engine.tail_cache import TailCache
from service.eventloop.inline_future import InlineFuture
from service.events import Event
from service.money import Amount
from service.store.turn_records import Turn, priced
from service.telemetry import metrics
from service.telemetry.tracing import NOTHING, Span
from service.upstream.base import Gate
from service.upstream.models import Model
from service.usage import Count


class Interrupted(Exception):
    """The attempt was ended from outside; the turn's `signal` says why."""


@dataclass(slots=True)
class Answer:
    """What the turn's log says since its last (re)start."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.text or self.tool_calls)

    def replay(self, log: list[Event]) -> None:
        for event in log:
            if event.name == events.DELTA:
                self.text.append(event.text)
            elif event.name == events.REASONING:
                self.reasoning.append(event.text)
            elif event.name == events.TOOL_CALL:
                self.tool_calls.append(event.data)
            elif event.name == events.RESTARTED:
                self.clear()

    def clear(self) -> None:
        """Of what was said before a restart nothing counts."""
        self.text.clear()
        self.reasoning.clear()
        self.tool_calls.clear()


class Live:
    def __init__(self, turn: Turn, names: Sequence[str], tail: TailCache | None) -> None:
        self.turn = turn
        self.names = names  # of its keys, for appends
        self.tail = tail
        self.answer = Answer()
        self.shown = self._shown_stored = turn.shown
        self.acknowledged = turn.last
        self.tokens = 0  # of the call under way, counted
        self.reported: Count | None = None  # what the provider says that it used
        self.said: dict[str, Any] = {}  # by the provider, besides the answer
        self.refused_keys: set[ProviderKey] = set()  # with which no call can succeed now
        self.signal: str | None = None
        self.followed_by = ""
        self._interruptible: asyncio.Task[Any] | None = None
        # Loop times, and the signals to interrupt with: of the turn's end, and of whatever comes first.
        self.end: tuple[float, str] = (math.inf, "turn_timeout")
        self.deadline: tuple[float, str] | None = None
        self.failing_since: float | None = None
        self.ending = False  # it is being sealed
        self.outcome = ""  # the state in which it was sealed here
        self.urgent = False  # what is pending must not wait for a window
        self.model: Model | None = None
        self.gate: Gate | None = None
        self.span: Span = NOTHING
        self.first_shown: float | None = None  # seconds after the turn's begin, where we showed it
        self._landed = asyncio.Event()
        self._landed.set()
        self._pending: list[tuple[str, list[str]] | bytes] = []
        self._fields: dict[str, Any] = {}
        self._taken: list[bytes] = []
        self._taken_fields: dict[str, Any] = {}
        self._waiter: InlineFuture[None] | None = None  # of whoever waits until all is in the log
        self.changed = asyncio.Event()

    # What the runner brings

    def add_text(self, text: str) -> None:
        self.answer.text.append(text)
        self._add(events.DELTA, text)

    def add_reasoning(self, text: str) -> None:
        self.answer.reasoning.append(text)
        self._add(events.REASONING, text)

    def add_tool_call(self, call: dict[str, Any]) -> None:
        self.add_event(events.TOOL_CALL, call)
        self.answer.tool_calls.append(call)
        self.shown = True

    def add_event(self, name: str, body: dict[str, Any], **fields: Any) -> None:
        self._pending.append(events.structured(name, body))
        self._fields.update(fields)

    def _add(self, kind: str, text: str) -> None:
        self.shown = True
        last = self._pending[-1] if self._pending else None
        if isinstance(last, tuple) and last[0] == kind:
            last[1].append(text)
        else:
            self._pending.append((kind, [text]))

    # What it costs

    def ask(self, model: Model, prompt_tokens: int) -> None:
        """A call is about to be sent: with the next append whoever ends the turn bills it."""
        turn = self.turn
        turn.attempt += 1
        turn.answered_by, turn.price = model.id, model.price
        turn.prompt_tokens = prompt_tokens
        self.said = {}
        self.add_event(
            events.ATTEMPT,
            {"attempt": turn.attempt, "model": model.id},
            attempt=turn.attempt,
            answered_by=model.id,
            prompt_tokens=prompt_tokens,
            price=priced(model.price, model.id),
        )

    def asked(self, *, billable: bool) -> None:
        """The call is over, and this is what it has cost."""
        if billable:
            self._bill(billing.billed(self.turn, self.tokens, self.reported))
        else:
            self._bill(self.turn.billed)

    def inherit_bill(self) -> None:
        """Of the owners before one may have died in the middle of a call."""
        if self.turn.prompt_tokens or self.turn.tokens:
            self._bill(billing.billed(self.turn, self.turn.tokens))

    def _bill(self, billed: Count) -> None:
        self.turn.billed = billed
        self.turn.prompt_tokens = self.turn.tokens = self.tokens = 0
        self.reported = None
        self._fields["billed"] = orjson.dumps(billed)
        self._fields["prompt_tokens"] = 0

    @property
    def usage(self) -> dict[str, Any]:
        return billing.usage(self.turn, self.tokens, self.reported)

    @property
    def cost(self) -> Amount | None:
        return billing.cost(self.turn, self.tokens, self.reported)

    # What the flusher does

    def take(self) -> tuple[int, list[bytes], list[Any]]:
        """The next append: first id, payloads, fields. The same again until `acknowledge`."""
        if not self._taken:
            for item in self._pending:
                if isinstance(item, bytes):
                    self._taken.append(item)
                else:
                    join = "".join(item[1])
                    self._taken.append(
                        events.delta(join) if item[0] == events.DELTA else events.reasoning(join)
                    )
            self._pending = []
            # Fields that went without an event, and are not acknowledged, go again with what comes next.
            self._taken_fields |= self._fields
            self._fields = {}
            self._taken_fields["tokens"] = self.tokens
            if self.shown and not self._taken_fields.get("shown", self._shown_stored):
                self._taken_fields["shown"] = 1
        flat: list[Any] = []
        for name, value in self._taken_fields.items():
            flat += (name, value)
        return self.acknowledged + 1, self._taken, flat

    def acknowledge(self) -> None:
        """The append is in the log: readers may see it now, and not before (P1)."""
        first = self.acknowledged + 1
        log = [Event(first + i, payload) for i, payload in enumerate(self._taken)]
        self.acknowledged += len(self._taken)
        self._shown_stored = bool(self._taken_fields.get("shown", self._shown_stored))
        if self._shown_stored:
            self.is_shown()
        self._taken = []
        self._taken_fields = {}
        self.failing_since = None
        if self.tail is not None:
            self.tail.push(log)

    def is_shown(self) -> None:
        """Readers can see something of the turn from now on."""
        if not self.turn.shown:
            self.turn.shown = True
            self.first_shown = max(0.0, time.time() - self.turn.created / 1000)
            metrics.first_token.observe(self.first_shown)

    @property
    def ever_shown(self) -> bool:
        """Something of the turn was brought, by this attempt or one before it."""
        return self.shown or self.turn.shown

    @property
    def in_flight(self) -> bool:
        """An append is under way and not yet answered."""
        return not self._landed.is_set()

    def take_off(self) -> None:
        self._landed.clear()

    def land(self) -> None:
        self._landed.set()

    async def landed(self) -> None:
        """Returns when no append is under way, so that nothing can be written behind a seal."""
        await self._landed.wait()

    @property
    def has_pending(self) -> bool:
        return bool(self._pending or self._taken or self._fields or self._taken_fields)

    def unwritten(self) -> list[bytes]:
        """Everything not acknowledged, for the seal to write."""
        _, taken, _ = self.take()
        rest = list(taken)
        if self._pending:
            self._taken = []
            _, more, _ = self.take()
            rest += more
        self._taken = []
        self._pending = []
        return rest

    def forget_unwritten(self) -> None:
        """Nothing of what is not acknowledged will be written."""
        self._taken, self._pending = [], []

    @property
    def _all_written(self) -> bool:
        return not (self._pending or self._taken)

    async def flushed(self) -> None:
        """Returns when all that was added is in the log, or the attempt is interrupted."""
        if self._all_written or self.signal is not None:
            return
        self._waiter = InlineFuture(loop=asyncio.get_running_loop())
        try:
            await self._waiter
        finally:
            self._waiter = None

    def tell_flushed(self) -> None:
        """Whoever waits until all is in the log goes on in here, where it is."""
        if self._waiter is not None and self._all_written and not self._waiter.done():
            self._waiter.set_result(None)

    def interrupt(self, signal: str) -> None:
        """End the attempt; the first reason given is the one that counts, but fenced always wins."""
        if self.signal is None or signal == "fenced":
            self.signal = signal
        self.changed.set()
        task, self._interruptible = self._interruptible, None
        if task is not None:
            task.cancel()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What the block awaits ends with Interrupted when the turn is interrupted."""
        task = self._interruptible = asyncio.current_task()
        try:
            yield
        except asyncio.CancelledError:
            if task is None or self._interruptible is not None or task.uncancel():
                raise  # the task itself is to end
            raise Interrupted from None
        finally:
            self._interruptible = None

    def resume(self) -> None:
        """The interruption concerned one attempt only; the turn may try another."""
        self.signal = None
        self.changed.clear()
