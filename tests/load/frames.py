"""`python -m tests.load.frames`: ns of each dialect's encoder per token, and against the native one.

Encoders only: no sockets, no store. Each is given the same 2,000 deltas, unencoded yet, 20 times; the
fastest time counts, since other processes can only make it longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from service import events
from service.dialects.aisdk import AiSdkEncoder
from service.dialects.base import Encoder
from service.dialects.native import NativeEncoder
from service.dialects.openai import StreamEncoder
from service.dialects.responses import ResponseStream
from service.events import Event
from tests.load import wire

_TOKENS: Final = 2_000
_ROUNDS: Final = 20
_STARTED: Final = events.structured(
    events.STARTED, {"turn_id": "t_" + "0" * 26, "session_id": "s" * 28, "model": "m", "created": 1_000}
)
_DELTAS: Final = [events.delta(wire.token(place)) for place in range(1, _TOKENS + 1)]

STREAMS: Final[dict[str, Callable[[], Encoder]]] = {
    "native": NativeEncoder,
    "openai": StreamEncoder,
    "aisdk": lambda: AiSdkEncoder("t_" + "0" * 26),
    "responses": lambda: ResponseStream({"store": True}),
}


def nanoseconds(make: Callable[[], Encoder], rounds: int = _ROUNDS) -> float:
    """Per delta, once an answer has begun."""
    best = float("inf")
    for _ in range(rounds):
        first, second, *rest = [Event(i, payload) for i, payload in enumerate([_STARTED, *_DELTAS], 1)]
        encoder = make()
        encoder.encode(first)
        encoder.encode(second)
        began = time.perf_counter()
        for event in rest:
            encoder.encode(event)
        best = min(best, time.perf_counter() - began)
    return best / len(rest) * 1e9


def main() -> None:
    native = nanoseconds(NativeEncoder)
    print("| dialect | ns/token | of native |\n|---|---|---|")
    for name, make in STREAMS.items():
        cost = nanoseconds(make)
        print(f"| {name} | {cost:.0f} | {cost / native:.2f} |")


if __name__ == "__main__":
    main()
