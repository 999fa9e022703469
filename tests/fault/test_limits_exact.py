"""P7 for requests: two replicas, several workers, and each key gets exactly its limit.

The figures that are published (4 workers x 2 replicas, 1 000 sends per key) come from the same
test with LIMITS_WORKERS=4 LIMITS_SENDS=1000.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.fault.conftest import Launch
from tests.support.identity import bearer
from tests.support.readers import client
from tests.support.redis import RedisServer
from tests.support.running import call

# Where Redis is silent for 0.25 s each worker counts alone: nothing else may keep the cores then.
pytestmark = [pytest.mark.fault, pytest.mark.alone]

WORKERS = int(os.environ.get("LIMITS_WORKERS", "2"))
SENDS = int(os.environ.get("LIMITS_SENDS", "400"))
LIMIT = 100


@pytest.mark.timeout(180)
@pytest.mark.parametrize("window", ["fixed", "moving"])
async def test_two_keys_get_exactly_their_limit_from_all_workers_together(
    launch: Launch, redis_process: RedisServer, tmp_path: Path, window: str
) -> None:
    settings = {
        "auth": "keys",
        "limit_sends": f"{LIMIT}/minute",
        "limit_window": window,
        "workers": WORKERS,
        "max_running_turns_per_principal": 0,
    }
    replicas = [launch(**settings) for _ in range(2)]
    keys = [
        call("keys", "create", "--name", name, cwd=tmp_path, CHAT_REDIS_URL=redis_process.url).stdout.strip()
        for name in ("one", "two")
    ]
    async with client() as http:
        sends = [(key, replica.url) for key in keys for replica in replicas for _ in range(SENDS // 2)]
        random.shuffle(sends)
        begin = time.monotonic()
        answers = await asyncio.gather(*(_send(http, key, url) for key, url in sends))
        took = time.monotonic() - begin
        assert took < 55, f"{took:.0f} s: the window has moved on, so that the figures say nothing"
        statuses = Counter((key, status) for key, status, _ in answers)
        assert statuses == {
            (key, status): count for key in keys for status, count in ((200, LIMIT), (429, SENDS - LIMIT))
        }
        assert all(1 <= wait <= 60 for _, status, wait in answers if status == 429)


async def _send(http: httpx.AsyncClient, key: str, url: str) -> tuple[str, int, int]:
    answer = await http.post(f"{url}/chat", json={"user_query": "[[tokens=1]]"}, headers=bearer(key))
    return key, answer.status_code, int(answer.headers.get("retry-after", 0))
