"""What all replicas share of the provider: how much room each model has and a circuit, per API key.

lua/pace.lua keeps the provider's limits as the provider does, lua/circuit.lua the conditions that
no retry mends. When to ask, who waits and what a refusal says belong to engine/pacing/governor.py.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from service.config.provider_keys import DEFAULT
from service.store.connection import lua
from service.store.part import Shared, StorePart

#: kinds of limits and the milliseconds in which each refills
PERIODS: Final = {
    "rpm": 60_000,
    "tpm": 60_000,
    "itpm": 60_000,
    "otpm": 60_000,
    "rpd": 86_400_000,
    "tpd": 86_400_000,
}

# A day's bucket has to outlive its day; what is older teaches nothing.
_TTL_SECONDS: Final = 90_000
# Room is kept for the longest waiting call for as long as its worker polls (10 times a second).
_HOLD_MS: Final = 500
# While nothing is known of a model, so many calls go ahead; the others wait for these, 1 s at most.
_PROBES: Final = 4
_COLD_MS: Final = 1_000
# Tokens a minute for each request a minute: Groq's tiers have 250 to 500. Above that share a limit
# of requests may be met any moment.
_TOKENS_PER_CALL: Final = 500
#: a day's requests are counted when fewer are left than replicas could send between two answers.
NEAR: Final = 500
# A limit that stands in no header is forgotten so long after its last refusal: it may have been raised.
_KEEP_MS: Final = 600_000

_FIRST_OPEN_MS: Final = 5_000
_LONGEST_OPEN_MS: Final = 30_000
_PROBE_MS: Final = 15_000
# One 401 may be a proxy's whim; three calls in a row without a success are not.
_FAILURES: Final = 3
_CIRCUIT_TTL_SECONDS: Final = 600


@dataclass(slots=True)
class Report:
    """What a worker has learned since its last report.

    `calls` were let go; `heard` of them have answered or failed, which ends reservations of `ended` tokens.
    `requests`, `prompt` and `completion` are what calls did not use. All but `calls` are negative where
    calls were let go before Redis was asked.
    """

    calls: int = 0
    heard: int = 0
    ended: int = 0
    requests: int = 0
    prompt: int = 0
    completion: int = 0
    heads: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)

    @property
    def news(self) -> bool:
        """Is there something in it that other replicas act on?"""
        return bool(self.requests or self.prompt or self.completion or self.heads or self.refusals)


@dataclass(frozen=True, slots=True)
class Bucket:
    limit: float
    level: float
    period: float  # seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """A model's state as Redis had it at `now` (ms).

    `granted` has an entry per ask that may go: tokens left of the minute (-1 unknown) and tokens
    that calls under way have reserved, both after it.
    """

    now: int
    known: bool
    granted: Sequence[tuple[float, float]]
    wait: float  # seconds, for the first ask that may not go
    best: float  # the same if calls under way give everything back
    blocked: float  # seconds
    roomy: bool  # half of each limit is left: a worker may take a little before it asks
    buckets: dict[str, Bucket]

    @property
    def free(self) -> bool:
        """No known limit could refuse a call."""
        return self.known and not self.buckets and self.blocked <= 0


@dataclass(frozen=True, slots=True)
class Circuit:
    """`reason` is '' when closed; half open when `wait` (s) is over. `refuses` calls, or only warns."""

    reason: str = ""
    wait: float = 0.0
    refuses: bool = False


class Pacing(StorePart):
    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        key = shared.settings.groq_api_key
        # A replica with a wrong key must not stop those with the right one.
        self._circuit_key = shared.keys.circuit(key.get_secret_value() if key else "")
        self._api_key = ""  # '' for that of GROQ_API_KEY

    def of(self, name: str, api_key: str) -> Pacing:
        """The same for one of several API keys. GROQ_API_KEY has the Redis keys that it always had."""
        found = copy.copy(self)
        found._circuit_key = self._keys.circuit(api_key)
        found._api_key = "" if name == DEFAULT else api_key
        return found

    def _pace_key(self, model: str) -> str:
        return self._keys.pace_of(self._api_key, model) if self._api_key else self._keys.pace(model)

    async def pace(self, model: str, report: Report, asks: Sequence[tuple[int, int, float]]) -> Pace:
        """Report and ask in one round trip; an ask is (prompt, completion, seconds without a turn)."""
        given = {
            "worker": self._worker,
            "ttl": _TTL_SECONDS,
            "period": PERIODS,
            "hold": _HOLD_MS,
            "cold": _COLD_MS,
            "probes": _PROBES,
            "near": NEAR,
            "keep": _KEEP_MS,
            "per_call": _TOKENS_PER_CALL,
            "calls": report.calls,
            "heard": report.heard,
            "ended": report.ended,
            "back": {"requests": report.requests, "prompt": report.prompt, "completion": report.completion},
            "heads": report.heads,
            "refusals": report.refusals,
            "asks": [
                {"prompt": prompt, "completion": completion, "waited": int(waited * 1000)}
                for prompt, completion, waited in asks
            ],
        }
        answer = orjson.loads(
            await self._client.unless_silent(
                self._scripts.call(lua.pace(pace=self._pace_key(model), report=orjson.dumps(given)))
            )
        )
        return Pace(
            now=int(answer["now"]),
            known=answer["known"],
            granted=list(answer["granted"] or []),
            wait=answer["wait"] / 1000,
            best=answer["best"] / 1000,
            blocked=answer["blocked"] / 1000,
            roomy=answer["roomy"],
            buckets={
                kind: Bucket(bucket["limit"], bucket["level"], PERIODS[kind] / 1000)
                for kind, bucket in (answer["buckets"] or {}).items()
            },
        )

    async def _circuit(self, event: str, reason: str = "") -> Circuit:
        asking = lua.circuit(
            circuit=self._circuit_key,
            event=event,
            why=reason,
            first_open_ms=_FIRST_OPEN_MS,
            longest_open_ms=_LONGEST_OPEN_MS,
            probe_ms=_PROBE_MS,
            ttl=_CIRCUIT_TTL_SECONDS,
            enough=_FAILURES,
        )
        found, wait, refuses = await self._client.unless_silent(self._scripts.call(asking))
        return Circuit(found.decode(), int(wait) / 1000, bool(refuses))

    async def circuit(self) -> Circuit:
        return await self._circuit("look")

    async def may_probe(self) -> Circuit:
        """Ask to try a half-open circuit: one caller is not refused, and makes the call."""
        return await self._circuit("ask")

    async def open_circuit(self, reason: str) -> Circuit:
        return await self._circuit("failed", reason)

    async def free_probe(self) -> Circuit:
        """The caller that was to try has learned nothing: another may try at once."""
        return await self._circuit("freed")

    async def close_circuit(self) -> None:
        await self._client.run("circuit", self._redis.unlink(self._circuit_key))

    # Models that the provider refuses to this API key

    async def unavailable(self) -> dict[str, float]:
        """Models that are not to be asked for, and for how many seconds."""
        return await self._unavailable("", 0)

    async def refused(self, model: str, seconds: float) -> dict[str, float]:
        """Note that a model is refused for so many seconds; 0: it has answered. Returns all of them."""
        return await self._unavailable(model, int(seconds * 1000))

    async def _unavailable(self, model: str, milliseconds: int) -> dict[str, float]:
        asking = lua.unavailable(circuit=self._circuit_key, model=model, lasts_ms=milliseconds)
        found = await self._client.unless_silent(self._scripts.call(asking))
        return {model.decode(): int(left) / 1000 for model, left in zip(found[::2], found[1::2], strict=True)}
