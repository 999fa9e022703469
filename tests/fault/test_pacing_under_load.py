"""Groq's limits under load: two replicas keep them together, use them up, and starve nobody."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fault.conftest import Launch
from tests.support.identity import bearer
from tests.support.issuer import SECRET, token
from tests.support.readers import client
from tests.support.redis import RedisServer
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.fault

# What the tests offer; `python -m tests.fault.report --only shared_limits` offers 200 clients for 60 s.
SECONDS = 15
FLOOD, SINGLES = 40, 20
LIMITS: dict[str, dict[str, int]] = {
    "tokens": {"TPM": 20_000, "RPD": 5_000},
    "requests": {"TPM": 90_000, "RPM": 300, "RPD": 5_000},
}
GROQS = {(429, "upstream_rate_limited")}


def paced(directory: Path) -> dict[str, Any]:
    """Settings under which nothing but Groq's limits holds anybody back."""
    path = directory / "models.toml"
    path.write_text(
        '[[models]]\nid = "openai/gpt-oss-120b"\ncontext_window = 131072\nmax_completion_tokens = 65536\n'
        "default_completion = 400\n"
    )
    return {
        "workers": 1,
        "auth": "jwt",
        "jwt_key": SECRET,
        "jwt_algorithms": "HS256",
        "limit_sends": "",
        "models_file": path,
        "max_running_turns_per_principal": 0,
        "max_open_streams_per_principal": 0,
        "max_attempts": 3,
    }


async def ask_all_the_time(
    http: httpx.AsyncClient,
    urls: list[str],
    who: str,
    number: int,
    until: float,
    done: Counter[str],
    refusals: set[tuple[int, str]],
) -> None:
    headers = bearer(token(who))
    loop = asyncio.get_running_loop()
    count = 0
    while loop.time() < until:
        count += 1
        answer = await http.post(
            f"{urls[(number + count) % 2]}/chat",
            headers=headers,
            json={"user_query": f"[[tokens=50 rate=200]] {number} {count}"},
        )
        if answer.status_code == 200:
            done[who] += 1
            continue
        assert (answer.status_code, answer.json()["code"]) in refusals
        await asyncio.sleep(min(2.0, float(answer.headers["retry-after"])) * random.uniform(0.5, 1))


@dataclass(frozen=True)
class Seen:
    """What Groq saw and what the clients got of it.

    `refused` are all calls that Groq answered with 429. `late` are those of them after the first
    one was known: a limit that no header tells is met once, and both replicas have a quarter of
    a second to hear of it.
    """

    calls: int
    let_in: int
    tokens: int
    refused: int
    late: int
    done: Counter[str]

    def used(self, limits: dict[str, int], seconds: float) -> float:
        """Share of what a bucket, full at first, lets in within the time."""
        share = {"RPM": self.let_in, "TPM": self.tokens}
        kind = "RPM" if "RPM" in limits else "TPM"
        return share[kind] / (limits[kind] * (1 + seconds / 60))

    def singles(self) -> list[int]:
        return [count for who, count in self.done.items() if who != "flood"]


async def ask_together(
    urls: list[str],
    upstream: DoubleProcess,
    seconds: float,
    flood: int,
    singles: int,
    refusals: set[tuple[int, str]] = GROQS,
) -> Seen:
    """`flood` clients of one principal beside `singles` with one principal each, all the time."""
    who = ["flood"] * flood + [f"single{n}" for n in range(singles)]
    done = Counter(dict.fromkeys(who, 0))
    async with client() as http:
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(
            *(
                ask_all_the_time(http, urls, name, number, until, done, refusals)
                for number, name in enumerate(who)
            )
        )
    calls = upstream.calls()
    begin = min(call["started"] for call in calls)
    let_in = [call for call in calls if call["status"] == 200 and call["started"] < begin + seconds]
    refused = [call for call in calls if call["status"] == 429]
    first = min((call["ended"] for call in refused), default=0.0)
    return Seen(
        calls=len(calls),
        let_in=len(let_in),
        tokens=sum(call["prompt_tokens"] + call["tokens"] for call in let_in),
        refused=len(refused),
        late=sum(call["started"] > first + 0.25 for call in refused),
        done=done,
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
async def test_sixty_clients_use_what_the_limit_allows_and_are_hardly_refused(
    launch: Launch, upstream: DoubleProcess, tmp_path: Path, limits: dict[str, int]
) -> None:
    upstream.configure(limits={"*": limits})
    settings = paced(tmp_path)
    urls = [launch(**settings).url, launch(**settings).url]
    seen = await ask_together(urls, upstream, SECONDS, FLOOD, SINGLES)
    assert seen.late <= 0.02 * seen.calls, f"{seen.late} of {seen.calls} calls were beyond the limit"
    assert seen.used(limits, SECONDS) >= 0.85, seen
    # Somebody with one call at a time gets a turn of it, however many others the flood has.
    fewest = min(seen.singles())
    assert fewest >= 2, seen.done
    assert fewest >= sum(seen.singles()) / SINGLES / 4, seen.done


@pytest.mark.timeout(120)
async def test_a_redis_that_is_silent_for_a_moment_lets_no_flood_through(
    launch: Launch, redis_process: RedisServer, upstream: DoubleProcess, tmp_path: Path
) -> None:
    limits = LIMITS["requests"]
    upstream.configure(limits={"*": limits})
    settings = paced(tmp_path)
    replicas = [launch(**settings), launch(**settings)]

    def limit_is_known() -> bool:
        """For two seconds: by then calls wait for their turn on both replicas."""
        calls = upstream.calls()
        refused = [call["ended"] for call in calls if call["status"] == 429]
        return bool(refused) and any(call["started"] > min(refused) + 2 for call in calls)

    async def fall_silent() -> None:
        await eventually_async(limit_is_known, SECONDS)
        redis_process.stall()
        try:
            # Whichever has asked meanwhile: one that happens to have nothing to ask does not notice.
            await eventually_async(lambda: any("governor.alone" in replica.log() for replica in replicas), 10)
        finally:
            redis_process.go_on()

    urls, refusals = [replica.url for replica in replicas], {*GROQS, (503, "store_unavailable")}
    seen, _ = await asyncio.gather(
        ask_together(urls, upstream, SECONDS, FLOOD, SINGLES, refusals), fall_silent()
    )
    # What is known goes on being kept; only how much the other replica takes of it is not.
    assert seen.late <= 0.05 * seen.calls, f"{seen.late} of {seen.calls} calls were beyond the limit"
    assert seen.used(limits, SECONDS) >= 0.7, seen
