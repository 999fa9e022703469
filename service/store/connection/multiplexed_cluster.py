"""A Cluster whose nodes are each asked over a multiplexer of their own.

redis-py knows the slots and the nodes, and asks those that no key names. What names a key travels on one
connection per node, however much of it there is: a burst waits for its turn instead of for a free
connection, and what one node does is felt by what that node holds. Invariants: what timed out is not
sent again; no command waits for the slots to be read anew, that is done beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import redis.asyncio as aioredis
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import RedisClusterException, RedisError, ResponseError, SlotNotCoveredError

from service.store.connection.multiplexed import Multiplexer
from service.store.connection.replicas import Replicas

# A slot that is being moved has keys at two nodes: a command that names some of both is refused until
# they are together again, for some ms of a move that goes on and for as long as one that does not.
_PAUSE_SECONDS: Final = 0.05
# A node sends elsewhere at most once per move, and slots move one at a time.
_HOPS: Final = 8
# Names that are tried to find a key on a node: of 100 nodes one is missed once in 30,000 times.
NAMES: Final = 1_500
# Between two readings of the slots: every node that fails asks for one.
_REFRESH_SECONDS: Final = 0.5
_SCRIPTS: Final = ("EVAL", "EVALSHA")
_OF_NO_KEY: Final = frozenset({"PING", "INFO", "TIME", "SCAN", "CLUSTER SLOTS", "COMMAND"})

Address = tuple[str, int]


class MultiplexedCluster(RedisCluster):
    """redis-py's commands, carried by multiplexers. Subscribing commands need another client."""

    def __init__(
        self,
        timeout: float,
        node_options: Mapping[str, Any],
        replicas: Replicas | None,
        fence: Callable[[int], str],
        **options: Any,
    ) -> None:
        super().__init__(**options, **node_options)
        self._timeout = timeout
        self._node_options = dict(node_options)
        self._replicas = replicas
        self._fence = fence
        self._fences: dict[Address, str | None] = {}  # by node, as long as the slots stay where they are
        self._lanes: dict[Address, Multiplexer] = {}
        self._refreshing: asyncio.Task[None] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        name = str(args[0])
        if name in _OF_NO_KEY:
            return await super().execute_command(*args, **options)
        if not self.nodes_manager.slots_cache:
            await self.initialize()
        patient = options.pop("patient", True)
        reply = await self._ask(key_slot(_encoded(args[3] if name in _SCRIPTS else args[1])), args, patient)
        if isinstance(reply, RedisError):
            raise reply
        callback = self.response_callbacks.get(name)
        if callback is None:
            return reply
        return callback(reply, **{key: value for key, value in options.items() if key != "keys"})

    async def _ask(self, slot: int, args: Sequence[Any], patient: bool) -> Any:
        """From where the slot is, following it where it goes. Raises RedisError, TimeoutError, OSError."""
        loop = asyncio.get_running_loop()
        # The last quarter is for the answer that it is being moved, else it looks like a node that is gone.
        deadline = loop.time() + 0.75 * self._timeout
        address, asking, hops = self._place(slot), False, 0
        while True:
            # A node takes what it has not got yet only right behind an ASKING.
            commands = [("ASKING",), args] if asking else [args]
            try:
                reply = (await self._lane(address).run(commands))[-1]
            except (RedisError, OSError, TimeoutError):
                self.refresh()
                raise
            kind, _, rest = str(reply).partition(" ") if isinstance(reply, ResponseError) else ("", "", "")
            if kind in ("MOVED", "ASK") and hops < _HOPS:
                host, _, port = rest.split()[-1].rpartition(":")
                address, asking, hops = (host or address[0], int(port)), kind == "ASK", hops + 1
                if kind == "MOVED":
                    self.refresh()
            elif patient and kind in ("TRYAGAIN", "CLUSTERDOWN") and loop.time() + _PAUSE_SECONDS < deadline:
                await asyncio.sleep(_PAUSE_SECONDS)
                address, asking, hops = self._place(slot), False, 0
            else:
                return reply

    def _place(self, slot: int) -> Address:
        nodes = self.nodes_manager.slots_cache.get(slot)
        if not nodes:
            self.refresh()
            raise SlotNotCoveredError(f"no node holds slot {slot}")
        return str(nodes[0].host), int(nodes[0].port)

    def _lane(self, address: Address) -> Multiplexer:
        multiplexer = self._lanes.get(address)
        if multiplexer is None:
            fence = partial(self._fence_at, address)
            multiplexer = self._lanes[address] = Multiplexer(
                self.pool_at(address), self._timeout, self._replicas, fence
            )
        return multiplexer

    def pool_at(self, address: Address) -> aioredis.ConnectionPool:
        """What a connection to a node is made from; it keeps none."""
        options = {name: value for name, value in self._node_options.items() if name != "ssl"}
        kind = aioredis.SSLConnection if self._node_options.get("ssl") else aioredis.Connection
        return aioredis.ConnectionPool(connection_class=kind, host=address[0], port=address[1], **options)

    def _fence_at(self, address: Address) -> str | None:
        """A key of the node that replies may wait for; None where it has no slots."""
        if address not in self._fences:
            names = (self._fence(number) for number in range(NAMES))
            held = (name for name in names if self.holder(name) == address)
            self._fences[address] = next(held, None)
        return self._fences[address]

    def holder(self, name: str) -> Address | None:
        """The node that holds a key; None while that is not known."""
        nodes = self.nodes_manager.slots_cache.get(key_slot(name.encode()))
        return (str(nodes[0].host), int(nodes[0].port)) if nodes else None

    def refresh(self) -> None:
        """Read the slots anew, beside what is under way."""
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._read_slots(), name="slots")

    async def _read_slots(self) -> None:
        try:
            with contextlib.suppress(RedisError, RedisClusterException, OSError, TimeoutError):
                await self.nodes_manager.initialize()
                self._fences.clear()
            known = {(str(node.host), int(node.port)) for node in self.get_nodes()}
            for address in [address for address in self._lanes if address not in known]:
                await self._lanes.pop(address).close()
            await asyncio.sleep(_REFRESH_SECONDS)
        finally:
            self._refreshing = None

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        return _Together(self)

    async def aclose(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        for multiplexer in self._lanes.values():
            await multiplexer.close()
        self._lanes.clear()
        await super().aclose()


class _Together(Pipeline):
    """Commands that are asked at once, each of the node that holds its key."""

    def __init__(self, client: MultiplexedCluster) -> None:
        # Without a pool of connections: `execute` asks the multiplexers.
        super().__init__(None, client.response_callbacks, False, None)  # type: ignore[arg-type]
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        results = await asyncio.gather(
            *(self._client.execute_command(*args, **options) for args, options in stack),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException) and (raise_on_error or not isinstance(result, RedisError)):
                raise result
        return list(results)


def _encoded(name: Any) -> bytes:
    return name if isinstance(name, bytes) else str(name).encode()
