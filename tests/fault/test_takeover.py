"""P3: the answer outlives its worker. Real workers are killed, stalled and released."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from typing import Any

import pytest

from tests.double import expected_text
from tests.fault.conftest import Launch
from tests.support.readers import client, follow, start_turn
from tests.support.redis import RedisServer
from tests.support.sse import text_of
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.fault


@pytest.mark.timeout(180)
async def test_kill_9_under_load_loses_and_doubles_nothing(launch: Launch, upstream: DoubleProcess) -> None:
    replicas = [launch(), launch()]
    urls = [replica.url for replica in replicas]
    kills = 6
    tokens = 200

    async def turn(number: int) -> list[Any]:
        body = {"content": f"[[tokens={tokens} rate=60 seed={number}]] n{number}."}
        path = await start_turn(http, urls, f"s{number}", body, f"k{number}")
        return await follow(http, urls, path, cut=0.02)

    async def killer() -> None:
        for _ in range(kills):
            await asyncio.sleep(0.7)  # spread over the run, not waiting for anything
            victim = random.choice([pid for replica in replicas for pid in replica.workers()])
            with contextlib.suppress(ProcessLookupError):  # it may have just ended
                os.kill(victim, signal.SIGKILL)

    async with client() as http:
        killing = asyncio.create_task(killer())
        logs = await asyncio.wait_for(asyncio.gather(*(turn(n) for n in range(40))), 120)
        await killing
        ends = [events[-1].event for events in logs]
        assert ends == ["turn.completed"] * 40
        for number, events in enumerate(logs):
            assert text_of(events) == expected_text(tokens, number)
            attempts = [event.data["attempt"] for event in events if event.event == "attempt.started"]
            assert attempts == list(range(1, len(attempts) + 1))
            # Somebody has seen something of each attempt but the last: then it says so.
            for event in events:
                if event.event == "turn.restarted":
                    assert event.data["attempt"] in attempts
            resource = (
                await http.get(f"{urls[0]}/v1/sessions/s{number}/turns/{events[0].data['turn_id']}")
            ).json()
            assert (resource["text"], resource["attempt"]) == (expected_text(tokens, number), len(attempts))
            # An attempt is in the log before its call is made: never a call that is in no log.
            assert len(attempts) - 1 <= len(upstream.calls(contains=f" n{number}.")) <= len(attempts)
        assert sum(event.event == "turn.restarted" for events in logs for event in events) > 0


async def test_a_stopped_process_that_wakes_up_is_fenced(launch: Launch, redis_process: RedisServer) -> None:
    """SIGSTOP past the lease, then SIGCONT: the old writer appends nothing, seals nothing."""
    first, second = launch(workers=1), launch(workers=1)
    body = {"content": "[[tokens=200 rate=50 seed=4]]"}
    async with client() as http:
        path = await start_turn(http, [first.url], "s", body, "k")
        reading = asyncio.create_task(follow(http, [second.url], path))
        store = redis_process.client()
        [log] = list(store.scan_iter("*:log:*"))
        await eventually_async(lambda: store.xlen(log) > 8)
        [worker] = first.workers()
        os.kill(worker, signal.SIGSTOP)
        [turn] = list(store.scan_iter("*:turn:*"))
        await eventually_async(lambda: store.hget(turn, "epoch") == "2", within=10)
        os.kill(worker, signal.SIGCONT)
        events = await asyncio.wait_for(reading, 30)
        assert events[-1].event == "turn.completed"
        assert [event.event for event in events].count("turn.restarted") == 1
        assert text_of(events) == expected_text(200, 4)
        await eventually_async(lambda: '"turn.left"' in first.log() or "fenced" in first.log(), within=10)
        assert [int(i.split("-")[0]) for i, _ in store.xrange(log)] == list(range(1, len(events) + 1))


async def test_a_continuing_model_goes_on_where_it_was(
    launch: Launch, upstream: DoubleProcess, tmp_path: Any
) -> None:
    models = tmp_path / "models.toml"
    models.write_text(
        '[[models]]\nid = "openai/gpt-oss-120b"\ncontext_window = 131072\nmax_completion_tokens = 65536\n'
        'reasoning_efforts = ["medium"]\non_takeover = "continue"\n'
    )
    upstream.configure(continues=["*"])
    replica = launch(models_file=models)
    async with client() as http:
        path = await start_turn(http, [replica.url], "s", {"content": "[[tokens=200 rate=80 seed=9]]"}, "k")
        reading = asyncio.create_task(follow(http, [replica.url], path))
        await eventually_async(lambda: upstream.health()["tokens"] > 30)
        await kill_owner(replica)
        events = await asyncio.wait_for(reading, 30)
        assert "turn.restarted" not in [event.event for event in events]
        assert text_of(events) == expected_text(200, 9)
        assert [e.data["attempt"] for e in events if e.event == "attempt.started"] == [1, 2]


async def kill_owner(replica: Any) -> None:
    """Both workers, one after the other: whoever runs the turn is among them."""
    for pid in replica.workers():
        os.kill(pid, signal.SIGKILL)


async def test_nothing_shown_yet_starts_again_silently(launch: Launch, upstream: DoubleProcess) -> None:
    replica = launch()
    async with client() as http:
        body = {"content": "[[tokens=20 first_delay=5]]"}
        path = await start_turn(http, [replica.url], "s", body, "k")
        await eventually_async(lambda: upstream.calls())
        await kill_owner(replica)
        events = await asyncio.wait_for(follow(http, [replica.url], path), 30)
        assert [event.event for event in events[:3]] == ["turn.started", "attempt.started", "attempt.started"]
        assert "turn.restarted" not in [event.event for event in events]
        assert text_of(events) == expected_text(20, 0)


async def test_stop_works_while_the_owner_is_dead(launch: Launch, redis_process: RedisServer) -> None:
    first, second = launch(workers=1, lease_seconds=30), launch(workers=1, lease_seconds=30)
    async with client() as http:
        path = await start_turn(http, [first.url], "s", {"content": "[[tokens=900 rate=50]]"}, "k")
        store = redis_process.client()
        [log] = list(store.scan_iter("*:log:*"))
        await eventually_async(lambda: store.xlen(log) > 8)
        first.kill()
        begin = time.monotonic()
        stopped = (await http.post(f"{second.url}{path}/stop")).json()
        assert time.monotonic() - begin < 1
        assert stopped["state"] == "stopped"
        assert expected_text(900, 0).startswith(stopped["text"])
        events = await follow(http, [second.url], path)
        assert text_of(events) == stopped["text"]
        messages = (await http.get(f"{second.url}/v1/sessions/s/messages")).json()["data"]
        assert [message["state"] for message in messages] == ["completed", "stopped"]


async def test_a_crashed_workers_leases_lapse_at_once(launch: Launch, redis_process: RedisServer) -> None:
    """child_exit tells the store: no lease time has to pass."""
    replica = launch(lease_seconds=30)
    async with client() as http:
        path = await start_turn(http, [replica.url], "s", {"content": "[[tokens=100 rate=50]]"}, "k")
        reading = asyncio.create_task(follow(http, [replica.url], path))
        store = redis_process.client()
        [log] = list(store.scan_iter("*:log:*"))
        await eventually_async(lambda: store.xlen(log) > 8)
        store.close()
        await kill_owner(replica)
        events = await asyncio.wait_for(reading, 20)
        assert text_of(events) == expected_text(100, 0)


async def test_the_same_key_at_all_replicas_at_once_is_one_turn(
    launch: Launch, upstream: DoubleProcess
) -> None:
    replicas = [launch(lease_seconds=10), launch(lease_seconds=10)]
    async with client() as http:

        async def send(number: int) -> tuple[str, str]:
            answer = await http.post(
                f"{replicas[number % 2].url}/chat",
                json={"user_query": "[[tokens=50 rate=100]]"},
                headers={"Idempotency-Key": "same"},
            )
            assert answer.status_code == 200, answer.text
            return answer.text, answer.headers["x-turn-id"]

        answers = await asyncio.gather(*(send(n) for n in range(50)))
    assert {text for text, _ in answers} == {expected_text(50, 0)}
    assert len({turn for _, turn in answers}) == 1
    assert len(upstream.calls()) == 1


async def test_contexts_are_exact_over_many_workers(launch: Launch) -> None:
    replica = launch(workers=4)
    async with client() as http:

        async def session(number: int) -> None:
            expected = [{"role": "system", "content": "You are a helpful AI assistant."}]
            for turn in range(5):
                query = f"[[echo]] {number}.{turn}"
                answer = await http.post(
                    f"{replica.url}/chat",
                    json={"user_query": query, "session_id": f"s{number}"},
                    headers={"Connection": "close"},
                )
                expected.append({"role": "user", "content": query})
                assert json.loads(answer.text) == expected
                expected.append({"role": "assistant", "content": answer.text})

        await asyncio.gather(*(session(n) for n in range(30)))
