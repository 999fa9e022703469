"""Groq's limits under load: two replicas keep them together, use them up, and starve nobody."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fault.conftest import Launch
from tests.support.identity import bearer
from tests.support.issuer import SECRET, token
from tests.support.readers import client
from tests.support.upstream import DoubleProcess

pytestmark = pytest.mark.fault

SECONDS = 15
FLOOD, SINGLES = 40, 20


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(
        '[[models]]\nid = "openai/gpt-oss-120b"\ncontext_window = 131072\nmax_completion_tokens = 65536\n'
        "default_completion = 400\n"
    )
    return path


async def ask_all_the_time(
    http: httpx.AsyncClient, urls: list[str], who: str, number: int, until: float, done: Counter[str]
) -> None:
    headers = bearer(token(who))
    loop = asyncio.get_running_loop()
    count = 0
    while loop.time() < until:
        count += 1
        answer = await http.post(
            f"{urls[(number + count) % 2]}/chat", headers=headers,
            json={"user_query": f"[[tokens=50 rate=200]] {number} {count}"},
        )  # fmt: skip
        if answer.status_code == 200:
            done[who] += 1
            continue
        assert (answer.status_code, answer.json()["code"]) == (429, "upstream_rate_limited")
        await asyncio.sleep(min(2.0, float(answer.headers["retry-after"])) * random.uniform(0.5, 1))


def seen(calls: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Calls let in within the time, tokens that they used, and refusals after the first one.

    A limit that no header tells is met once: both replicas have a quarter of a second to hear of it.
    """
    begin = min(call["started"] for call in calls)
    let_in = [call for call in calls if call["status"] == 200 and call["started"] < begin + SECONDS]
    refused = [call for call in calls if call["status"] == 429]
    first = min((call["ended"] for call in refused), default=0.0)
    late = sum(call["started"] > first + 0.25 for call in refused)
    return len(let_in), sum(call["prompt_tokens"] + call["tokens"] for call in let_in), late


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "limits",
    [{"TPM": 20_000, "RPD": 5_000}, {"TPM": 90_000, "RPM": 300, "RPD": 5_000}],
    ids=["tokens", "requests"],
)
async def test_sixty_clients_use_what_the_limit_allows_and_are_hardly_refused(
    launch: Launch, upstream: DoubleProcess, models: Path, limits: dict[str, int]
) -> None:
    upstream.configure(limits={"*": limits})
    settings = {
        "workers": 1, "auth": "jwt", "jwt_key": SECRET, "limit_sends": "", "models_file": models,
        "max_running_turns_per_principal": 0, "max_open_streams_per_principal": 0, "max_attempts": 3,
    }  # fmt: skip
    urls = [launch(**settings).url, launch(**settings).url]
    done: Counter[str] = Counter()
    who = ["flood"] * FLOOD + [f"single{n}" for n in range(SINGLES)]
    async with client() as http:
        until = asyncio.get_running_loop().time() + SECONDS
        await asyncio.gather(
            *(ask_all_the_time(http, urls, name, number, until, done) for number, name in enumerate(who))
        )
    calls = upstream.calls()
    let_in, tokens, late = seen(calls)
    assert late <= 0.02 * len(calls), f"{late} of {len(calls)} calls were beyond the limit"
    if "RPM" in limits:
        allowed = limits["RPM"] * (1 + SECONDS / 60)
        assert let_in >= 0.85 * allowed, (let_in, allowed)
    else:
        allowed = limits["TPM"] * (1 + SECONDS / 60)
        assert tokens >= 0.85 * allowed, (tokens, allowed)
    # Somebody with one call at a time gets a turn of it, however many others the flood has.
    fewest = min(done[f"single{n}"] for n in range(SINGLES))
    assert fewest >= 2, done
    mean = sum(done[f"single{n}"] for n in range(SINGLES)) / SINGLES
    assert fewest >= mean / 4, done
