"""A store that goes back: what a failover to a replica that lagged behind looks like to clients.

`Snapshot(store)` keeps all keys as they are; `come_back` puts them in the place of what is there
then, in a new history of the server (its replication id changes as with a real promotion).
"""

from __future__ import annotations

from typing import Any


class Snapshot:
    def __init__(self, store: Any) -> None:
        self._store = store
        # A client of its own: values of DUMP are bytes.
        arguments = {**store.connection_pool.connection_kwargs, "decode_responses": False}
        self._raw = type(store)(**{name: arguments[name] for name in ("host", "port", "decode_responses")})
        self._kept = {
            key: (self._raw.dump(key), max(0, self._raw.pttl(key))) for key in self._raw.scan_iter("*")
        }

    def come_back(self) -> None:
        before = history(self._store)
        self._store.replicaof("127.0.0.1", "1")
        self._store.replicaof("NO", "ONE")
        assert history(self._store) != before
        pipeline = self._raw.pipeline(transaction=True)
        for key in self._raw.scan_iter("*"):
            if key not in self._kept:
                pipeline.delete(key)
        for key, (value, milliseconds) in self._kept.items():
            pipeline.restore(key, milliseconds, value, replace=True)
        pipeline.execute()
        self._raw.close()


def history(store: Any) -> str:
    return str(store.info("replication")["master_replid"])
