"""A master, its replicas and three sentinels on loopback, for what a failover does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.support.redis import RedisServer
from tests.support.waiting import eventually


class Sentinels:
    def __init__(self, directory: Path, replicas: int = 1) -> None:
        self.master = RedisServer(directory / "master")
        self.replicas = [
            RedisServer(
                directory / f"replica{number}",
                "--replicaof",
                "127.0.0.1",
                str(self.master.port),
                "--repl-diskless-sync-delay",
                "0",
            )
            for number in range(replicas)
        ]
        self.sentinels = []
        for number in range(3):
            home = directory / f"sentinel{number}"
            home.mkdir(parents=True)
            conf = home / "sentinel.conf"
            conf.write_text(
                f"sentinel monitor main 127.0.0.1 {self.master.port} 2\n"
                "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n"
            )
            self.sentinels.append(RedisServer(home, conf=conf))
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/main"
        for replica in self.replicas:
            eventually(partial(_follows, replica), within=20)
        for sentinel in self.sentinels:
            eventually(partial(self._knows_all, sentinel), within=20)

    def _knows_all(self, sentinel: RedisServer) -> bool:
        known = sentinel.client().execute_command("SENTINEL", "REPLICAS", "main")
        return len(known) == len(self.replicas)

    def promoted(self) -> bool:
        """Is a replica the master now?"""
        return any(one.client().info("replication")["role"] == "master" for one in self.replicas)

    def close(self) -> None:
        for server in (*self.sentinels, *self.replicas, self.master):
            server.close()


def _follows(replica: RedisServer) -> bool:
    return bool(replica.client().info("replication")["master_link_status"] == "up")
