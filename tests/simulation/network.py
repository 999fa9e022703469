"""The network between processes and the store: seeded delays, cuts, silences, a server that stands still.

A connection is a transport for service/store/connection/connection.py: real bytes in both directions, in
order, each late by a seeded time. What has left a process arrives also when the process is dead or has
hung up, unless the network was cut.
Invariant: the server carries out commands one at a time, in the order of their arrival,
and says nothing while it stands still or is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from random import Random
from typing import Any, Final, cast

import hiredis
from fakeredis._helpers import SimpleError, SimpleString

from tests.simulation.clock import Loop, Process
from tests.simulation.store import Redis

_SHORTEST_SECONDS: Final = 0.0001
_USUAL_SECONDS: Final = 0.0006
# One write in fifty is late: a retransmission, a busy host.
_LATE: Final = 0.02
_LATE_SECONDS: Final = 0.06
# What arrives after something arrives after it.
_APART_SECONDS: Final = 1e-7
# Of no process.
_EMPTY: Final = Context()


class Transport(asyncio.Transport):
    """One connection of one process to the store."""

    def __init__(self, network: Network, process: Process, protocol: asyncio.Protocol, number: int) -> None:
        super().__init__()
        self.process = process
        self._network = network
        self._protocol = protocol
        self._chance = Random(f"{network.seed}/{process.name}/{number}")
        self._reader = hiredis.Reader()
        self._out_at = self._in_at = 0.0  # when the last bytes of each direction arrive
        self.channels: dict[bytes, None] = {}
        self.cut = False
        self.closed = False

    # For the process

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.cut or self.closed:
            return
        self._out_at = self._arrival(self._out_at)
        self._network.loop.call_at(self._out_at, self._network.arrived, self, bytes(data), context=_EMPTY)

    def abort(self) -> None:
        self.closed = True
        self.channels.clear()
        self._network.connections.pop(self, None)

    def close(self) -> None:
        self.abort()

    # For the network

    def _arrival(self, last: float) -> float:
        late, now = self._chance.random() < _LATE, self._network.loop.time()
        delay = self._chance.uniform(_SHORTEST_SECONDS, _LATE_SECONDS if late else _USUAL_SECONDS)
        return max(last + _APART_SECONDS, now + delay, self._network.held_until(self.process))

    def parse(self, data: bytes) -> list[Sequence[bytes]]:
        self._reader.feed(data)
        found = []
        while (command := self._reader.gets()) is not False:
            found.append(cast("Sequence[bytes]", command))
        return found

    def answer(self, data: bytes) -> None:
        if not (self.cut or self.closed):
            self._in_at = self._arrival(self._in_at)
            self.process.call_at(self._in_at, self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if not (self.cut or self.closed):
            self._protocol.data_received(data)

    def lose(self) -> None:
        """The network drops it: nothing arrives any more, and both ends hear of it."""
        if not self.cut:
            self.cut = True
            self.channels.clear()
            self._network.connections.pop(self, None)
            self.process.call_at(self._network.loop.time(), self._tell_lost)

    def _tell_lost(self) -> None:
        if not self.closed:
            self._protocol.connection_lost(ConnectionResetError("the network was cut"))


class Network:
    def __init__(self, loop: Loop, seed: str) -> None:
        self.loop = loop
        self.seed = seed
        self.redis = Redis(Random(f"{seed}/redis"), self._publish)
        self.connections: dict[Transport, None] = {}
        self.serving: Transport | None = None  # whose command is carried out
        #: called after each command with the name of its script
        self.after: Callable[[Transport, str], None] | None = None
        self._numbers: dict[str, int] = {}
        self._held: dict[str, float] = {}
        self._stalled_until = float("-inf")
        self._down_until = float("-inf")
        self._waiting: list[tuple[Transport, bytes]] = []
        loop.connect = self._connect

    async def _connect(self, process: Process, factory: Callable[[], Any]) -> tuple[Any, Any]:
        await asyncio.sleep(max(_SHORTEST_SECONDS, self.held_until(process) - self.loop.time()))
        if self.loop.time() < self._down_until:
            raise ConnectionRefusedError("the store is down")
        number = self._numbers[process.name] = self._numbers.get(process.name, 0) + 1
        protocol = factory()
        transport = Transport(self, process, protocol, number)
        self.connections[transport] = None
        protocol.connection_made(transport)
        return transport, protocol

    # What goes wrong

    def hold(self, process: Process, seconds: float) -> None:
        """Nothing arrives from or at the process for a while; then all of it, in order."""
        self._held[process.name] = max(self.held_until(process), self.loop.time() + seconds)

    def held_until(self, process: Process) -> float:
        return self._held.get(process.name, float("-inf"))

    def cut(self, process: Process) -> None:
        for transport in list(self.connections):
            if transport.process is process:
                transport.lose()

    def stall(self, seconds: float) -> None:
        """The server stands still; what arrives meanwhile is carried out afterwards."""
        self._stalled_until = max(self._stalled_until, self.loop.time() + seconds)
        self.loop.call_at(self._stalled_until, self._go_on, context=_EMPTY)

    def go_down(self, seconds: float) -> None:
        """The server is away: all connections are lost, and none is made, for so long."""
        self._down_until = self.loop.time() + seconds
        self._waiting.clear()
        for transport in list(self.connections):
            transport.lose()

    # The server

    def _go_on(self) -> None:
        if self.loop.time() >= self._stalled_until:
            waiting, self._waiting = self._waiting, []
            for transport, data in waiting:
                self.arrived(transport, data)

    def arrived(self, transport: Transport, data: bytes) -> None:
        if transport.cut or self.loop.time() < self._down_until:
            return
        if self.loop.time() < self._stalled_until:
            self._waiting.append((transport, data))
            return
        replies = []
        for command in transport.parse(data):
            replies.append(self._serve(transport, command))
        transport.answer(b"".join(replies))  # unless it was cut after one of these commands

    def _serve(self, transport: Transport, command: Sequence[bytes]) -> bytes:
        word = command[0].upper()
        if word == b"HELLO":
            return b"+OK\r\n"
        if word in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
            return b"".join(self._subscribe(transport, word, channel) for channel in command[1:])
        self.serving = transport
        reply = self.redis.execute(command)
        self.serving = None
        if self.after is not None:
            self.after(transport, self.redis.script)
        return encode(reply)

    def _subscribe(self, transport: Transport, word: bytes, channel: bytes) -> bytes:
        if word == b"SUBSCRIBE" and not transport.closed:
            transport.channels[channel] = None
        else:
            transport.channels.pop(channel, None)
        return _push([word.lower(), channel, len(transport.channels)])

    def _publish(self, channel: bytes, message: bytes) -> None:
        pushed = _push([b"message", channel, message])
        for transport in self.connections:
            if channel in transport.channels:
                transport.answer(pushed)


def _push(items: Sequence[Any]) -> bytes:
    return b">%d\r\n" % len(items) + b"".join(map(encode, items))


def encode(reply: Any) -> bytes:
    """A reply in RESP3."""
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if reply is None:
        return b"_\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, list | tuple):
        return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))
    if isinstance(reply, dict):
        items = [item for pair in reply.items() for item in pair]
        return b"%%%d\r\n" % len(reply) + b"".join(map(encode, items))
    if isinstance(reply, float):
        return b",%b\r\n" % repr(reply).encode()
    if isinstance(reply, SimpleString):
        return b"+%b\r\n" % reply.value
    if isinstance(reply, SimpleError):
        return b"-%b\r\n" % reply.value.encode()
    if isinstance(reply, str):
        return encode(reply.encode())
    raise TypeError(f"no reply: {reply!r}")
