"""The names of all keys. docs/keys.md lists them; a test compares the two.

Everything of one session shares the hash tag `{principal/session}`, so that scripts are atomic
on Redis Cluster too, and ids live inside their principal: nobody can hit another's. Indexes
across sessions live in slots of their own and can be rebuilt. No I/O here.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot


@dataclass(frozen=True)
class SessionKeys:
    prefix: str
    principal: str
    session_id: str

    @cached_property
    def base(self) -> str:
        return f"{self.prefix}:{{{self.principal}/{self.session_id}}}"

    @cached_property
    def session(self) -> str:
        return f"{self.base}:session"

    @cached_property
    def order(self) -> str:
        return f"{self.base}:order"

    @cached_property
    def messages(self) -> str:
        return f"{self.base}:messages"

    @cached_property
    def turns(self) -> str:
        return f"{self.base}:turns"

    @cached_property
    def queue(self) -> str:
        return f"{self.base}:queue"

    def turn(self, turn_id: str) -> str:
        return f"{self.base}:turn:{turn_id}"

    def log(self, turn_id: str) -> str:
        return f"{self.base}:log:{turn_id}"

    def log_copy(self, turn_id: str) -> str:
        """There for a moment only, while a turn is sealed."""
        return f"{self.log(turn_id)}:copy"

    def idempotency(self, key: str) -> str:
        return f"{self.base}:idem:{hashlib.sha256(key.encode()).hexdigest()[:32]}"


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
@lru_cache(maxsize=4096)
def _session_keys(prefix: str, principal: str, session_id: str) -> SessionKeys:
    return SessionKeys(prefix, principal, session_id)


@dataclass(frozen=True)
class Keys:
    prefix: str

    def session(self, principal: str, session_id: str) -> SessionKeys:
        return _session_keys(self.prefix, principal, session_id)

    def sessions_of(self, principal: str) -> str:
        """Sorted set: the principal's named sessions by time of last change."""
        return f"{self.prefix}:{{{principal}}}:sessions"

    @cached_property
    def deadlines(self) -> str:
        """Sorted set: every unsettled turn by the time at which somebody has to look at it."""
        return f"{self.prefix}:turns:deadlines"

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

    def limit(self, who: str, kind: str, window: str, seconds: int) -> str:
        """Counter (fixed) or list of times (moving): what a caller has used of a request limit."""
        return f"{self.prefix}:{{{who}}}:limit:{kind}:{window}:{seconds}"

    def charged(self, who: str, once: str) -> str:
        """Mark: a send with this idempotency key was charged a moment ago."""
        return f"{self.prefix}:{{{who}}}:charged:{hashlib.sha256(once.encode()).hexdigest()[:32]}"

    def credential(self, key_id: str) -> str:
        """Hash: an API key's record, without its secret. Permanent until it expires or is revoked."""
        return f"{self.prefix}:{{credentials}}:{key_id}"

    @cached_property
    def credentials(self) -> str:
        """Sorted set: the ids of all API keys by time of creation. Permanent."""
        return f"{self.prefix}:{{credentials}}"

    @cached_property
    def webhooks(self) -> str:
        """Sorted set: ids of what is to be told to the webhook's receiver, by the ms from which on."""
        return f"{self.prefix}:{{webhooks}}:due"

    @cached_property
    def webhooks_said(self) -> str:
        """Hash: id -> what is told, `#<id>` -> how often that was tried."""
        return f"{self.prefix}:{{webhooks}}:said"

    @cached_property
    def secret(self) -> str:
        """What replicas without CHAT_SECRET sign tickets with. Permanent."""
        return f"{self.prefix}:secret"

    def running(self, principal: str) -> str:
        """Sorted set: the principal's turns that hold a place, by the time at which it lapses."""
        return f"{self.prefix}:{{{principal}}}:running"

    def reserved(self, principal: str) -> str:
        """Hash: unsettled turn -> tokens reserved for it; the entry is the one chance to settle.

        `$<turn>` -> money reserved for it, in nanos, under a budget in money only.
        """
        return f"{self.prefix}:{{{principal}}}:reserved"

    def held(self, principal: str) -> str:
        """`<turns> <tokens>`, and ` <nanos>` where money is reserved: of all places of `running`."""
        return f"{self.prefix}:{{{principal}}}:held"

    def stored(self, principal: str) -> str:
        """Hash: what the principal's sessions hold, by item (lua/account.lua), in bytes; and the sums."""
        return f"{self.prefix}:{{{principal}}}:stored"

    def stored_until(self, principal: str) -> str:
        """Sorted set: the items of `stored` by the time at which they end."""
        return f"{self.prefix}:{{{principal}}}:stored_until"

    def budget(self, principal: str, period: str) -> str:
        """Counter: tokens used in the running minute, day or month; expires with it."""
        return f"{self.prefix}:{{{principal}}}:budget:{period}"

    def spent(self, principal: str, period: str, currency: str) -> str:
        """Counter: nanos of a currency spent in the running day or month; expires with it."""
        return f"{self.prefix}:{{{principal}}}:spent:{period}:{currency}"

    def usage(self, principal: str, date: str) -> str:
        """Hash: what turns that ended on a day (UTC) have used, by model."""
        return f"{self.prefix}:{{{principal}}}:usage:{date}"

    @cached_property
    def principals(self) -> str:
        """Sorted set: principals that have usage, by the time of the last day's first booking."""
        return f"{self.prefix}:usage:principals"

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


def _digest(api_key: str) -> str:
    return hashlib.sha256(api_key.encode()).hexdigest()[:32]
