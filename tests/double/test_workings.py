"""Pace, records, limits and the process of the double.

Every test talks HTTP to a real server. Waits are bounded by the double itself (`calls?wait=`).
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import groq
import httpx
import pytest

from tests.double import Double, create_double, expected_tokens, faults, running
from tests.double.asking import (
    CHAT,
    MODEL,
    QWEN,
    ask,
    create,
    events,
    last_call,
    raw,
    user,
)
from tests.double.limits import Limits, go_duration
from tests.double.refusals import Refusal
from tests.support.running import ROOT
from tests.support.waiting import eventually


class TestPace:
    async def test_tokens_keep_to_the_schedule(self, client: groq.AsyncGroq) -> None:
        begun = time.monotonic()
        await ask(client, "[[tokens=41 rate=100 first_delay=0.1]]")
        assert 0.5 <= time.monotonic() - begun < 1.5

    async def test_several_tokens_share_a_write(self, http: httpx.AsyncClient) -> None:
        body = {"model": MODEL, "stream": True, "messages": user("[[tokens=20 rate=50 chunk=5]]")}
        async with http.stream("POST", CHAT, json=body) as response:
            reads = [part.count(b'"content"') async for part in response.aiter_raw()]
        assert 5 in reads
        assert sum(reads) == 21

    async def test_a_client_that_leaves_is_noticed_at_once(
        self, client: groq.AsyncGroq, http: httpx.AsyncClient
    ) -> None:
        chunks = await create(client, user("[[tokens=1000 rate=4]] leaving"), stream=True)
        async for chunk in chunks:
            if chunk.choices[0].delta.content == expected_tokens(3)[2]:
                break
        left = time.time()
        await chunks.close()
        call = await last_call(http, "leaving")
        assert call["end"] == "client_closed"
        assert 3 <= call["tokens"] <= 5
        assert call["ended"] - left < 0.5


class TestRecords:
    async def test_a_call_is_recorded_with_what_was_asked(
        self, client: groq.AsyncGroq, http: httpx.AsyncClient
    ) -> None:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await ask(client, "[[tokens=5]] record me", temperature=0.5, extra_headers={"traceparent": parent})
        call = await last_call(http, "record me")
        assert call["messages"] == user("[[tokens=5]] record me")
        assert call["params"] == {"max_completion_tokens": 10_000, "stream": True, "temperature": 0.5}
        assert call["headers"]["traceparent"] == parent
        assert "authorization" not in call["headers"]
        assert (call["model"], call["end"], call["tokens"], call["status"]) == (MODEL, "finished", 5, 200)
        assert call["started"] <= call["first_token"] <= call["ended"]
        assert (await http.get(f"/_double/calls/{call['number']}")).json() == call

    async def test_refused_calls_are_recorded_too(self, http: httpx.AsyncClient) -> None:
        await raw(http, "refuse me", n=3)
        call = await last_call(http, "refuse me")
        assert (call["end"], call["status"]) == ("refused", 400)

    async def test_old_records_make_room(self) -> None:
        double = create_double(rate=0)
        double.calls._kept = 3
        with running(double) as url:
            async with httpx.AsyncClient(base_url=url) as http:
                for number in range(5):
                    await raw(http, f"[[say=x]] {number}")
                assert [call["number"] for call in (await http.get("/_double/calls")).json()["calls"]] == [
                    3,
                    4,
                    5,
                ]
                assert (await http.get("/_double/health")).json()["calls"] == 5
                await http.delete("/_double/calls")
                assert (await http.get("/_double/calls")).json() == {"calls": []}

    async def test_settings_change_while_serving_and_wrong_ones_do_not(self, http: httpx.AsyncClient) -> None:
        changed = await http.post("/_double/settings", json={"rate": 9, "models": ["my/model", MODEL]})
        assert changed.json()["rate"] == 9
        assert (await raw(http, "[[say=x]]", model="my/model")).status_code == 200
        assert (await raw(http, "x", model=QWEN)).status_code == 404
        wishes: list[object] = [
            {"rate": -1},
            {"speed": 1},
            {"limits": {"*": {"X": 1}}},
            {"require_key": 1},
            [],
        ]
        for wrong in wishes:
            assert (await http.post("/_double/settings", json=wrong)).status_code == 400


class TestLimits:
    def test_durations_are_written_as_go_does(self) -> None:
        seconds = [179.56, 0.185, 5011.0, 0.659999999, 7.66, 60, 0, 0.000012]
        written = ["2m59.56s", "185ms", "1h23m31s", "659.999999ms", "7.66s", "1m0s", "0s", "12µs"]
        assert [go_duration(item) for item in seconds] == written

    def test_buckets_refill_continuously_and_unused_tokens_come_back(self) -> None:
        now = 0.0
        limits = Limits(clock=lambda: now)
        limits.configure({"*": {"TPM": 6000}})
        reservation = limits.admit("m", 1000, 4000)
        assert reservation.headers["x-ratelimit-remaining-tokens"] == "1000"
        with pytest.raises(Refusal, match=r"Used 5000, Requested 1500\. Please try again in 5s\.") as caught:
            limits.admit("m", 500, 1000)
        assert (caught.value.status, caught.value.headers["retry-after"]) == (429, "5")
        now = 5.0
        limits.admit("m", 500, 1000)
        reservation.settle(1000, 100)
        limits.admit("m", 900, 3000)

    def test_a_request_above_a_minutes_tokens_is_too_large(self) -> None:
        limits = Limits()
        limits.configure({"m": {"TPM": 8000}})
        with pytest.raises(Refusal, match=r"Request too large .* Limit 8000, Requested 10494") as caught:
            limits.admit("m", 494, 10_000)
        assert caught.value.status == 413
        assert limits.admit("another", 494, 10_000)

    async def test_limits_are_per_model_and_answer_429(self, client: groq.AsyncGroq, double: Double) -> None:
        double.configure(double.settings.changed({"limits": {MODEL: {"RPM": 2, "RPD": 100}}}))
        for _ in range(2):
            await ask(client, "[[say=x]]")
        with pytest.raises(groq.RateLimitError) as caught:
            await ask(client, "[[say=x]]")
        assert "on requests per minute (RPM): Limit 2, Used 2, Requested 1." in str(caught.value)
        headers = caught.value.response.headers
        assert headers["x-ratelimit-limit-requests"] == "100"
        assert "x-ratelimit-remaining-tokens" not in headers
        assert await ask(client, "[[say=x]]", model=QWEN) == "x"


def start_process(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.double", *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("double ready on "), line
    return process, line.split()[3]


class TestTheProcess:
    async def test_it_ends_quickly_and_cleanly_on_sigterm_with_streams_open(self) -> None:
        process, url = start_process("--port", "0")
        body = {"model": MODEL, "stream": True, "messages": user("[[tokens=2000 rate=5]]")}
        with process:
            async with httpx.AsyncClient(base_url=url) as http, http.stream("POST", CHAT, json=body):
                process.send_signal(signal.SIGTERM)
                assert process.wait(3) == 0

    async def test_it_serves_on_a_unix_socket_and_removes_it(self, tmp_path: Path) -> None:
        path = tmp_path / "double.sock"
        process, _ = start_process("--uds", str(path), "--rate", "0")
        with process:
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(base_url="http://double", transport=transport) as http:
                assert len(events(await raw(http, "[[tokens=5]]"))) == 8
            process.terminate()
            assert process.wait(3) == 0
        assert not path.exists()

    def test_it_ends_with_a_parent_that_was_killed(self, tmp_path: Path) -> None:
        path = tmp_path / "double.sock"
        parent = (
            "import os, signal, subprocess, sys\n"
            f"command = [sys.executable, '-m', 'tests.double', '--uds', {str(path)!r}]\n"
            "command += ['--parent-pid', str(os.getpid())]\n"
            "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
            "child.stdout.readline()\n"
            "print(child.pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, timeout=20, cwd=ROOT
        )
        eventually(lambda: not path.exists(), what=f"the end of the orphan {done.stdout.strip()}")


def test_every_fault_is_described() -> None:
    assert faults.__doc__ is not None
    words = set(re.findall(r"[a-z0-9_]+", faults.__doc__))
    assert {kind for kind in faults.KINDS if kind not in words} == set()
