"""Readers for fault tests: they come back until the turn is over, and check what they read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import httpx

from tests.support.sse import Frame, check_gapless, frames

TERMINAL = ("turn.completed", "turn.stopped", "turn.failed")


async def start_turn(
    client: httpx.AsyncClient, urls: Sequence[str], session: str, body: dict[str, Any], key: str
) -> str:
    """Start a turn at any replica, again and again until one takes it; gives its path."""
    while True:
        url = random.choice(urls)
        try:
            answer = await client.post(
                f"{url}/v1/sessions/{session}/turns",
                json=body,
                headers={"Prefer": "respond-async", "Idempotency-Key": key},
            )
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if answer.status_code == 202:
            return answer.headers["location"]
        assert answer.status_code in (429, 502, 503), answer.text
        await asyncio.sleep(0.05)


async def follow(
    client: httpx.AsyncClient, urls: Sequence[str], path: str, *, cut: float = 0.0
) -> list[Frame]:
    """Read a turn to its end, cut with probability `cut` per event and whenever a worker dies."""
    events: list[Frame] = []
    while not events or events[-1].event not in TERMINAL:
        url = random.choice(urls)
        headers = {"Last-Event-ID": str(events[-1].id)} if events else {}
        try:
            async with client.stream("GET", f"{url}{path}/events", headers=headers) as answer:
                if answer.status_code != 200:
                    assert answer.status_code in (429, 502, 503), (answer.status_code, await answer.aread())
                    await asyncio.sleep(0.05)
                    continue
                async for frame in frames(answer):
                    events.append(frame)
                    if cut and random.random() < cut:
                        break
        except httpx.TransportError:
            await asyncio.sleep(0.02)
    check_gapless(events)
    return events


def client() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    return httpx.AsyncClient(timeout=httpx.Timeout(30, pool=60), limits=limits, verify=False)
