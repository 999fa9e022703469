"""Streaming a turn to one reader: plain ASGI, with no work per token but the encoding and a join.

Where the encoder `holds`, the status line waits for the first event to show, so that a refusal before
it is an HTTP status; for CHAT_HOLD_SECONDS at most, since proxies give up on a response without a
head. After the head, an error is told in the dialect's form or by a broken connection. When the
client leaves, the reader ends and the turn goes on; `left` is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from fastapi import Response
from starlette.types import Receive, Scope, Send

from service import events
from service.api.request_state import request_state
from service.dialects.base import Encoder
from service.engine.engine import Engine
from service.engine.reader import Reconnect
from service.errors import BrokenAnswer, Draining, ServiceError
from service.events import Event
from service.store.turn_records import TurnRef
from service.telemetry import metrics


class TurnResponse(Response):
    """Follows a turn from `after` on and sends what the encoder makes of it.

    `void` is the id of the last restart known when the reader came: older events are left out. `ended` is
    called when the terminal event was sent to a client that is still there, or just before the turn's failure
    becomes an HTTP status; `left` when the client leaves before that.
    """

    def __init__(
        self,
        engine: Engine,
        ref: TurnRef,
        encoder: Encoder,
        *,
        after: int = 0,
        void: int = 0,
        headers: dict[str, str] | None = None,
        ended: Callable[[], Awaitable[None]] | None = None,
        left: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            status_code=200,
            media_type=encoder.media_type,
            headers={
                "Cache-Control": "no-cache, no-transform",
                "X-Accel-Buffering": "no",
                **encoder.headers,
                **(headers or {}),
            },
        )
        del self.headers["content-length"]
        self._engine = engine
        self._ref = ref
        self._encoder = encoder
        self._after = after
        self._void = void
        self._ended = ended
        self._left = left
        self._started = False
        self._held = b""  # bytes that wait for the head
        self._refused = False
        self._quiet_since = 0.0  # loop time of the last bytes
        self._loop = asyncio.get_running_loop()
        self._send: Send  # passes the middlewares
        self._send_on: Send  # passes none of them: for the body, except its end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gauge = metrics.readers_open.labels(dialect=self._encoder.name)
        gauge.inc()
        # A task of its own: the request's task has the frames of all middlewares on its stack, and each event
        # would wake it through thirty of them.
        self._send, self._send_on = send, request_state(scope).send
        reading = asyncio.create_task(self._stream(), name="reader")
        leaving = asyncio.create_task(_left(receive, reading), name="leaving")
        try:
            await reading
        except asyncio.CancelledError:
            if leaving.done() and not leaving.cancelled():  # the client has left
                if self._left is not None:
                    self._left()
                return
            raise
        except OSError:
            if self._left is not None:
                self._left()
        finally:
            leaving.cancel()
            gauge.dec()

    async def _stream(self) -> None:
        encoder = self._encoder
        self._held = encoder.opening()
        if not encoder.holds:
            await self._show()
        showing: list[asyncio.Task[None]] = []

        def hold_no_longer() -> None:
            if not self._started:
                self._held = self._held or encoder.heartbeat
                showing.append(self._loop.create_task(self._show(), name="head"))

        hold = self._engine.settings.hold_seconds
        holding = self._loop.call_later(hold, hold_no_longer) if encoder.holds else None
        error: ServiceError | Reconnect | None = None
        try:
            await self._engine.readers.follow(self._ref, self._after, self._take)
        except (ServiceError, Reconnect) as failure:
            error = failure
        finally:
            if holding is not None:
                holding.cancel()
        await asyncio.gather(*showing)
        if error is not None:
            await self._fail(error)
        else:
            await self._note_end()
        await self._send({"type": "http.response.body", "body": self._held, "more_body": False})

    def _take(self, batch: list[Event]) -> Awaitable[None] | None:
        """New events of the log, in the callback that brings them; an empty list after some silence."""
        valid = self._valid(batch)
        data, broken = self._encode(valid)
        if batch and batch[-1].terminal and broken is None and self._ended is None:
            self._held += data  # it is sent with the end of the response, in one write
            return None if self._started else self._show_head()
        if not self._started or broken is not None:
            self._held += data
            return self._hold(valid, broken)
        now = self._loop.time()
        if not data and (not batch or now - self._quiet_since >= self._engine.settings.heartbeat_seconds):
            data = self._encoder.heartbeat  # also while the model thinks and the dialect does not show it
        if data:
            self._quiet_since = now
        return _write(self._send_on, data)

    async def _show(self) -> None:
        """Send the head, once, and what was held. Both the reader and the timer may call it."""
        await self._show_head()
        held, self._held = self._held, b""
        if (rest := _write(self._send_on, held)) is not None:
            await rest

    async def _show_head(self) -> None:
        if not self._started:
            self._started = True
            self._quiet_since = self._loop.time()
            await self._send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )

    async def _hold(self, batch: list[Event], broken: BrokenAnswer | None) -> None:
        """Keep the bytes until there is something to show; then send them."""
        if self._started or any(event.terminal or self._encoder.shows(event) for event in batch):
            await self._show()
        if broken is not None:
            raise broken

    async def _fail(self, error: ServiceError | Reconnect) -> None:
        if not self._started:
            if self._refused:
                await self._note_end()
            raise error if isinstance(error, ServiceError) else Draining() from None
        encoder = self._encoder
        farewell = encoder.reconnect() if isinstance(error, Reconnect) else encoder.failed(error)
        if farewell is None:
            raise BrokenAnswer("the log cannot be read on") from error
        if (rest := _write(self._send_on, farewell)) is not None:
            await rest

    async def _note_end(self) -> None:
        if self._ended is not None:
            await asyncio.sleep(0)  # a client that is known to have left by now has not got the end
            await self._ended()

    def _encode(self, batch: list[Event]) -> tuple[bytes, BrokenAnswer | None]:
        """The bytes of a batch; of one that breaks the answer, those before that, and the error."""
        data = []
        try:
            for event in batch:
                data.append(self._encoder.encode(event))
        except BrokenAnswer as broken:
            return b"".join(data), broken
        return b"".join(data), None

    def _valid(self, batch: list[Event]) -> list[Event]:
        """The events that no restart made void. Raises the failure of a turn that has shown nothing yet."""
        if self._void:
            batch = [event for event in batch if event.id == 1 or event.id >= self._void]
        if not self._started:
            batch = _since_restart(batch)
            failure = _refusal(batch, self._encoder)
            if failure is not None:
                self._refused = True
                raise failure
        return batch


def _write(send: Send, data: bytes) -> Awaitable[None] | None:
    """Send at once, without a task. Where the client's connection is full, returns what is to be awaited."""
    if not data:
        return None
    steps = send({"type": "http.response.body", "body": data, "more_body": True}).__await__()
    try:
        wanted = next(steps)
    except StopIteration:
        return None
    return _Rest(steps, wanted)


class _Rest(Awaitable[None]):
    """The rest of a coroutine that was begun outside any task: a task awaits it to its end."""

    def __init__(self, steps: Generator[Any, Any, None], wanted: Any) -> None:
        self._steps = steps
        self._wanted = wanted

    def __await__(self) -> Generator[Any, Any, None]:
        yield self._wanted
        yield from self._steps


async def _left(receive: Receive, reading: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reading.cancel()


def _since_restart(batch: list[Event]) -> list[Event]:
    """Without what the last restart made void: a reader that was shown nothing need not see it.

    The restart itself stays: an encoder that collects text has to drop it.
    """
    for i in range(len(batch) - 1, -1, -1):
        if batch[i].name == events.RESTARTED:
            return [batch[0], *batch[i:]] if batch[0].name == events.STARTED else batch[i:]
    return batch


def _refusal(batch: list[Event], encoder: Encoder) -> ServiceError | None:
    """The failure of a turn that has shown nothing yet, if the batch tells of one."""
    for event in batch:
        if encoder.shows(event):
            return None
        if (failure := encoder.failure(event)) is not None:
            return failure
    return None
