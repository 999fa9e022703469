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
    """The keys of one session, by the names that Lua scripts have for them."""

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
        """Exists only while a turn is being sealed."""
        return f"{self.log(turn_id)}:copy"

    def idempotency(self, key: str) -> str:
        return f"{self.base}:idem:{_digest(key)}"


class PrincipalKeys:
    """The keys of one principal, by the names that Lua scripts have for them."""

    def __init__(self, prefix: str, principal: str) -> None:
        self.base = base = f"{prefix}:{{{principal}}}"
        #: Sorted set: its named sessions by time of last change.
        self.listed = f"{base}:sessions"
        #: Sorted set: its turns that hold a place, by the time at which the place expires.
        self.running = f"{base}:running"
        #: Hash: unsettled turn -> tokens reserved for it. Settling removes the field, so it happens once.
        #: `$<turn>` -> money reserved for it, in nanos; only under a budget in money.
        self.reserved = f"{base}:reserved"
        #: Text: `<turns> <tokens>`, then ` <nanos>` where money is reserved. The sums over `running`.
        self.sum = f"{base}:held"
        #: Hash: item of the account (lua/account.lua) -> its bytes; and the sums of all.
        self.sizes = f"{base}:stored"
        #: Sorted set: the items of `sizes` by the time at which they expire.
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


# A Cluster has 16,384 slots: 16 parts of so many. With three or four shards each part is mostly on one of
# them, and a sweep asks 16 indexes.
_SLOTS_PER_PART: Final = 1_024


def part_of(key: str) -> int:
    """The part of the Cluster's slots that a key is in: 0 to 15."""
    return key_slot(key.encode()) // _SLOTS_PER_PART


@cache
def part_tags() -> tuple[str, ...]:
    """A hash tag for each part, whose slot is in that part."""
    tags: dict[int, str] = {}
    for number in itertools.count():
        tags.setdefault(part_of(str(number)), str(number))
        if len(tags) == REDIS_CLUSTER_HASH_SLOTS // _SLOTS_PER_PART:
            return tuple(tags[part] for part in sorted(tags))
    raise AssertionError


# As many as a worker serves at once; the begin, the renewals and the seal of a turn ask for the same names.
_session_keys = lru_cache(maxsize=4096)(SessionKeys)
_principal_keys = lru_cache(maxsize=4096)(PrincipalKeys)


class Keys:
    """The keys that all replicas share, and how to get those of a session and of a principal."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        #: Sorted set: every unsettled turn by the time at which somebody has to look at it.
        self.deadlines = f"{prefix}:turns:deadlines"
        #: Sorted set: the ids of all API keys by time of creation. Permanent.
        self.credentials = f"{prefix}:{{credentials}}"
        #: Hash: limits of single subjects of JWTs and of groups, as JSON. Permanent.
        self.own_limits = f"{prefix}:own_limits"
        #: Sorted set: ids of the messages that wait for the webhook, by the time (ms) of their next try.
        self.webhooks = f"{prefix}:{{webhooks}}:due"
        #: Hash: id -> the message's body, `#<id>` -> how often it was tried.
        self.webhooks_said = f"{prefix}:{{webhooks}}:said"
        #: Sorted set, without an order: API keys with a webhook of their own for which messages wait.
        self.webhook_keys = f"{prefix}:{{webhooks}}:keys"
        #: Text: the secret with which replicas without CHAT_SECRET sign tickets. Permanent.
        self.secret = f"{prefix}:secret"
        #: Sorted set: principals that have usage, by the time (s) of the first booking of their last day.
        self.principals = f"{prefix}:usage:principals"

    def session(self, principal: str, session_id: str) -> SessionKeys:
        return _session_keys(self.prefix, principal, session_id)

    def principal(self, principal: str) -> PrincipalKeys:
        return _principal_keys(self.prefix, principal)

    def webhooks_of(self, key_id: str) -> str:
        """The same as `webhooks`, for the webhook of one API key."""
        return f"{self.webhooks}:{key_id}"

    def webhooks_said_of(self, key_id: str) -> str:
        """The same as `webhooks_said`, for the webhook of one API key."""
        return f"{self.webhooks_said}:{key_id}"

    def fence(self, number: int) -> str:
        """A key that is written so that replicas acknowledge it; on a Cluster each primary has its own."""
        return f"{self.prefix}:fence:{number}"

    def deadlines_near(self, tag: str) -> str:
        """The same as `deadlines` on a Cluster: one for each part of the slots, itself in that part."""
        return f"{self.deadlines}:{{{tag}}}"

    def worker_channel(self, worker: str) -> str:
        """Channel: the turns that other workers want this one to stop."""
        return f"{self.prefix}:bell:{worker}"

    def owned_by(self, worker: str) -> str:
        """Set: the turns that a worker runs. When it dies, the master expires their leases."""
        return f"{self.prefix}:worker:{worker}:turns"

    def credential(self, key_id: str) -> str:
        """Hash: an API key's record, without its secret. Permanent until it expires or is revoked."""
        return f"{self.credentials}:{key_id}"

    def pace(self, model: str) -> str:
        """Hash: the provider's limits for a model as all replicas know them, and who waits for them."""
        return f"{self.prefix}:{{upstream}}:pace:{model}"

    def pace_of(self, api_key: str, model: str) -> str:
        """The same as `pace` for one of several API keys: each may belong to an organisation of its own."""
        return f"{self.prefix}:{{upstream}}:pace_of:{_digest(api_key)}:{model}"

    def circuit(self, api_key: str) -> str:
        """Hash: why no call with this API key can succeed, when it is tried again, and which models
        the provider refuses to it.

        Not `circuit:<hash>`: replicas from before December 2026 open that one at any model's 403.
        """
        return f"{self.prefix}:{{upstream}}:circuit:key:{_digest(api_key)}"


@lru_cache(maxsize=1024)  # a send asks three times for that of its key, or of "-" without a key
def _digest(of: str) -> str:
    return hashlib.sha256(of.encode()).hexdigest()[:32]
