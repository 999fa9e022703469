"""The arithmetic of a model's limits: what fits, how long to wait, how full they are now.

Pure. lua/pace.lua keeps the books for all replicas; while Redis does not answer, `reckoned` stands
in for it: from the last known levels, what refills, and what this worker has taken and given back
since. Invariant: no call goes that does not fit into that. It does not know what others take
meanwhile: n workers together may take n times what refills, until Redis is back or the provider
refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from service.store.pacing import PERIODS, Bucket, Pace, Report

# Unless the caller asks for more, an answer reserves at most a sixteenth of the minute's tokens
# that are left: scarce tokens then carry many answers at once. Never less than Groq's own
# default, or a quarter of a limit that is smaller still (8000 on the free tier).
_SHARE: Final = 16
_LEAST_COMPLETION: Final = 2048
_LEAST_SHARE: Final = 4
# Estimated prompts are up to a tenth short.
_PROMPT_MARGIN: Final = 1.1

_UNKNOWN: Final = Pace(0, False, [], 0.0, 0.0, 0.0, False, {})


def fitting(buckets: Mapping[str, Bucket], prompt: int, completion: int, *, fixed: bool) -> int:
    """The completion limit that the model's own limits leave room for."""
    tokens, output = buckets.get("tpm"), buckets.get("otpm")
    if tokens is not None:
        if not fixed:
            least = min(_LEAST_COMPLETION, tokens.limit / _LEAST_SHARE)
            completion = min(completion, int(max(least, tokens.level / _SHARE)))
        fits = int(tokens.limit - prompt * _PROMPT_MARGIN)
        completion = min(completion, fits) if fits > 0 else completion
    if output is not None:
        completion = min(completion, int(output.limit))
    return max(1, completion)


def line(buckets: Mapping[str, Bucket], calls: int, prompt: int, completion: int) -> float:
    """Seconds until there was room for this many calls with so many tokens."""
    longest = 0.0
    for kind, bucket in buckets.items():
        missing = _cost(kind, calls, prompt, completion) - bucket.level
        longest = max(longest, min(missing * bucket.period / bucket.limit, bucket.period))
    return longest


def lowered(pace: Pace | None, age: float, report: Report, kind: str, size: int, wait: float) -> Pace:
    """`pace`, `age` seconds old, with a refusal: its call fits into a limit of `size` after `wait` seconds.

    What the refused call had taken is given back after this.
    """
    pace = pace or _UNKNOWN
    known, period = pace.buckets.get(kind), PERIODS[kind] / 1000
    since = age * size / period + _cost(kind, report.requests, report.prompt, report.completion)
    level = -wait * size / period - since
    if known is not None and known.limit == size:
        level = min(level, known.level)
    return replace(pace, buckets={**pace.buckets, kind: Bucket(size, level, period)})


def reckoned(
    pace: Pace | None, age: float, report: Report, asks: Sequence[tuple[int, int, float]], blocked: float
) -> Pace:
    """An estimate of Redis's reply: `pace` is the last one, `age` seconds old; `report` was not sent since.

    `blocked` are the seconds for which the provider refuses calls, by what limit is unknown.
    """
    pace = pace or _UNKNOWN
    blocked = max(0.0, blocked, pace.blocked - age)
    back = report.requests, report.prompt, report.completion
    buckets = {
        kind: replace(
            bucket,
            level=min(bucket.limit, bucket.level + age * bucket.limit / bucket.period + _cost(kind, *back)),
        )
        for kind, bucket in pace.buckets.items()
    }
    granted, wait = 0, 0.0
    for prompt, completion, _ in asks:
        # A call that is larger than a limit does not wait: the provider refuses it.
        too_large = any(_cost(kind, 1, prompt, completion) > one.limit for kind, one in buckets.items())
        wait = max(blocked, 0.0 if too_large else line(buckets, 1, prompt, completion))
        if wait > 0:
            break
        granted += 1
        buckets = {
            kind: replace(bucket, level=bucket.level - _cost(kind, 1, prompt, completion))
            for kind, bucket in buckets.items()
        }
    return Pace(
        now=0,
        known=pace.known,
        granted=[(-1.0, 0.0)] * granted,
        wait=wait,
        best=blocked,
        blocked=blocked,
        roomy=False,
        buckets=buckets,
    )


def _cost(kind: str, calls: int, prompt: int, completion: int) -> int:
    """What calls take together of a limit of this kind."""
    if kind in ("rpm", "rpd"):
        return calls
    return {"itpm": prompt, "otpm": completion}.get(kind, prompt + completion)
