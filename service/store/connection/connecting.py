"""From the configured URL to what carries commands, and to what subscribes.

One server, Sentinel, Cluster, or the store in memory where no URL is set. Nothing is connected here yet.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import redis.asyncio as aioredis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from service.config.redis_url import parts_of
from service.config.settings import Settings
from service.store.connection.commands import Commands
from service.store.connection.memory import MemoryRedis
from service.store.connection.multiplexed import MultiplexedRedis
from service.store.connection.multiplexed_cluster import MultiplexedCluster
from service.store.connection.replicas import Replicas
from service.store.keys import Keys

# Connections to a node for commands that name no key.
_POOL: Final = 64


def _credentials(url: str) -> dict[str, Any]:
    parts, _ = parts_of(url)
    userinfo = parts.netloc.rpartition("@")[0]
    user, _, password = userinfo.partition(":")
    found: dict[str, Any] = {}
    if password:
        found["password"] = unquote(password)
    if user:
        found["username"] = unquote(user)
    return found


def _addresses(url: str, port: int) -> list[tuple[str, int]]:
    places = [urlsplit(f"//{host}") for host in parts_of(url)[1]]
    return [(place.hostname or "", place.port or port) for place in places]


def _url(settings: Settings) -> tuple[str, str]:
    """The configured URL and its scheme."""
    url = settings.redis_url.get_secret_value() if settings.redis_url else "memory://"
    return url, url.partition("://")[0]


def pool_of(settings: Settings) -> aioredis.ConnectionPool | None:
    """What connections to a server are made from; it keeps none. None for the store in memory."""
    url, scheme = _url(settings)
    if scheme == "memory":
        return None
    options: dict[str, Any] = {
        "socket_timeout": settings.redis_timeout_seconds,
        "socket_connect_timeout": settings.redis_timeout_seconds,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        "health_check_interval": 0,
    }
    if scheme.endswith("+sentinel"):
        pool: aioredis.ConnectionPool = _sentinel_client(url, options).connection_pool
        return pool
    if scheme == "unix":
        del options["socket_keepalive"]
    return aioredis.ConnectionPool.from_url(url, **options)


def make_redis(settings: Settings) -> Commands:
    """What carries commands to the configured URL."""
    if _url(settings)[1].endswith("+cluster"):
        return make_cluster(settings)
    pool = pool_of(settings)
    if pool is None:
        return MemoryRedis()
    fence = Keys(settings.redis_key_prefix).fence(0)
    return MultiplexedRedis(pool, settings.redis_timeout_seconds, _replicas(settings), fence)


def make_cluster(settings: Settings) -> MultiplexedCluster:
    url, scheme = _url(settings)
    host, port = _addresses(url, 6379)[0]
    nodes = [ClusterNode(h, p) for h, p in _addresses(url, 6379)]
    of_nodes: dict[str, Any] = {
        "ssl": scheme.startswith("rediss"),
        "socket_timeout": settings.redis_timeout_seconds,
        "socket_keepalive": True,
        "socket_connect_timeout": settings.redis_timeout_seconds,
        **_credentials(url),
    }
    start: dict[str, Any] = {"host": host, "port": port, "startup_nodes": nodes, "max_connections": _POOL}
    fence = Keys(settings.redis_key_prefix).fence
    return MultiplexedCluster(settings.redis_timeout_seconds, of_nodes, _replicas(settings), fence, **start)


def _replicas(settings: Settings) -> Replicas | None:
    count = settings.redis_wait_replicas
    return Replicas(count, settings.redis_wait_seconds) if count else None


def _sentinel_client(url: str, options: dict[str, Any]) -> Any:
    parts, _ = parts_of(url)
    path, _, database = parts.path.strip("/").partition("/")
    query = parse_qs(parts.query)
    if parts.scheme.startswith("rediss"):
        options = {**options, "ssl": True}
    of_sentinels = dict(options)
    if "sentinel_password" in query:
        of_sentinels["password"] = query["sentinel_password"][0]
    make: Any = Sentinel
    sentinel = make(_addresses(url, 26379), sentinel_kwargs=of_sentinels)
    of_master = {**options, **_credentials(url), "db": int(database or 0)}
    return sentinel.master_for(path or "mymaster", **of_master)
