"""Playing a script over a line: tokens on an absolute schedule, and the fault at its place.

Invariants: token k goes out at start + k / rate however long the writes took; `call.tokens`
is what was handed to the connection; a fault that ends the answer raises Struck.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from service.demo.request import ChatRequest
from service.demo.script import message
from service.demo.wire import DONE, Usage
from tests.double.calls import Call
from tests.double.faults import MIDSTREAM, Fault
from tests.double.limits import Reservation
from tests.double.line import Line
from tests.double.refusals import JSON, Refusal
from tests.double.script import Script
from tests.double.shapes import SHAPES, plain
from tests.double.wire import DoubleWire, error_event, event

_SPLIT: Final = {"split": (7, 0.0), "trickle": (1, 0.02)}
_GARBAGE: Final = b"\xff\xfe\x00\x9f garbage \xc3\x28\n\n"


class Struck(Exception):
    """A fault has ended the answer."""


class Step(NamedTuple):
    data: bytes
    tokens: int


class Answer:
    def __init__(
        self, line: Line, request: ChatRequest, script: Script, call: Call, reservation: Reservation
    ) -> None:
        self._line = line
        self._request = request
        self._script = script
        self._call = call
        self._headers = list(reservation.headers.items())
        fault = script.fault
        self._fault = fault if fault is not None and fault.kind in MIDSTREAM else None
        self._kind = fault.kind if fault is not None else ""
        self._shaped = SHAPES.get(self._kind, plain)
        seed = request.params.get("seed")
        self._wire = DoubleWire(
            request.model.id,
            call.request_id,
            seed if isinstance(seed, int) else 1_000_000_007,
            drifting=self._kind == "drifting_ids",
        )

    def usage(self) -> Usage:
        """The bill of the whole script; after an early end `call.tokens` tells what was sent."""
        script = self._script
        return Usage(
            self._request.prompt_tokens, script.length, len(script.reasoning), script.cached, script.seconds
        )

    async def stream(self, headers: list[tuple[str, str]]) -> None:
        line, script, fault = self._line, self._script, self._fault
        if script.fault is not None and (self._kind in _SPLIT or self._kind in SHAPES):
            size, pause = _SPLIT.get(self._kind, (0, 0.0))
            line.size, line.pause = script.fault.size or size, script.fault.pause or pause
        if script.header_delay:
            await line.until(line.now() + script.header_delay)
        kind = [("content-type", "text/event-stream"), ("cache-control", "no-cache")]
        self._call.status = 200
        await line.start(200, [*kind, *headers, *self._headers])
        strike_at = 0 if fault is None else min(fault.position, script.length)
        if fault is not None and strike_at < 0:
            await self._strike(fault)
            fault = None
        await line.write(self._shaped(self._wire.role()))
        due = start = line.now() + script.first_delay
        batch: list[bytes] = []
        waiting = sent = 0
        for data, tokens in self._steps():
            if fault is not None and sent == strike_at:
                await self._flush(batch, waiting)
                batch, waiting = [], 0
                start += await self._strike(fault)
                fault = None
            due = start + sent / script.rate if script.rate else start
            batch.append(data)
            waiting += tokens
            sent += tokens
            if len(batch) >= script.chunk:
                await line.until(due)
                await self._flush(batch, waiting)
                batch, waiting = [], 0
        await line.until(due)
        await self._flush(batch, waiting)
        if fault is not None:
            await self._strike(fault)
        await line.finish(self._shaped(self._tail()))
        self._call.reported = self._kind != "no_usage" or self._request.include_usage

    async def _flush(self, batch: list[bytes], tokens: int) -> None:
        if batch:
            await self._line.write(self._shaped(batch[0] if len(batch) == 1 else b"".join(batch)))
            self._call.sent(tokens)

    def _steps(self) -> Iterator[Step]:
        script, wire = self._script, self._wire
        thoughts = self._request.thoughts
        if thoughts == "raw" and script.reasoning:
            yield Step(wire.content("<think>"), 0)
        for token in script.reasoning:
            if thoughts == "raw":
                yield Step(wire.content(token), 1)
            elif thoughts == "parsed":
                yield Step(wire.reasoning(token, self._request.model.reasoning == "analysis"), 1)
            else:
                yield Step(b"", 1)
        if thoughts == "raw" and script.reasoning:
            yield Step(wire.content("</think>"), 0)
        for token in script.tokens:
            yield Step(wire.content(token), 1)
        if script.tool is None:
            return
        if self._kind in ("tool_parts", "tool_without_id"):
            first, second = wire.tool_call_in_parts(script.tool, with_id=self._kind == "tool_parts")
            yield Step(first, 0)
            yield Step(second, 1)
        elif self._kind.startswith("tools_"):
            for data in wire.two_tool_calls(script.tool, self._kind):
                yield Step(data, 1)
        else:
            yield Step(wire.tool_call(script.tool), 1)

    def _tail(self) -> bytes:
        usage, wire = self.usage(), self._wire
        tail = wire.finish_with(
            self._script.finish,
            usage,
            in_x_groq=self._kind != "no_usage",
            on_top=self._kind not in ("no_usage", "old_usage"),
        )
        if self._request.include_usage:
            tail += wire.usage(usage)
        return tail + DONE

    async def _strike(self, fault: Fault) -> float:
        """Do the fault; returns the seconds it took when the answer goes on after it."""
        line, model = self._line, self._request.model.id
        error = fault.stream_error(model)
        match fault.kind:
            case "stall" | "silence":
                await line.until(None if fault.seconds is None else line.now() + fault.seconds)
                return fault.seconds or 0.0
            case "torn":
                half = self._wire.content(" torn")
                await line.write(half[: len(half) // 2] + b"\n\n")
                return 0.0
            case "garbage":
                await line.write(_GARBAGE)
                return 0.0
            case "cut_inside":
                half = self._wire.content(" half")
                await line.write(half[: len(half) // 2])
                await line.cut()
            case "cut" | "rst":
                await line.cut(reset=fault.kind == "rst")
            case "eof":
                await line.finish()
            case "done":
                await line.finish(DONE)
            case "error_event":
                await line.finish(error_event(error))
            case "error_data":
                await line.finish(event({"error": error}))
            case "x_groq_error":
                await line.finish(self._wire.stopped_early(str(error["message"])) + DONE)
        raise Struck

    async def whole(self, headers: list[tuple[str, str]]) -> None:
        """The answer to a request without `stream`, at the time a stream of it would end."""
        line, script, fault = self._line, self._script, self._fault
        seconds = script.header_delay + script.first_delay + script.seconds
        if fault is not None and fault.kind in ("stall", "silence"):
            await line.until(None if fault.seconds is None else line.now() + fault.seconds)
        elif fault is not None and fault.kind.startswith(("error", "x_groq")):
            error = fault.stream_error(self._request.model.id)
            refusal = Refusal(400, str(error["message"]))
            refusal.error = error
            raise refusal
        await line.until(line.now() + seconds)
        usage = self.usage()
        body = self._wire.completion(self._message(), script.finish, usage)
        self._call.status = 200
        head = [("content-type", JSON), *headers, *self._headers]
        if fault is not None and fault.kind in ("cut", "cut_inside", "rst"):
            await line.start(200, [*head, ("content-length", str(len(body)))])
            await line.write(body[: len(body) // 2])
            await line.cut(reset=fault.kind == "rst")
            raise Struck
        if fault is not None and fault.kind in ("torn", "garbage"):
            body = body[: len(body) // 2] if fault.kind == "torn" else _GARBAGE
        await line.respond(200, head, body)
        self._call.sent(script.length)
        self._call.reported = True

    def _message(self) -> dict[str, object]:
        told = message(self._script, self._request.thoughts)
        if self._script.tool is not None:
            if not told["content"]:
                del told["content"]
            told["tool_calls"] = [self._script.tool.describe()]
        return told
