"""The bytes of the double's answers beyond the demo's: tool calls, and what is wrong with a stream."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

from service.demo.wire import Usage, Wire, dumps


def event(value: object) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"


def error_event(error: dict[str, object]) -> bytes:
    """How a stream that has begun with 200 tells of an error."""
    return b"event: error\n" + event({"error": error})


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: str

    def describe(self, **extra: object) -> dict[str, object]:
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": f"fc_{uuid.uuid4()}", "type": "function", "function": function, **extra}


class DoubleWire(Wire):
    """The chunks of one answer. With `drifting`, id and created change from chunk to chunk."""

    def __init__(self, model: str, request_id: str, seed: int, drifting: bool) -> None:
        super().__init__(model, request_id, seed)
        self._drifting = drifting

    def chunk(self, inside: bytes) -> bytes:
        if self._drifting:
            self.base["id"] = f"chatcmpl-{uuid.uuid4()}"
            self.base["created"] = int(time.time()) + uuid.uuid4().int % 3
            self.head = b"data: " + dumps(self.base)[:-1]
        return super().chunk(inside)

    def tool_call(self, call: ToolCall) -> bytes:
        return self.delta(dumps({"tool_calls": [call.describe(index=0)]}))

    def tool_call_in_parts(self, call: ToolCall, with_id: bool) -> list[bytes]:
        """Not what Groq does today; readers that put parts together by index survive it."""
        first = call.describe(index=0)
        if not with_id:
            del first["id"]
        half = len(call.arguments) // 2
        first["function"] = {"name": call.name, "arguments": call.arguments[:half]}
        second = {"function": {"arguments": call.arguments[half:]}, "index": 0}
        return [self.delta(dumps({"tool_calls": [part]})) for part in (first, second)]

    def two_tool_calls(self, call: ToolCall, kind: str) -> list[bytes]:
        """The call and another one like it, as servers send them that are not Groq."""
        calls = [call.describe(), call.describe()]
        if kind == "tools_with_one_index":
            calls = [{**one, "index": 0} for one in calls]
        if kind != "tools_unclear":
            return [self.delta(dumps({"tool_calls": [one]})) for one in calls]
        half = len(call.arguments) // 2
        names = [{"function": {"name": call.name, "arguments": call.arguments[:half]}}] * 2
        rests = [{"function": {"arguments": call.arguments[half:]}}] * 2
        return [self.delta(dumps({"tool_calls": pieces})) for pieces in (names, rests)]

    def finish_with(self, reason: str, usage: Usage, *, in_x_groq: bool, on_top: bool) -> bytes:
        """The last chunk with the usage in one of its two places, or in none."""
        described = usage.describe()
        x_groq = {"id": self.request_id} | ({"usage": described} if in_x_groq else {})
        tail = b',"usage":' + dumps(described) if on_top else b""
        return self.delta(b"{}", dumps(reason), b',"x_groq":' + dumps(x_groq) + tail)

    def stopped_early(self, message: str) -> bytes:
        """An error inside an ordinary chunk, on which the SDK does not raise."""
        x_groq = dumps({"id": self.request_id, "error": message})
        return self.delta(b"{}", tail=b',"x_groq":' + x_groq)
