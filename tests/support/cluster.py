"""A Redis Cluster of real nodes on loopback, whose slots can be stalled and moved."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from redis.crc import key_slot

from tests.support.redis import RedisServer, free_port
from tests.support.waiting import eventually

_SLOTS = 16_384


class Cluster:
    def __init__(self, directory: Path, size: int = 3) -> None:
        self.nodes: list[RedisServer] = []
        while len(self.nodes) < size:
            home = directory / f"node{len(self.nodes)}"
            self.nodes.append(
                RedisServer(
                    home,
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    "60000",
                    "--cluster-require-full-coverage",
                    "no",
                    port=_free_port(),
                )
            )
        for number, node in enumerate(self.nodes):
            first, last = number * _SLOTS // size, (number + 1) * _SLOTS // size - 1
            node.client().execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            for other in self.nodes[:number]:
                node.client().execute_command("CLUSTER", "MEET", "127.0.0.1", other.port)
        for node in self.nodes:
            eventually(partial(self._knows_all, node), within=60)
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def _knows_all(self, node: RedisServer) -> bool:
        info: dict[str, Any] = node.client().execute_command("CLUSTER INFO")
        return info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == _SLOTS

    def holder(self, key: str) -> RedisServer:
        return self.nodes[key_slot(key.encode()) * len(self.nodes) // _SLOTS]

    def names_at(
        self, node: RedisServer, pattern: str = "s{}", prefix: str = "chat:{{none.anonymous/{}}}"
    ) -> Iterator[str]:
        """Session ids whose keys a node holds."""
        for number in range(100_000):
            name = pattern.format(number)
            if self.holder(prefix.format(name)) is node:
                yield name

    def add_replica(self, master: RedisServer, directory: Path) -> RedisServer:
        replica = RedisServer(
            directory,
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "60000",
            "--repl-diskless-sync-delay",
            "0",
            port=_free_port(),
        )
        replica.client().execute_command("CLUSTER", "MEET", "127.0.0.1", master.port)
        eventually(lambda: self._id(master) in str(replica.client().execute_command("CLUSTER NODES")))
        replica.client().execute_command("CLUSTER", "REPLICATE", self._id(master))
        eventually(lambda: replica.client().info("replication")["master_link_status"] == "up", within=20)
        return replica

    def neighbours(self, name: str, prefix: str = "chat:{{none.anonymous/{}}}") -> Iterator[str]:
        """Other session ids of the same slot."""
        slot = key_slot(prefix.format(name).encode())
        for number in itertools.count():
            if key_slot(prefix.format(f"{name}.{number}").encode()) == slot:
                yield f"{name}.{number}"

    def open_slot(self, key: str) -> RedisServer:
        """Begin to move the slot of a key. Returns the node that it would go to."""
        source = self.holder(key)
        target = next(node for node in self.nodes if node is not source)
        slot = key_slot(key.encode())
        target.client().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        source.client().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))
        return target

    def finish_slot(self, key: str) -> None:
        """Move what the slot still has, and give it to the node that it goes to."""
        source, slot = self.holder(key), key_slot(key.encode())
        target = next(node for node in self.nodes if node is not source)
        keys = source.client().execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        if keys:
            source.client().execute_command(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "REPLACE", "KEYS", *keys
            )
        for node in (target, source):  # the others hear of it from these
            node.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", self._id(target))

    def settle_slot(self, key: str) -> None:
        """Leave the slot where it was."""
        for node in self.nodes:
            node.client().execute_command("CLUSTER", "SETSLOT", key_slot(key.encode()), "STABLE")

    def _id(self, node: RedisServer) -> str:
        return str(node.client().execute_command("CLUSTER", "MYID"))

    def close(self) -> None:
        for node in self.nodes:
            node.close()


def _free_port() -> int:
    """A port on which nobody listens, nor where the bus of the node will: 10,000 above it."""
    while True:
        port = free_port()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port + 10_000))
            return port
