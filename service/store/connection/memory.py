"""The store in memory: one in-process Redis for all clients of this process. Nothing survives it.

For tests, and to try the service without a Redis. Nothing here knows what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from redis.exceptions import RedisError

from service.store.connection.commands import Command, Commands


@cache
def _server() -> Any:
    import fakeredis

    return fakeredis.FakeServer()


def memory_client() -> Any:
    """redis-py's client of it, for subscriptions."""
    import fakeredis

    return fakeredis.FakeAsyncRedis(server=_server())


class MemoryRedis(Commands):
    def __init__(self) -> None:
        self._client = memory_client()
        self._client.response_callbacks.clear()  # replies as they are

    async def execute(self, *words: Any, patient: bool = True) -> Any:
        return await self._client.execute_command(*words)

    async def execute_all(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = []
        for command in commands:
            try:
                replies.append(await self.execute(*command))
            except RedisError as error:
                replies.append(error)
        return replies

    async def aclose(self) -> None:
        await self._client.aclose()
