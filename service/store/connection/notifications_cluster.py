"""Notifications on a Cluster: one connection per node, each for the channels of the logs that it holds.

So a node that stands still silences its own logs and no other's. Nodes pass on to each other what is
published, so a channel is heard where it was subscribed also after its slot has moved; it follows the slot
only once that node cannot be reached any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisClusterException, RedisError

from service.config.settings import Settings
from service.eventloop.aligned_sleep import aligned_sleep
from service.store.connection.connecting import make_cluster
from service.store.connection.multiplexed_cluster import Address
from service.store.connection.notifications import Notifications

# Between two looks at where channels are whose node cannot be reached: a failover takes longer.
_LOOK_SECONDS: Final = 1.0


class ClusterNotifications:
    def __init__(
        self, settings: Settings, on_notify: Callable[[str, bytes], None], on_reset: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._on_notify = on_notify
        self._on_reset = on_reset
        self._slots = make_cluster(settings)
        self._nodes: dict[Address, Notifications] = {}
        self._addresses: dict[str, Address | None] = {}  # of channels; None while it is not known
        self._task: asyncio.Task[None] | None = None

    def start(self, channel: str) -> None:
        """Begin to listen; `channel` is heard always."""
        self._addresses[channel] = None
        self._task = asyncio.create_task(self._follow(), name="notifications")

    async def subscribe(self, channel: str) -> None:
        """Returns when the channel is subscribed, or when a reset is bound to follow."""
        address = self._addresses[channel] = self._slots.holder(channel)
        if address is not None:
            await self._hear(channel, address)

    async def unsubscribe(self, channel: str) -> None:
        address = self._addresses.pop(channel, None)
        if address in self._nodes:
            await self._nodes[address].unsubscribe(channel)

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for node in self._nodes.values():
            await node.close()
        await self._slots.aclose()

    async def _hear(self, channel: str, address: Address) -> None:
        node = self._nodes.get(address)
        if node is not None:
            await node.subscribe(channel)
            return
        pool = self._slots.pool_at(address)
        node = self._nodes[address] = Notifications(self._settings, self._on_notify, self._on_reset, pool)
        node.start(channel)

    async def _follow(self) -> None:
        while True:
            if not self._slots.known:
                with contextlib.suppress(RedisError, RedisClusterException, OSError, TimeoutError):
                    await self._slots.read_slots()
            elif not all(node.connected for node in self._nodes.values()):
                self._slots.refresh()
            for channel, address in list(self._addresses.items()):
                if address is None or not self._nodes[address].connected:
                    await self._move(channel, address)
            for address, node in list(self._nodes.items()):
                if not node.connected and address not in self._addresses.values():
                    await self._nodes.pop(address).close()
            await aligned_sleep(_LOOK_SECONDS)

    async def _move(self, channel: str, address: Address | None) -> None:
        """To the node that holds it now, where that is another one."""
        now = self._slots.holder(channel)
        if now is None or now == address:
            return
        if address is not None:
            await self._nodes[address].unsubscribe(channel)
        if channel in self._addresses:
            self._addresses[channel] = now
            await self._hear(channel, now)
            self._on_reset()  # what was published in between was not heard


#: of whatever the settings lead to
AnyNotifications = Notifications | ClusterNotifications


def make_notifications(
    settings: Settings, on_notify: Callable[[str, bytes], None], on_reset: Callable[[], None]
) -> AnyNotifications:
    url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    make = ClusterNotifications if url.partition("://")[0].endswith("+cluster") else Notifications
    return make(settings, on_notify, on_reset)
