"""A caller known to be over its limit: refused from memory, before its body is read, and cheaply."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from prometheus_client import REGISTRY

from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.needed import program
from tests.support.nginx import Nginx
from tests.support.service import Served

WINDOWS = pytest.mark.parametrize("window", ["fixed", "moving"])
LARGE = "word " * 60_000  # 300 KB
# One refusal in Redis and what else a worker does meanwhile; the body is 300 KB.
FEW_BYTES = 60_000


async def ask(served: Served, words: str = "[[tokens=2]]", key: str = "", **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await served.client.post("/chat", json={"user_query": words, **body}, headers=headers)


def code(answer: httpx.Response) -> str:
    return str(answer.json()["code"])


def commands() -> float:
    """What this process has asked Redis for in the name of requests."""
    operations = (
        "look",
        "enter",
        "limit_fixed",
        "limit_moving",
        "own",
        "reserve",
        "begin",
        "get_session",
        "known",
        "refund",
    )
    found = [
        REGISTRY.get_sample_value("chat_redis_operations_total", {"operation": one}) for one in operations
    ]
    return sum(one or 0 for one in found)


def head(served: Served, path: str, length: int, *lines: str) -> bytes:
    host = served.url.removeprefix("http://")
    given = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        *lines,
        "",
        "",
    ]
    return "\r\n".join(given).encode()


@contextlib.asynccontextmanager
async def connected(served: Served) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    port = int(served.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def status(reader: asyncio.StreamReader) -> int:
    """Of the next response, which is read to its end."""
    async with asyncio.timeout(10):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        await reader.readexactly(length)
    return int(lines[0].split()[1])


BODIES: dict[str, dict[str, Any]] = {
    "/chat": {"user_query": "hi"},
    "/chat-with-history": {"user_query": "hi"},
    "/v1/sessions/s/turns": {"content": "hi"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/openai/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/api/chat": {
        "id": "s",
        "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}],
    },
}


@pytest.mark.parametrize("path", BODIES)
async def test_the_refusal_comes_before_the_body_and_asks_redis_for_nothing(start: Start, path: str) -> None:
    async with start(limit_sends="1/minute") as served:
        await ask(served)
        assert code(await ask(served)) == "rate_limited"
        before = commands()
        for _ in range(5):
            async with connected(served) as (reader, writer):
                writer.write(head(served, path, 300_000))  # and no byte of the body
                assert await status(reader) == 429
        assert commands() == before


async def test_reads_are_refused_from_memory_too(start: Start) -> None:
    async with start(limit_reads="1/minute") as served:
        answers = [await served.client.get("/v1/sessions") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        before = commands()
        refused = await served.client.get("/v1/sessions/s")
        assert (refused.status_code, refused.headers["ratelimit-remaining"]) == (429, "0")
        assert 58 <= int(refused.headers["retry-after"]) <= 60
        assert commands() == before


@WINDOWS
async def test_what_is_remembered_ends_with_the_window(start: Start, window: str) -> None:
    async with start(limit_sends="1/3 seconds", limit_window=window) as served:
        for _ in range(2):
            assert (await ask(served)).status_code == 200
            assert code(await ask(served)) == "rate_limited"
            before = commands()
            refused = await ask(served)
            assert (code(refused), commands()) == ("rate_limited", before)
            await asyncio.sleep(int(refused.headers["retry-after"]))  # what was told is what is to be true


async def test_another_key_of_the_same_owner_has_its_own_limit(start: Start) -> None:
    async with start(auth="keys") as served:
        narrow = bearer(await make_key(served, owner="team", limit_sends="1/minute"))
        wide = bearer(await make_key(served, owner="team", limit_sends="9/minute"))
        body = {"user_query": "[[tokens=2]]"}
        got = [
            (await served.client.post("/chat", json=body, headers=caller)).status_code
            for caller in (narrow, narrow, narrow, wide, narrow, wide)
        ]
        assert got == [200, 429, 429, 200, 429, 200]


@WINDOWS
async def test_a_repeat_of_a_known_send_finds_its_turn_though_its_caller_is_over_the_limit(
    start: Start, window: str
) -> None:
    async with start(limit_sends="2/minute", limit_reads="9/minute", limit_window=window) as served:
        first = await ask(served, key="k")
        other = await ask(served, key="s", session_id="s")
        assert [code(await ask(served)) for _ in range(2)] == ["rate_limited"] * 2
        for key, answer, body in (("k", first, {}), ("s", other, {"session_id": "s"})):
            repeat = await ask(served, key=key, **body)
            assert (repeat.status_code, repeat.text) == (200, answer.text)
            assert repeat.headers["x-turn-id"] == answer.headers["x-turn-id"]
        assert code(await ask(served, key="k3")) == "rate_limited"
        assert code(await ask(served, "other words", key="k")) == "idempotency_mismatch"


async def test_a_large_repeat_finds_its_turn_and_any_other_large_body_is_not_read(start: Start) -> None:
    async with start(limit_sends="2/minute", limit_reads="9/minute") as served:
        body = {"content": "[[say=large]]" + LARGE[:40_000]}
        path = "/v1/sessions/s/turns"
        first = await served.client.post(path, json=body, headers={"Idempotency-Key": "k"})
        whole = await ask(served, "[[say=large]]" + LARGE[:40_000], key="k2")
        assert (first.status_code, whole.text) == (200, "large")
        assert code(await ask(served)) == "rate_limited"
        again = await served.client.post(path, json=body, headers={"Idempotency-Key": "k"})
        assert again.headers["x-turn-id"] == first.headers["x-turn-id"]
        assert (await ask(served, "[[say=large]]" + LARGE[:40_000], key="k2")).text == "large"
        async with connected(served) as (reader, writer):
            writer.write(head(served, path, 300_000, "Idempotency-Key: unknown"))
            assert await status(reader) == 429


async def test_looking_for_repeats_costs_reads_and_ends_with_them(start: Start) -> None:
    async with start(limit_sends="1/minute", limit_reads="3/minute") as served:
        await ask(served)
        assert code(await ask(served)) == "rate_limited"
        told = [(await ask(served, key=f"k{i}")).headers["ratelimit-limit"] for i in range(4)]
        assert told == ["1", "1", "1", "3"]  # the limit that refused
        before = commands()
        assert [code(await ask(served, key=f"l{i}")) for i in range(5)] == ["rate_limited"] * 5
        assert commands() == before


@pytest.mark.parametrize("session", [None, "s"])
@pytest.mark.parametrize(
    "bound",
    [{"limit_sends": "1/minute"}, {"max_running_turns_per_principal": 1}, {"budget_tokens_per_day": 9_000}],
    ids=lambda bound: next(iter(bound)),
)
async def test_no_refusal_takes_a_large_body_to_redis(
    start: Start, store: redis.Redis, bound: dict[str, Any], session: str | None
) -> None:
    async with start(**bound) as served:
        running = await served.client.post(
            "/v1/sessions/r/turns",
            json={"content": "[[tokens=2000 rate=20]]"},
            headers={"Prefer": "respond-async"},
        )
        assert running.status_code == 202
        before = int(store.info("stats")["total_net_input_bytes"])
        refused = await ask(served, LARGE, **({"session_id": session} if session else {}))
        assert refused.status_code == 429, refused.text
        assert int(store.info("stats")["total_net_input_bytes"]) - before < FEW_BYTES
        await served.client.post(f"{running.headers['location']}/stop")


async def test_a_refusal_from_memory_takes_less_than_a_millisecond_of_the_processor(start: Start) -> None:
    async with start(limit_sends="1/minute", auth="keys") as served:
        key = bearer(await make_key(served))
        for expected in (200, 429):
            answer = await served.client.post("/chat", json={"user_query": "[[tokens=2]]"}, headers=key)
            assert answer.status_code == expected
        await served.app.state.edge.engine.idle()
        statuses: list[int] = []

        async def receive() -> Any:
            raise AssertionError("the body was read")

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        took = []
        for _ in range(200):
            scope = {
                "type": "http",
                "http_version": "1.1",
                "method": "POST",
                "scheme": "http",
                "path": "/chat",
                "raw_path": b"/chat",
                "query_string": b"",
                "root_path": "",
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 80),
                "state": {},
                "headers": [
                    (b"authorization", key["Authorization"].encode()),
                    (b"host", b"localhost"),
                    (b"content-type", b"application/json"),
                    (b"content-length", b"332000"),
                ],
            }
            begin = time.thread_time()
            await served.app(scope, receive, send)
            took.append(time.thread_time() - begin)
        assert statuses == [429] * 200
        # A busy machine makes some of them dearer, none cheaper: the fastest tenth is what it takes.
        assert sorted(took)[20] < 0.001


async def test_a_connection_goes_on_after_a_refusal_that_left_the_body_unread(start: Start) -> None:
    async with start(limit_sends="1/minute") as served:
        await ask(served)
        assert code(await ask(served)) == "rate_limited"
        body = json.dumps({"user_query": LARGE}).encode()
        async with connected(served) as (reader, writer):
            for _ in range(3):
                writer.write(head(served, "/chat", len(body)))
                assert await status(reader) == 429
                writer.write(body)
                writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert await status(reader) == 200


_NODE = """
const [url, count] = [process.argv[1], Number(process.argv[2])]
const body = JSON.stringify({user_query: "word ".repeat(60000)})
const seen = []
for (let i = 0; i < count; i++) {
  const answer = await fetch(url + "/chat",
    {method: "POST", headers: {"content-type": "application/json"}, body})
  seen.push([answer.status, (await answer.json()).code])
}
seen.push([(await fetch(url + "/livez")).status, ""])
console.log(JSON.stringify(seen))
"""


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "nginx"])
async def test_clients_see_the_refusal_of_a_body_that_nobody_reads(
    start: Start, tmp_path: Path, proxied: bool
) -> None:
    node = program("node")
    async with start(limit_sends="1/minute") as served, httpx.AsyncClient(timeout=10) as client:
        url, nginx = served.url, None
        if proxied:
            program("nginx")
            nginx = await asyncio.to_thread(Nginx, tmp_path, [int(served.url.rpartition(":")[2])])
            url = nginx.url
        try:
            body = {"user_query": LARGE}
            await ask(served)
            assert code(await ask(served)) == "rate_limited"
            for _ in range(5):  # one connection
                answer = await client.post(f"{url}/chat", json=body)
                assert (answer.status_code, code(answer)) == (429, "rate_limited")
            assert await asyncio.to_thread(_by_standard_library, url, body) == [429] * 5 + [200]
            done = await asyncio.to_thread(
                subprocess.run,
                [node, "--input-type=module", "-e", _NODE, url, "5"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout) == [[429, "rate_limited"]] * 5 + [[200, ""]]
        finally:
            if nginx is not None:
                await asyncio.to_thread(nginx.close)


def _by_standard_library(url: str, body: dict[str, Any]) -> list[int]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    statuses = []
    with contextlib.closing(connection):
        for _ in range(5):
            connection.request("POST", "/chat", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.request("GET", "/livez")
        statuses.append(connection.getresponse().status)
    return statuses
