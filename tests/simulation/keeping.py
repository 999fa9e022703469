"""What is kept for how long, and who finds it: the ends of keys, the indexes, the list of sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

# Indexes that stay: docs/keys.md has the list.
_LASTING: Final = (b"turns:deadlines", b":secret", b"{credentials}")
# A key's end and the time at which it is looked at are read from one clock, some commands apart.
_SLACK_SECONDS: Final = 1.0


class Keeping:
    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def touched(self, name: str, keys: Sequence[bytes]) -> None:
        """A script has ended: what it leaves has an end."""
        for key in keys:
            if self._oracle.redis.seconds(key) == float("inf") and not key.endswith(_LASTING):
                self._oracle.broken("a key would stay for ever", name, key)

    def begun(self, given: Mapping[str, Any], state: bytes, ref: bytes) -> None:
        """By begin.lua, which was given this."""
        oracle, settings, session = self._oracle, self._oracle.settings, given["session"]
        if given["named"] == b"1":
            oracle.kept.named.add(session)
        self._session(session, [given[name] for name in ("session", "order", "messages", "turns")])
        self._lives(given["turn"], max(self._ttl(session), settings.log_ttl_seconds))
        if state == b"running":
            self._lives(given["log"], settings.log_ttl_seconds)
        if given["fingerprint"]:
            self._lives(given["idem"], settings.idempotency_ttl_seconds)
        turns = oracle.redis.value(given["turns"]) or ()
        held = oracle.redis.hash(session)
        if given["turn_id"] not in turns or int(held[b"turns"]) != len(turns):
            oracle.broken("a session does not know its turns", session, held[b"turns"], list(turns))
        if oracle.calm:
            due = oracle.redis.value(session[: session.index(b":")] + b":turns:deadlines") or ()
            if ref not in due:
                oracle.broken("a turn that begins is on no index", ref)

    def sealed(self, given: Mapping[str, Any]) -> None:
        """By seal.lua, which was given this."""
        settings, session, turn = self._oracle.settings, given["session"], given["turn"]
        if self._oracle.redis.hash(session):
            self._session(session, [given[name] for name in ("session", "order", "messages")])
            self._lives(turn, max(self._ttl(session), settings.log_ttl_seconds))
        self._lives(given["log"], settings.log_ttl_seconds)
        held = self._oracle.redis.hash(turn)
        if b"params" in held or b"started" in held:
            self._oracle.broken("what a turn was asked with stays behind it", turn)

    def at_the_end(self) -> None:
        oracle = self._oracle
        if not oracle.calm:
            return
        for name in oracle.redis.names():
            if name.endswith(b":sessions"):
                listed = set(oracle.redis.value(name) or ())
                named = {key[key.index(b"/") + 1 : key.index(b"}")] for key in oracle.kept.named}
                if listed != named:
                    oracle.broken("the list of sessions is not what there is", listed, named)

    def _ttl(self, session: bytes) -> int:
        settings = self._oracle.settings
        named = session in self._oracle.kept.named
        return settings.session_ttl_seconds if named else settings.ephemeral_ttl_seconds

    def _session(self, session: bytes, names: Sequence[bytes]) -> None:
        for name in names:
            self._lives(name, self._ttl(session))

    def _lives(self, key: bytes, seconds: int) -> None:
        left: Any = self._oracle.redis.seconds(key)
        if left is not None and abs(left - seconds) > _SLACK_SECONDS:
            self._oracle.broken("a key has another end than it should", key, left, seconds)
