"""Logs of a run in which everything goes wrong: one story per request and turn, and no secret."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fault.conftest import Launch
from tests.support.processes import Replica
from tests.support.readers import client, follow
from tests.support.redis import RedisServer
from tests.support.waiting import eventually, eventually_async

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

QUESTION, ANSWER, PROMPT, TITLE = "canary-question", "canary-answer", "canary-prompt", "canary-title"
SECRETS = {
    "GROQ_API_KEY": "gsk_canary0123456789abcdef",
    "secret": "canary-secret-" + "x" * 32,
    "metrics_token": "canary-metrics-token",
}
BEARER = "sk-canary-bearer-0123456789"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def lines(replicas: list[Replica]) -> list[dict[str, Any]]:
    """Every line of every process; each has to be JSON. A line that is being written is none yet."""
    whole = [replica.log().rpartition("\n")[0] for replica in replicas]
    return [json.loads(line) for log in whole for line in log.splitlines()]


def ended(replicas: list[Replica], turn: str) -> list[dict[str, Any]]:
    """All lines, once the turn's last is among them."""
    found = lines(replicas)
    return found if any(line["event"] == "turn.ended" and line.get("turn") == turn for line in found) else []


async def everything_goes_wrong(
    http: httpx.AsyncClient, urls: list[str], replicas: list[Replica], redis: RedisServer
) -> None:
    async def send(number: int, directives: str) -> httpx.Response | None:
        with contextlib.suppress(httpx.TransportError):
            return await http.post(
                f"{urls[number % 2]}/v1/sessions/s{number}/turns",
                json={"content": f"[[{directives}]] {QUESTION}"},
                headers={"Prefer": "respond-async"},
            )
        return None

    faults = (
        "400",
        "401",
        "413",
        "429",
        "500",
        "502",
        "cut",
        "garbage",
        "error_event",
        "drop",
        "eof",
        "empty",
    )
    for number, fault in enumerate(faults):
        await send(number, f"fault={fault} times=1 say={ANSWER} {number}")
    for path, body in (
        ("/chat", {"user_query": f"[[tokens=20 rate=0]] {QUESTION}", "system_prompt": PROMPT}),
        ("/chat", {"user_query": ""}),
        ("/chat", {"user_query": [QUESTION]}),
        ("/v1/sessions", {"title": TITLE, "system_prompt": PROMPT}),
        ("/v1/sessions/bad id/turns", {"content": QUESTION}),
        (f"/v1/models/{QUESTION}", {}),
        (f"/{QUESTION}?ticket={BEARER}", {}),
    ):
        await http.post(f"{urls[0]}{path}", json=body, headers={"X-Request-Id": "asked.1"})
    await http.post(f"{urls[0]}/chat", content=f'{{"user_query": "{QUESTION}'.encode())
    running = [
        answer.headers["location"]
        for number in range(20, 26)
        if (answer := await send(number, "tokens=200 rate=40")) is not None
    ]
    following = [asyncio.create_task(follow(http, urls, path)) for path in running]
    await eventually_async(lambda: any(replica.workers() for replica in replicas))
    for pid in replicas[0].workers():
        os.kill(pid, signal.SIGKILL)
    await http.post(f"{urls[1]}{running[0]}/stop")
    redis.stall()
    await send(30, "tokens=3")
    redis.go_on()
    await asyncio.wait_for(asyncio.gather(*following), 90)


async def test_a_run_full_of_faults_tells_each_story_once_and_no_secret(
    launch: Launch, redis_process: RedisServer, tmp_path: Path
) -> None:
    replicas = [launch(log_level="debug", drain_seconds=5, **SECRETS) for _ in range(2)]
    urls = [replica.url for replica in replicas]
    async with client() as http:
        http.headers["Authorization"] = f"Bearer {BEARER}"
        http.headers["traceparent"] = f"00-{TRACE}-00f067aa0ba902b7-01"
        await everything_goes_wrong(http, urls, replicas, redis_process)
        last = await http.post(
            f"{urls[1]}/v1/sessions/last/turns",
            json={"content": "[[tokens=3]]"},
            headers={"X-Request-Id": "the.last", "Prefer": "respond-async"},
        )
        turn = last.headers["x-turn-id"]
        await follow(http, urls, f"/v1/sessions/last/turns/{turn}")
    replicas[0].signal(signal.SIGTERM)
    await asyncio.to_thread(replicas[0].wait, 30)

    found = await asyncio.to_thread(eventually, lambda: ended(replicas, turn), 15)
    text = "\n".join(replica.log() for replica in replicas)
    words = (QUESTION, ANSWER, PROMPT, TITLE, BEARER, *SECRETS.values())
    assert [word for word in words if word in text] == []

    for line in found:
        assert {"event", "level", "timestamp", "replica", "worker"} <= line.keys(), line
    [request] = [
        line for line in found if line.get("request") == "the.last" and line["event"] == "request.ended"
    ]
    assert (
        request
        | {
            "method": "POST",
            "route": "/v1/sessions/{session_id}/turns",
            "status": 202,
            "outcome": "ended",
            "session": "last",
            "turn": turn,
            "trace": TRACE,
            "level": "info",
        }
        == request
    )
    assert request["principal"]
    assert 0 < request["seconds"] < 60
    [story] = [line for line in found if line["event"] == "turn.ended" and line["turn"] == turn]
    assert (
        story
        | {
            "request": "the.last",
            "session": "last",
            "trace": TRACE,
            "outcome": "completed",
            "attempt": 1,
            "output_tokens": 3,
            "principal": request["principal"],
            "finish_reason": "stop",
            "level": "info",
        }
        == story
    )
    assert 0 <= story["first_token_seconds"] <= story["seconds"] < 60
    assert story["model"]

    stories = Counter(line["turn"] for line in found if line["event"] == "turn.ended")
    assert len(stories) >= 15
    assert set(stories.values()) == {1}
    assert "asked.1" in {line.get("request") for line in found if line["event"] == "request.ended"}
    taken = [line for line in found if line["event"] == "turn.taken_over"]
    assert taken
    assert {line["level"] for line in taken} == {"warning"}
    assert {line["level"] for line in found if line["event"] == "worker.died"} == {"warning"}
