"""A master, a replica and three sentinels on loopback, for what a failover does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.support.redis import RedisServer
from tests.support.waiting import eventually


class Sentinels:
    def __init__(self, directory: Path) -> None:
        self.master = RedisServer(directory / "master")
        self.replica = RedisServer(
            directory / "replica", "--replicaof", "127.0.0.1", str(self.master.port),
            "--repl-diskless-sync-delay", "0",
        )  # fmt: skip
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
        link = self.replica.client()
        eventually(lambda: link.info("replication")["master_link_status"] == "up", within=20)
        for sentinel in self.sentinels:
            eventually(partial(sentinel.client().execute_command, "SENTINEL", "REPLICAS", "main"), within=20)

    def close(self) -> None:
        for server in (*self.sentinels, self.replica, self.master):
            server.close()
