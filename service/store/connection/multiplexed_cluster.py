"""A Cluster whose nodes are each asked over a multiplexer of their own.

redis-py knows the slots and the nodes, and asks those that no key names; what names a key travels on one
connection of ours per node, however much of it there is: a burst waits for its turn instead of for a free
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
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from redis.exceptions import RedisClusterException, RedisError, ResponseError, SlotNotCoveredError

from service.store.connection.commands import Command, Commands, or_raise
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

Address = tuple[str, int]


class MultiplexedCluster(Commands):
    """Each command is asked of the node that holds its key."""

    cluster = True

    def __init__(
        self,
        timeout: float,
        node_options: Mapping[str, Any],
        replicas: Replicas | None,
        fence: Callable[[int], str],
        **options: Any,
    ) -> None:
        self._nodes = RedisCluster(**options, **node_options)
        self._timeout = timeout
        self._node_options = dict(node_options)
        self._replicas = replicas
        self._fence = fence
        self._fences: dict[Address, str | None] = {}  # by node, as long as the slots stay where they are
        self._multiplexers: dict[Address, Multiplexer] = {}
        self._refreshing: asyncio.Task[None] | None = None

    async def execute(self, *words: Any, patient: bool = True) -> Any:
        if not self.known:
            await self.read_slots()
        key = words[3] if words[0] in _SCRIPTS else words[1]
        return or_raise(await self._follow(key_slot(_encoded(key)), words, patient))

    async def execute_all(self, commands: Sequence[Command]) -> list[Any]:
        """Each of the node that holds its key."""
        asking = (self.execute(*command) for command in commands)
        replies = await asyncio.gather(*asking, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException) and not isinstance(reply, RedisError):
                raise reply
        return list(replies)

    async def ping(self) -> None:
        await self._nodes.ping()

    async def info(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._nodes.info(section)
        return found

    async def primaries(self) -> Sequence[ClusterNode]:
        await self.read_slots()
        return self._nodes.get_primaries()

    async def scan(
        self, pattern: str, cursor: int, count: int, node: ClusterNode | None = None
    ) -> tuple[int, list[bytes]]:
        assert node is not None
        asking: Any = self._nodes.scan(cursor=cursor, match=pattern, count=count, target_nodes=node)
        following, found = await asking
        return following[node.name], found

    async def _follow(self, slot: int, args: Sequence[Any], patient: bool) -> Any:
        """From where the slot is, following it where it goes. Raises RedisError, TimeoutError, OSError."""
        loop = asyncio.get_running_loop()
        # The last quarter is for the answer that it is being moved, else it looks like a node that is gone.
        deadline = loop.time() + 0.75 * self._timeout
        address, asking, hops = self._address_of(slot), False, 0
        while True:
            # A node takes what it has not got yet only right behind an ASKING.
            commands = [("ASKING",), args] if asking else [args]
            try:
                reply = (await self._multiplexer_at(address).run(commands))[-1]
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
                address, asking, hops = self._address_of(slot), False, 0
            else:
                return reply

    def _address_of(self, slot: int) -> Address:
        address = self._holder(slot)
        if address is None:
            self.refresh()
            raise SlotNotCoveredError(f"no node holds slot {slot}")
        return address

    def _holder(self, slot: int) -> Address | None:
        nodes = self._nodes.nodes_manager.slots_cache.get(slot)
        return (str(nodes[0].host), int(nodes[0].port)) if nodes else None

    def _multiplexer_at(self, address: Address) -> Multiplexer:
        multiplexer = self._multiplexers.get(address)
        if multiplexer is None:
            fence = partial(self._fence_at, address)
            multiplexer = self._multiplexers[address] = Multiplexer(
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
        return self._holder(key_slot(name.encode()))

    @property
    def known(self) -> bool:
        """Have the slots been read?"""
        return bool(self._nodes.nodes_manager.slots_cache)

    async def read_slots(self) -> None:
        """Unless they are known. Raises RedisError, RedisClusterException, OSError, TimeoutError."""
        await self._nodes.initialize()

    def key_of_each(self, prefix: str) -> list[str]:
        """A key on each node that holds slots. Raises RedisClusterException."""
        names: dict[str, str] = {}
        primaries = len(self._nodes.get_primaries())
        for number in range(NAMES):
            if len(names) == primaries:
                break
            name = f"{prefix}:{number}"
            if node := self._nodes.get_node_from_key(name):
                names.setdefault(node.name, name)
        return list(names.values())

    def refresh(self) -> None:
        """Read the slots anew, beside what is under way."""
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._read_slots_anew(), name="slots")

    async def _read_slots_anew(self) -> None:
        try:
            with contextlib.suppress(RedisError, RedisClusterException, OSError, TimeoutError):
                await self._nodes.nodes_manager.initialize()
                self._fences.clear()
            known = {(str(node.host), int(node.port)) for node in self._nodes.get_nodes()}
            for address in [address for address in self._multiplexers if address not in known]:
                await self._multiplexers.pop(address).close()
            await asyncio.sleep(_REFRESH_SECONDS)
        finally:
            self._refreshing = None

    async def aclose(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        for multiplexer in self._multiplexers.values():
            await multiplexer.close()
        self._multiplexers.clear()
        await self._nodes.aclose()


def _encoded(name: Any) -> bytes:
    return name if isinstance(name, bytes) else str(name).encode()
