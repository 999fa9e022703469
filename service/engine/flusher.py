"""The flusher: one append per turn and window, many turns in one round trip.

The first token of an answer goes at once, and so does anything after a quiet window. What comes
then is collected for a window, mostly by the kernel: a turn whose upstream has a gate is not read
again before its window ends. A window is 8 ms for a few turns and grows with their number to the one
that is set (40 ms); while the worker is busy it is never shorter than that, and grows further, so that
there is less to do per token before anything queues up. In a turn's first 2 ms nothing but its first token is
written, and all is read that comes once that is in the log: an answer that comes at once is read to its end,
which waits for no window, and is sealed with all the rest. With many turns their windows end in
groups, so that no group keeps the loop for long. While Redis is away the turns hold their deltas and the
same append is tried again, for a bounded time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any, Final

from service.config.settings import Settings
from service.engine.background import Background
from service.engine.live import Live
from service.errors import StoreMoving, StoreRefusesWrites, StoreUnavailable
from service.store import log as codes
from service.store.log import Append, Log
from service.telemetry import metrics
from service.telemetry.logs import get_logger

_RETRY_SECONDS: Final = 0.1
# A send of whose answer nothing was shown is not held for longer by a store that refuses to write: it is
# told so within 3 s of asking. A failover behind the same address is over in less, mostly.
_REFUSED_SECONDS: Final = 1.5
# Turns per round trip: keeps one reply, and the loop's work on it, below a few ms.
_CHUNK: Final = 256
_SIGNALS: Final = {codes.STOP: "stop", codes.FENCED: "fenced", codes.GONE: "gone", codes.LOST: "lost"}
# Turns of the event loop from opening the gates to what was behind them being decoded: the first looks
# at the sockets, and asyncio's own loop runs what it finds there in the second.
_TURNS: Final = 2
# A whole answer of 200 tokens that a provider sends at once is in the kernel within 1.5 ms.
_FIRST_SECONDS: Final = 0.002
# Below the window that is set: so much for each turn, and at least the first figure. Shorter windows make
# less late what a person or a program waits for, and cost CPU per token, of which few turns need little.
_QUICK: Final = 0.008
_QUICK_PER_TURN: Final = 0.00125
# A window grows to the first length while this thread uses more than that share of a core, to the
# second where it has little left. With its wait and a round trip a token is then still less than
# 0.1 s late. From half a core on: a first token at 250 turns is a sixth faster than with three quarters.
_LONG: Final = (0.5, 0.06)
_LONGEST: Final = (0.85, 0.075)
# It shrinks again below these shares, from the second length and from the first.
_EASED: Final = 0.7
_CALM: Final = 0.3
_STEP: Final = 1.1
_LOOK_SECONDS: Final = 0.1  # over less, the share of one group's work is seen and not that of the load
# Groups that may end together with the one that is due, where the loop is behind: with more of them
# the loop would be kept for as long as without groups.
_CAUGHT_UP: Final = 2
# Turns per group, about: so many keep the loop for half a millisecond, for which whoever begins a
# turn waits at each of its round trips. With more groups than these one would end every millisecond.
# Of a few turns, which seldom are in anybody's way, all windows end together: each end has its price.
_GROUP: Final = 8
_MOST_GROUPS: Final = 32
_FEW: Final = 32

log = get_logger(__name__)


class Flusher:
    def __init__(self, settings: Settings, store_log: Log, background: Background) -> None:
        self._log = store_log
        self._shortest = self._window = settings.flush_window_seconds
        self._hold = settings.store_hold_seconds
        self._longest = settings.turn_timeout_seconds
        self._background = background
        self._loop = asyncio.get_running_loop()  # asking for it is a system call
        self._dirty: dict[Live, None] = {}  # a set that keeps its order
        self._opening: set[Live] = set()  # in their first window
        self._gated: set[Live] = set()
        self._groups: deque[list[Live]] = deque()  # of gated turns; the first one's window ends next
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # loop time at which the first group's window ends
        self._collecting = False
        self._busy = False
        self._adapted, self._used = 0.0, 0.0  # by the clock, by this thread's CPU time

    def put(self, live: Live, *, urgent: bool = False) -> None:
        """The turn has something to write; `urgent` does not wait for the window."""
        if urgent:
            self._dirty.pop(live, None)
            live.urgent = live.in_flight  # and then as soon as that has landed
            self._start((live,))
        elif live in self._opening:
            return  # it is written when that window ends, if no seal comes first
        else:
            if not self._dirty and self._timer is None and not self._collecting:
                self._loop.call_soon(self._write)
            self._dirty[live] = None
        if live.gate is None or not self._window:
            return
        live.gate.pause()
        if urgent:
            self._opening.add(live)
            self._loop.call_later(min(_FIRST_SECONDS, self._window), self._end_first, live)
        elif live not in self._gated:
            self._join_group(live)
            if self._timer is None and not self._collecting:
                self._await_group()

    def _end_first(self, live: Live) -> None:
        """What has come since the first token is written, and what comes now joins a group."""
        self._opening.discard(live)
        if live.ending:
            return
        if live.gate is not None:
            live.gate.resume()
        if live.has_pending:
            self.put(live)

    def put_last(self, live: Live) -> None:
        """The provider has said why its answer ends: what is left comes at once, and the seal writes it.

        Where it does not come at once this is written without it.
        """
        if live.gate is not None:
            live.gate.resume()
        self._loop.call_soon(self._start, (live,))

    def _join_group(self, live: Live) -> None:
        self._gated.add(live)
        number, groups = self._number_of_groups(), self._groups
        while len(groups) < number:
            groups.append([])
        group = groups[number - 1]
        if len(group) > _GROUP:  # some wait half a window only, and the loop is kept no longer
            group = min(list(groups)[number // 2 : number], key=len)
        group.append(live)

    def _number_of_groups(self) -> int:
        turns = len(self._gated)
        return 1 if turns <= _FEW else min(_MOST_GROUPS, turns // _GROUP)

    def _window_now(self) -> float:
        if self._busy:
            return self._window
        return min(self._window, max(_QUICK, _QUICK_PER_TURN * len(self._gated)))

    def _await_group(self) -> None:
        now, window = self._loop.time(), self._window_now()
        pause = window / self._number_of_groups()
        self._due = self._due + pause if self._due > now - window else now + pause
        self._timer = self._loop.call_at(self._due, self._end_groups)

    def _end_groups(self) -> None:
        """The first group's window has ended, and the next one's where the loop is behind."""
        self._timer = None
        self._adapt()
        ending = self._groups.popleft() if self._groups else []
        pause = self._window_now() / self._number_of_groups()
        for _ in range(_CAUGHT_UP):
            if self._groups and self._due + pause <= self._loop.time():
                self._due += pause
                ending += self._groups.popleft()
        self._gated.difference_update(ending)
        for live in ending:
            if live.gate is not None:
                live.gate.resume()
        if self._dirty or ending:
            self._collecting = True
            self._write_after(_TURNS)  # together with what is behind the gates
        elif self._groups:
            self._await_group()

    def _write_after(self, turns: int) -> None:
        if turns:
            self._loop.call_soon(self._write_after, turns - 1)
        else:
            self._write()

    def _adapt(self) -> None:
        """Longer while this thread is busy, shorter again while it is not."""
        now = time.monotonic()
        if now - self._adapted < _LOOK_SECONDS:
            return
        used = time.thread_time()
        busy = (used - self._used) / (now - self._adapted)
        self._adapted, self._used = now, used
        self._busy = busy > (_CALM if self._busy else _LONG[0])
        window = self._window
        longest = max((length for share, length in (_LONG, _LONGEST) if busy > share), default=0.0)
        if window < longest:
            self._window = min(window * _STEP, longest)
        elif busy < _CALM or (busy < _EASED and window > _LONG[1]):
            self._window = max(window / _STEP, self._shortest)

    def _write(self) -> None:
        """Everything that is there; what comes next is collected."""
        self._collecting = False
        dirty, self._dirty = self._dirty, {}
        if self._timer is None and (dirty or self._groups):
            self._await_group()
        self._start(dirty)

    def _start(self, lives: Collection[Live]) -> None:
        if self._background.closed:
            return  # the worker has left: what still came is written by whoever takes the turn over
        # A turn whose append is under way is put again when it has landed; the seal writes what an ending
        # turn still has.
        ready = [live for live in lives if live.has_pending and not live.in_flight and not live.ending]
        for i in range(0, len(ready), _CHUNK):
            self._append(ready[i : i + _CHUNK])

    def _append(self, lives: Sequence[Live]) -> None:
        appends = []
        for live in lives:
            live.take_off()
            first, payloads, fields = live.take()
            appends.append(Append(live.names, live.turn.epoch, live.turn.claim, first, payloads, fields))

        def answered(results: list[Any] | None) -> None:
            if results is None:
                # What one server of a Cluster does is waited for apart from the others.
                pairs = list(zip(lives, appends, strict=True))
                for apart in self._log.by_server(pairs, lambda pair: pair[1].names[1]).values():
                    some, theirs = zip(*apart, strict=True)
                    self._background.task("append", self._append_again(some, theirs))
            else:
                self._landed(lives, results)

        if not self._log.start_append(appends, answered):
            answered(None)

    async def _append_again(self, lives: Sequence[Live], appends: Sequence[Append]) -> None:
        results: list[Any]
        try:
            results = await self._log.append(appends)
        except StoreUnavailable as error:
            results = [error] * len(lives)
        except asyncio.CancelledError:
            for live in lives:
                live.land()
            raise
        self._landed(lives, results)

    def _landed(self, lives: Sequence[Live], results: Sequence[Any]) -> None:
        now = self._loop.time()
        for live, result in zip(lives, results, strict=True):
            live.land()
            self._settle(live, result, now)
        for live in lives:  # once every reader has what is new, and a turn that is to end knows it
            live.tell_flushed()

    def _settle(self, live: Live, result: Any, now: float) -> None:
        if isinstance(result, BaseException):
            self._held(live, result, now)
            return
        if result in (codes.OK, codes.STOP):
            live.acknowledge()
            if live in self._opening and live.gate is not None:
                live.gate.resume()
            if live.has_pending:
                self.put(live, urgent=live.urgent)
        elif result == codes.FENCED:
            metrics.fenced.inc()
        signal = _SIGNALS.get(result)
        if signal:
            live.interrupt(signal)

    def _held(self, live: Live, error: BaseException, now: float) -> None:
        if live.failing_since is None:
            live.failing_since = now
            metrics.store_holds.inc()
            log.warning("store.held", turn=live.turn.ref.turn_id, hold_seconds=self._hold)
        hold = self._hold
        if isinstance(error, StoreMoving):
            hold = self._longest  # nothing is lost or ended by a slot that is being moved
        elif isinstance(error, StoreRefusesWrites) and not live.ever_shown:
            hold = min(hold, _REFUSED_SECONDS)
        if now - live.failing_since > hold:
            live.interrupt("store")
            return
        self._loop.call_later(_RETRY_SECONDS, self.put, live)
