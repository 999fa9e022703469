"""The names of all keys. docs/keys.md lists them; a test compares the two.

Everything of one session shares the hash tag `{principal/session}`, so that scripts are atomic
on Redis Cluster too, and ids live inside their principal: nobody can hit another's. Indexes
across sessions live in slots of their own and can be rebuilt. No I/O here.
"""

from __future__ import annotations

import hashlib
import itertools
from functools import cache, lru_cache
from typing import Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot


class SessionKeys:
    """Those of one session; scripts give them the same names."""

    def __init__(self, prefix: str, principal: str, session_id: str) -> None:
        self.base = base = f"{prefix}:{{{principal}/{session_id}}}"
        self.session = f"{base}:session"
        self.order = f"{base}:order"
        self.messages = f"{base}:messages"
        self.turns = f"{base}:turns"
        self.queue = f"{base}:queue"

    def turn(self, turn_id: str) -> str:
        return f"{self.base}:turn:{turn_id}"

    def log(self, turn_id: str) -> str:
        return f"{self.base}:log:{turn_id}"

    def log_copy(self, turn_id: str) -> str:
        """There for a moment only, while a turn is sealed."""
        return f"{self.log(turn_id)}:copy"

    def idempotency(self, key: str) -> str:
        return f"{self.base}:idem:{_digest(key)}"


class PrincipalKeys:
    """Those of one principal; scripts give them the same names."""

    def __init__(self, prefix: str, principal: str) -> None:
        self.base = base = f"{prefix}:{{{principal}}}"
        #: Sorted set: its named sessions by time of last change.
        self.listed = f"{base}:sessions"
        #: Sorted set: its turns that hold a place, by the time at which it lapses.
        self.running = f"{base}:running"
        #: Hash: unsettled turn -> tokens reserved for it; the entry is the one chance to settle.
        #: `$<turn>` -> money reserved for it, in nanos, under a budget in money only.
        self.reserved = f"{base}:reserved"
        #: `<turns> <tokens>`, and ` <nanos>` where money is reserved: of all places of `running`.
        self.sum = f"{base}:held"
        #: Hash: what its sessions hold, by item (lua/account.lua), in bytes; and the sums.
        self.sizes = f"{base}:stored"
        #: Sorted set: the items of `sizes` by the time at which they end.
        self.ends = f"{base}:stored_until"
        #: Counters: tokens used in the running minute, day and month; they expire with it.
        self.minute = f"{base}:budget:minute"
        self.day = f"{base}:budget:day"
        self.month = f"{base}:budget:month"

    def spent(self, period: str, currency: str) -> str:
        """Counter: nanos of a currency spent in the running day or month; expires with it."""
        return f"{self.base}:spent:{period}:{currency}"

    def usage(self, date: str) -> str:
        """Hash: what turns that ended on a day (UTC) have used, by model."""
        return f"{self.base}:usage:{date}"

    def limit(self, kind: str, window: str, seconds: int) -> str:
        """Counter (fixed) or list of times (moving): what a caller has used of a request limit."""
        return f"{self.base}:limit:{kind}:{window}:{seconds}"

    def charged(self, once: str) -> str:
        """Mark: a send with this idempotency key was charged a moment ago."""
        return f"{self.base}:charged:{_digest(once)}"


# Slots of a part: with 16 of them a shard of three or four has some for itself, and a sweep asks for 16.
_PART: Final = 1_024


def part_of(key: str) -> int:
    """The part of the slots that a key is in."""
    return key_slot(key.encode()) // _PART


@cache
def part_tags() -> tuple[str, ...]:
    """A hash tag in each part of the slots."""
    found: dict[int, str] = {}
    for number in itertools.count():
        found.setdefault(key_slot(b"%d" % number) // _PART, str(number))
        if len(found) == REDIS_CLUSTER_HASH_SLOTS // _PART:
            return tuple(found[part] for part in sorted(found))
    raise AssertionError


# As many sessions as a worker serves at once; begin, renewals and seal of a turn ask for their names.
_session_keys = lru_cache(maxsize=4096)(SessionKeys)
_principal_keys = lru_cache(maxsize=4096)(PrincipalKeys)


class Keys:
    """Of all replicas, and the way to those of a session and of a principal."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        #: Sorted set: every unsettled turn by the time at which somebody has to look at it.
        self.deadlines = f"{prefix}:turns:deadlines"
        #: Sorted set: the ids of all API keys by time of creation. Permanent.
        self.credentials = f"{prefix}:{{credentials}}"
        #: Hash: limits of single subjects of JWTs and of groups, as JSON. Permanent.
        self.own_limits = f"{prefix}:own_limits"
        #: Sorted set: ids of what is to be told to the webhook's receiver, by the ms from which on.
        self.webhooks = f"{prefix}:{{webhooks}}:due"
        #: Hash: id -> what is told, `#<id>` -> how often that was tried.
        self.webhooks_said = f"{prefix}:{{webhooks}}:said"
        #: Sorted set, in no order: API keys with a webhook of their own that has something to be told.
        self.webhook_keys = f"{prefix}:{{webhooks}}:keys"
        #: What replicas without CHAT_SECRET sign tickets with. Permanent.
        self.secret = f"{prefix}:secret"
        #: Sorted set: principals that have usage, by the time of the last day's first booking.
        self.principals = f"{prefix}:usage:principals"

    def session(self, principal: str, session_id: str) -> SessionKeys:
        return _session_keys(self.prefix, principal, session_id)

    def principal(self, principal: str) -> PrincipalKeys:
        return _principal_keys(self.prefix, principal)

    def webhooks_of(self, key_id: str) -> str:
        """What `webhooks` is, for the webhook of one API key."""
        return f"{self.webhooks}:{key_id}"

    def webhooks_said_of(self, key_id: str) -> str:
        """What `webhooks_said` is, for the webhook of one API key."""
        return f"{self.webhooks_said}:{key_id}"

    def fence(self, number: int) -> str:
        """What is written for replicas to acknowledge; on a Cluster each primary has one of its own."""
        return f"{self.prefix}:fence:{number}"

    def deadlines_near(self, tag: str) -> str:
        """On a Cluster, what `deadlines` is: one for the sessions of each part of the slots, in that part."""
        return f"{self.deadlines}:{{{tag}}}"

    def worker_channel(self, worker: str) -> str:
        """Channel: what other workers tell this one (a turn to stop)."""
        return f"{self.prefix}:bell:{worker}"

    def owned_by(self, worker: str) -> str:
        """Set: references of the turns that a worker runs, for the master to lapse when it dies."""
        return f"{self.prefix}:worker:{worker}:turns"

    def credential(self, key_id: str) -> str:
        """Hash: an API key's record, without its secret. Permanent until it expires or is revoked."""
        return f"{self.credentials}:{key_id}"

    def pace(self, model: str) -> str:
        """Hash: what all replicas know of the provider's limits for a model, and who waits for it."""
        return f"{self.prefix}:{{upstream}}:pace:{model}"

    def pace_of(self, api_key: str, model: str) -> str:
        """The same for one of several API keys: each may be of an organisation with limits of its own."""
        return f"{self.prefix}:{{upstream}}:pace_of:{_digest(api_key)}:{model}"

    def circuit(self, api_key: str) -> str:
        """Hash: why no call with this API key can succeed, when one of us tries again, and which models
        are refused to it.

        Not `circuit:<hash>`: replicas of before December 2026 open that one by any model's 403.
        """
        return f"{self.prefix}:{{upstream}}:circuit:key:{_digest(api_key)}"


@lru_cache(maxsize=1024)  # a send asks for that of its key three times, one without a key for that of none
def _digest(of: str) -> str:
    return hashlib.sha256(of.encode()).hexdigest()[:32]
