"""OpenAI's Responses: a turn's log as output items, and as the events of a stream.

The `sequence_number` of an event is 16 times the id of the log's event, plus its place among those (8 at
most) that the log's event becomes: two readers at two replicas and a replay see the same numbers. A reader
that comes back is sent the events above its number, for which the log is read from the first event on.

The last event is `response.completed`, `response.incomplete` (also for a stop, with status `cancelled`) or
`error` and `response.failed`; `[DONE]` follows. There are no events of our own, since some clients end at
names that they do not know, and never `retry:`. This dialect cannot take text back: a restart after
something was shown is an `error` that says to retrieve the response, and the stream ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from service import events
from service.dialects.base import Encoder
from service.dialects.errors import from_event, of_responses, openai_error
from service.dialects.responses_object import (
    Ending,
    Head,
    call_item,
    message_item,
    reasoning_item,
    shows_reasoning,
)
from service.errors import BrokenAnswer, ServiceError
from service.events import Event

#: Numbers that are reserved for the events that one event of the log becomes.
STEP: Final = 16
_DONE: Final = b"data: [DONE]\n\n"


@dataclass(slots=True)
class _Item:
    """An output item while it is written; `pieces` are payloads of the log, shared by all readers.

    `grows_by` is the name of the log's events that add to it while it is open. `before` is a delta's event up
    to the text, encoded once per item.
    """

    kind: str
    id: str
    index: int
    grows_by: str = ""
    call_id: str = ""
    name: str = ""
    pieces: list[bytes] = field(default_factory=list)
    before: bytes = b""
    closed: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        return b"".join([piece[1:] for piece in self.pieces]).decode()

    def whole(self, status: str) -> dict[str, Any]:
        if self.kind == "text":
            return message_item(self.id, "assistant", self.text, status)
        if self.kind == "reasoning":
            return reasoning_item(self.id, self.text, status)
        return call_item(
            self.id, {"id": self.call_id, "function": {"name": self.name, "arguments": self.text}}, status
        )


class Items:
    """The output of one turn, built event by event. `take` returns the events for its readers."""

    def __init__(self, echo: dict[str, Any]) -> None:
        self._echo = echo
        self._reasoning = shows_reasoning(echo)
        self._head = Head("", "", 0, "", echo)
        self._items: list[_Item] = []
        self.open: _Item | None = None
        self._calls: dict[int, _Item] = {}

    @property
    def shown(self) -> bool:
        return bool(self._items)

    def shows(self, event: Event) -> bool:
        return event.name in events.SHOWN and (self._reasoning or event.name != events.REASONING)

    def goes_on(self, event: Event) -> _Item | None:
        """Add a delta to the open item, if it belongs to that. Returns the item, else None."""
        item = self.open
        if item is None or item.grows_by != event.name:
            return None
        item.pieces.append(event.payload)
        return item

    def take(self, event: Event) -> list[bytes]:
        name, self._seq = event.name, event.id * STEP
        if name == events.DELTA or name == events.REASONING:
            if not self.shows(event):
                return []
            told: list[bytes] = []
            if (item := self.goes_on(event)) is None:
                told, item = self._begin_text(_PIECES[name], event)
            return [*told, delta(item, event.text, self._next())]
        if name == events.TOOL_CALL:
            return self._call(event.data)
        if name == events.STARTED:
            started = event.data
            self._head = Head(
                started["session_id"], started["turn_id"], started["created"], started["model"], self._echo
            )
            told_of = self.object(Ending())
            return [self._tell(f"response.{kind}", response=told_of) for kind in ("created", "in_progress")]
        if name == events.RESTARTED:
            self._items, self.open, self._calls = [], None, {}
        return self._end(event) if event.terminal else []

    def object(
        self, ending: Ending, usage: dict[str, Any] | None = None, completed_at: int | None = None
    ) -> dict[str, Any]:
        """The response as it stands."""
        output = [item.closed or item.whole(ending.item_status) for item in self._items]
        return self._head.object(ending, output, usage, completed_at)

    def _next(self) -> int:
        self._seq += 1
        return self._seq - 1

    def _tell(self, kind: str, **fields: Any) -> bytes:
        return tell(kind, self._next(), **fields)

    def _number(self, kind: str) -> int:
        return sum(item.kind == kind for item in self._items)

    def _begin_text(self, kind: str, event: Event) -> tuple[list[bytes], _Item]:
        told = self._close("completed")
        text = kind == "text"
        item_id = self._head.item_id("msg" if text else "rs", self._number(kind))
        item = self.open = _Item(kind, item_id, len(self._items), event.name, pieces=[event.payload])
        self._items.append(item)
        where = {"item_id": item.id, "output_index": item.index}
        if text:
            empty = {**message_item(item.id, "assistant", "", "in_progress"), "content": []}
            part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            told.append(self._tell("response.output_item.added", output_index=item.index, item=empty))
            told.append(self._tell("response.content_part.added", **where, content_index=0, part=part))
        else:
            empty = {**reasoning_item(item.id, "", "in_progress"), "summary": []}
            part = {"type": "summary_text", "text": ""}
            told.append(self._tell("response.output_item.added", output_index=item.index, item=empty))
            told.append(
                self._tell("response.reasoning_summary_part.added", **where, summary_index=0, part=part)
            )
        item.before = _before_delta(item)
        return told, item

    def _call(self, call: dict[str, Any]) -> list[bytes]:
        place, function = call.get("index", 0), call.get("function") or {}
        told: list[bytes] = []
        item = self._calls.get(place)
        if item is None:
            told = self._close("completed")
            item_id = self._head.item_id("fc", len(self._calls))
            call_id, name = call.get("id") or item_id, function.get("name") or ""
            item = self.open = _Item("call", item_id, len(self._items), call_id=call_id, name=name)
            item.before = _before_delta(item)
            self._calls[place] = item
            self._items.append(item)
            told.append(
                self._tell(
                    "response.output_item.added", output_index=item.index, item=item.whole("in_progress")
                )
            )
        elif item.closed is None:
            item.name += function.get("name") or ""  # which may come in pieces
        if arguments := function.get("arguments"):
            if (
                item.closed is not None
            ):  # the provider adds to an earlier call; the final object has all of it
                item.closed["arguments"] += arguments
            else:
                item.pieces.append(events.delta(arguments))
            told.append(delta(item, arguments, self._next()))
        return told

    def _close(self, status: str) -> list[bytes]:
        """The events that end the open item, with the whole of it."""
        item, self.open = self.open, None
        if item is None:
            return []
        whole = item.closed = item.whole(status)
        where = {"item_id": item.id, "output_index": item.index}
        if item.kind == "text":
            part = whole["content"][0]
            told = [
                self._tell(
                    "response.output_text.done", **where, content_index=0, text=part["text"], logprobs=[]
                ),
                self._tell("response.content_part.done", **where, content_index=0, part=part),
            ]
        elif item.kind == "reasoning":
            part = whole["summary"][0]
            told = [
                self._tell(
                    "response.reasoning_summary_text.done", **where, summary_index=0, text=part["text"]
                ),
                self._tell("response.reasoning_summary_part.done", **where, summary_index=0, part=part),
            ]
        else:
            told = [
                self._tell(
                    "response.function_call_arguments.done",
                    **where,
                    name=item.name,
                    arguments=whole["arguments"],
                )
            ]
        return [*told, self._tell("response.output_item.done", output_index=item.index, item=whole)]

    def _end(self, event: Event) -> list[bytes]:
        body = event.data
        error = from_event(body) if event.name == events.FAILED else None
        ending = Ending.of(event.name.removeprefix("turn."), body.get("finish_reason"), error)
        told = self._close(ending.item_status)
        if error is not None:
            told.append(error_event(error, self._next()))
        kind = ending.status if ending.status in ("completed", "failed") else "incomplete"
        return [*told, self._tell(f"response.{kind}", response=self.ended(body, ending))]

    def ended(self, body: dict[str, Any], ending: Ending) -> dict[str, Any]:
        """The response as its terminal event leaves it."""
        at = (events.provider(body) or {}).get("completed_at") if ending.status == "completed" else None
        return self.object(ending, body.get("usage"), at)


_PIECES: Final = {events.DELTA: "text", events.REASONING: "reasoning"}
_DELTAS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "text": ("response.output_text.delta", {"content_index": 0, "logprobs": []}),
    "reasoning": ("response.reasoning_summary_text.delta", {"summary_index": 0}),
    "call": ("response.function_call_arguments.delta", {}),
}


def tell(kind: str, sequence: int, **fields: Any) -> bytes:
    body = orjson.dumps({"type": kind, "sequence_number": sequence, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)


def _before_delta(item: _Item) -> bytes:
    kind, more = _DELTAS[item.kind]
    fields = {"type": kind, "item_id": item.id, "output_index": item.index, **more}
    return b'event: %b\ndata: %b,"delta":' % (kind.encode(), orjson.dumps(fields)[:-1])


def delta(item: _Item, text: str, sequence: int) -> bytes:
    return b'%b%b,"sequence_number":%d}\n\n' % (item.before, orjson.dumps(text), sequence)


def error_event(error: ServiceError, sequence: int) -> bytes:
    return tell("error", sequence, **openai_error(of_responses(error)))


class ResponseStream(Encoder):
    """`after` is the number that the reader has seen. `ended`: it should be that of the last event; the
    status line waits until that is checked.
    """

    name = "responses"
    media_type = "text/event-stream; charset=utf-8"
    heartbeat = b": keep-alive\n\n"

    def __init__(
        self, echo: dict[str, Any], *, after: int | None = None, holds: bool = True, ended: bool = False
    ) -> None:
        self._background = bool(echo.get("background"))
        # A reader that comes back has been shown something already: its status line does not wait.
        self.holds = ended or (holds and after is None and not self._background)
        self._after = after or 0
        self._cut = self._after // STEP  # the event of the log of which the reader may have seen a part
        self._last = 0
        self._items = Items(echo)

    def shows(self, event: Event) -> bool:
        return event.id > self._cut and self._items.shows(event)

    def failure(self, event: Event) -> ServiceError | None:
        return super().failure(event) if event.id > self._cut else None

    def encode(self, event: Event) -> bytes:
        self._last = event.id
        fresh = event.id > self._cut
        item = self._items.open
        if item is not None and item.grows_by == event.name and fresh:  # each token comes by here
            item.pieces.append(event.payload)
            frame = event.frames.get("responses")
            if frame is None:
                frame = delta(item, event.payload[1:].decode(), event.id * STEP)
                event.frames["responses"] = frame
            return frame
        if event.name == events.RESTARTED and self._items.shown and fresh:
            raise restarted()
        if not event.terminal:
            return self._unseen(event)
        if not fresh:
            return self._unseen(event) + _DONE  # a reader that has seen everything is sent the end
        frame = event.frames.get(self.name)
        if frame is None:
            frame = event.frames[self.name] = b"".join(self._items.take(event)) + _DONE
        return frame

    def _unseen(self, event: Event) -> bytes:
        told = self._items.take(event)
        if event.id <= self._cut:
            seen = max(0, self._after - event.id * STEP + 1)
            if event.terminal and seen > len(told):
                last = event.id * STEP + len(told) - 1
                sentence = f"The last event of this response has the number {last}."
                raise ServiceError("cursor_ahead", sentence, param="starting_after")
            told = told[seen:]
        return b"".join(told)

    def failed(self, error: ServiceError) -> bytes:
        return error_event(error, self._last * STEP + STEP - 1)

    def reconnect(self) -> bytes:
        """A clean end without a last event: clients of background responses come back by themselves."""
        if self._background:
            return b""
        return self.failed(
            ServiceError("draining", "This replica is shutting down; retrieve the response to read it on.")
        )


def restarted() -> ServiceError:
    return ServiceError(
        "upstream_unavailable", "The answer was begun again; retrieve the response to read it from its start."
    )


class ResponseObject(Encoder):
    """The response in one piece: shows nothing before its end.

    A failure is an HTTP status while the head is held, then a broken connection.
    """

    name = "responses"
    media_type = "application/json"
    heartbeat = b" "  # JSON may begin with white space

    def __init__(self, echo: dict[str, Any]) -> None:
        self._items = Items(echo)

    def encode(self, event: Event) -> bytes:
        if event.name == events.FAILED:
            raise BrokenAnswer(event.name)
        if not event.terminal:
            if self._items.goes_on(event) is None:
                self._items.take(event)
            return b""
        body = event.data
        ending = Ending.of(event.name.removeprefix("turn."), body.get("finish_reason"))
        return orjson.dumps(self._items.ended(body, ending))
