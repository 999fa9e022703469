"""Expire the leases of a worker that is known to be dead, from Gunicorn's master process.

Synchronous and short: the master must not block, so there are two bounded round trips in a
thread. Only a shortcut: without it the leases expire by themselves.
"""

from __future__ import annotations

from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from service.config.settings import Settings
from service.store.connection import lua
from service.store.connection.typed_scripts import sources
from service.store.keys import Keys
from service.store.turn_records import TurnRef

_TIMEOUT_SECONDS: Final = 0.5


def expire_leases(settings: Settings, worker: str) -> int:
    """Returns how many leases were expired; 0 when the store cannot be asked."""
    url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        return 0  # Sentinel and Cluster: the lease time is the bound
    keys = Keys(settings.redis_key_prefix)
    expired = 0
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        owned: set[Any] = client.smembers(keys.owned_by(worker))
        for reference in (raw.decode() for raw in owned):
            ref = TurnRef.parse(reference)
            name = keys.session(ref.principal, ref.session_id).turn(ref.turn_id)
            call = lua.expire_lease(turn=name, owner=worker)
            client.eval(sources()[call.script], len(call.keys), *call.keys, *call.args)
            client.zadd(keys.deadlines, {reference: 0})
            expired += 1
        client.delete(keys.owned_by(worker))
        client.close()
    except (RedisError, OSError):
        pass  # what is not expired here lapses by itself
    return expired
