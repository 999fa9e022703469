"""Rate limits as Groq keeps them: buckets per organisation and model that refill continuously.

Requests and tokens per minute and per day; a request reserves prompt + max_completion_tokens
up front and gets back what it did not use. Invariants: nothing is taken by a request that is
refused; RPM, TPD, ITPM and OTPM show in no header; when a request limit trips, the token
headers are absent. Without limits the headers are those of an idle developer account.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.double.refusals import Refusal

ORGANIZATION: Final = "org_01double0000000000000000000"

# name -> words, type of the error, seconds to refill, the free tier's limit
KINDS: Final[dict[str, tuple[str, str, float, int]]] = {
    "RPM": ("requests per minute", "requests", 60.0, 30),
    "RPD": ("requests per day", "requests", 86_400.0, 1000),
    "TPM": ("tokens per minute", "tokens", 60.0, 8000),
    "TPD": ("tokens per day", "tokens", 86_400.0, 200_000),
    "ITPM": ("input tokens per minute", "tokens", 60.0, 7000),
    "OTPM": ("output tokens per minute", "tokens", 60.0, 1000),
}
_UNLIMITED: Final = {"RPD": 500_000, "TPM": 250_000}


def go_duration(seconds: float) -> str:
    """How Go prints a duration: 2m59.56s, 185ms, 1h23m31s."""
    nanos = round(seconds * 1e9)
    for unit, size in (("ns", 1), ("µs", 1000), ("ms", 1_000_000)):
        if nanos < size * 1000:
            return _plain(nanos / size) + unit if nanos else "0s"
    minutes, rest = divmod(nanos, 60 * 10**9)
    tail = _plain(rest / 1e9) + "s"
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60}m{tail}"
    return f"{minutes}m{tail}" if minutes else tail


def _plain(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")


def rate_limited(
    model: str,
    kind: str,
    *,
    limit: int | None = None,
    used: int | None = None,
    requested: int | None = None,
    wait: float = 2.0,
    headers: Mapping[str, str] | None = None,
) -> Refusal:
    """The 429; only the words in its message tell a minute from a day."""
    words, type_, _, default = KINDS[kind]
    limit = default if limit is None else limit
    requested = (1 if type_ == "requests" else max(1, limit // 8)) if requested is None else requested
    used = limit if used is None else used
    message = (
        f"Rate limit reached for model `{model}` in organization `{ORGANIZATION}` service tier `on_demand` "
        f"on {words} ({kind}): Limit {limit}, Used {used}, Requested {requested}. "
        f"Please try again in {go_duration(wait)}. "
        "Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing"
    )
    shown = dict(_quota_headers(_Shown()) if headers is None else headers)
    if type_ == "requests":
        shown = {name: value for name, value in shown.items() if not name.endswith("-tokens")}
        if kind == "RPD":
            shown["x-ratelimit-remaining-requests"] = "0"
    elif kind == "TPM":
        shown["x-ratelimit-remaining-tokens"] = str(max(0, limit - used))
    shown["retry-after"] = _plain(round(wait, 3))
    return Refusal(429, message, kind=type_, code="rate_limit_exceeded", headers=shown)


def too_large(model: str, kind: str, *, limit: int | None = None, requested: int | None = None) -> Refusal:
    """The 413 of a request that no waiting lets through, with its misleading retry-after."""
    words, type_, period, default = KINDS[kind]
    limit = default if limit is None else limit
    requested = limit + 2494 if requested is None else requested
    message = (
        f"Request too large for model `{model}` in organization `{ORGANIZATION}` service tier `on_demand` "
        f"on {words} ({kind}): Limit {limit}, Requested {requested}, please reduce your message size "
        "and try again."
    )
    wait = {"retry-after": _plain(round((requested - limit) / limit * period, 3))}
    return Refusal(413, message, kind=type_, code="rate_limit_exceeded", headers=wait)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the headers tell: requests are per day, tokens per minute."""

    requests: int = _UNLIMITED["RPD"]
    requests_left: float = _UNLIMITED["RPD"] - 1
    tokens: int = _UNLIMITED["TPM"]
    tokens_left: float = _UNLIMITED["TPM"]


def _quota_headers(shown: _Shown) -> dict[str, str]:
    day, minute = KINDS["RPD"][2], KINDS["TPM"][2]
    return {
        "x-ratelimit-limit-requests": str(shown.requests),
        "x-ratelimit-remaining-requests": str(math.floor(shown.requests_left)),
        "x-ratelimit-reset-requests": go_duration(
            (shown.requests - shown.requests_left) / shown.requests * day
        ),
        "x-ratelimit-limit-tokens": str(shown.tokens),
        "x-ratelimit-remaining-tokens": str(math.floor(shown.tokens_left)),
        "x-ratelimit-reset-tokens": go_duration((shown.tokens - shown.tokens_left) / shown.tokens * minute),
    }


class _Bucket:
    """`limit` units that come back evenly over `period` seconds."""

    def __init__(self, limit: int, period: float, now: float) -> None:
        self.limit = limit
        self.period = period
        self._level = float(limit)
        self._seen = now

    def left(self, now: float) -> float:
        self._level = min(self.limit, self._level + (now - self._seen) * self.limit / self.period)
        self._seen = now
        return self._level

    def take(self, amount: float) -> None:
        self._level = min(self.limit, self._level - amount)


@dataclass(slots=True)
class Reservation:
    """What a request holds of its model's buckets until its real usage is known."""

    buckets: Mapping[str, _Bucket]
    prompt: int
    completion: int
    headers: dict[str, str]

    def settle(self, prompt: int, completion: int) -> None:
        """Give back what was reserved and not used; cached tokens are not used."""
        unused = {
            "TPM": self.prompt - prompt + self.completion - completion,
            "TPD": self.prompt - prompt + self.completion - completion,
            "ITPM": self.prompt - prompt,
            "OTPM": self.completion - completion,
        }
        for kind, amount in unused.items():
            if kind in self.buckets:
                self.buckets[kind].take(-amount)
        self.prompt, self.completion = prompt, completion


class Limits:
    """All buckets. `table` maps a model id, or "*" for every model, to its limits by kind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._table: Mapping[str, Mapping[str, int]] = {}
        self._buckets: dict[tuple[str, str], dict[str, _Bucket]] = {}

    def configure(self, table: Mapping[str, Mapping[str, int]]) -> None:
        """New limits start full; the same ones go on."""
        if table == self._table:
            return
        self._table = table
        self._buckets = {}

    def admit(self, model: str, prompt: int, completion: int, organization: str = "") -> Reservation:
        """Reserve for one request, or raise the 429 or 413 that Groq would send."""
        now = self._clock()
        buckets = self._of(organization, model, now)
        wanted = {
            "RPM": 1,
            "RPD": 1,
            "TPM": prompt + completion,
            "TPD": prompt + completion,
            "ITPM": prompt,
            "OTPM": completion,
        }
        for kind in ("TPM", "ITPM", "OTPM"):
            if kind in buckets and wanted[kind] > buckets[kind].limit:
                raise too_large(model, kind, limit=buckets[kind].limit, requested=wanted[kind])
        for kind, bucket in buckets.items():
            left = bucket.left(now)
            if wanted[kind] > left:
                raise rate_limited(
                    model,
                    kind,
                    limit=bucket.limit,
                    used=math.ceil(bucket.limit - left),
                    requested=wanted[kind],
                    wait=(wanted[kind] - left) / bucket.limit * bucket.period,
                    headers=self._headers(buckets, now),
                )
        for kind, bucket in buckets.items():
            bucket.take(wanted[kind])
        return Reservation(buckets, prompt, completion, self._headers(buckets, now))

    def _of(self, organization: str, model: str, now: float) -> dict[str, _Bucket]:
        place = organization, model
        if place not in self._buckets:
            limits = self._table.get(model) or self._table.get("*") or {}
            self._buckets[place] = {kind: _Bucket(limits[kind], KINDS[kind][2], now) for kind in limits}
        return self._buckets[place]

    def _headers(self, buckets: Mapping[str, _Bucket], now: float) -> dict[str, str]:
        shown = _Shown()
        if "RPD" in buckets:
            shown = _Shown(buckets["RPD"].limit, buckets["RPD"].left(now), shown.tokens, shown.tokens_left)
        if "TPM" in buckets:
            bucket = buckets["TPM"]
            shown = _Shown(shown.requests, shown.requests_left, bucket.limit, bucket.left(now))
        return _quota_headers(shown)
